package rabbitbroker

import (
	"encoding/base64"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

// placeOf is the place in the log that a message tells of.
func placeOf(headers amqp.Table) (c pulse.Cursor, ok bool) {
	position, _ := headers[cloudevents.PropertyPosition].(string)
	commitment, _ := headers[cloudevents.PropertyCommitment].(string)
	n, err := strconv.ParseInt(position, 10, 64)
	if err != nil || len(commitment) != base64.StdEncoding.EncodedLen(len(c.Commitment)) {
		return c, false
	}
	c.Position = pulse.Position(n)
	var sum [33]byte // what 44 characters without padding would be
	got, err := base64.StdEncoding.Decode(sum[:], []byte(commitment))
	return c, err == nil && got == copy(c.Commitment[:], sum[:got])
}
