package rabbitbroker_test

import (
	"iter"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse/internal/brokerworld"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// often is the pause between changes under load: there are some 400 events in a second.
const often = 20 * time.Millisecond

// newWorld makes a world that runs until the end of the test.
func newWorld(t *testing.T, b *rabbitbroker.Broker) *brokerworld.World {
	t.Helper()
	return brokerworld.New(t, "rabbit", b.Publisher(), b.Source())
}

// bodies takes what is in a queue of another program, by a plain client.
func bodies(t *testing.T, ch *amqp.Channel, queue string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			d, ok, err := ch.Get(queue, true)
			if err != nil {
				t.Fatal(err)
			}
			if !ok || !yield(d.Body) {
				return
			}
		}
	}
}
