package bench

import (
	"context"

	"github.com/edupulse-live/pulse"
)

// Outside is a sort of broker that runs elsewhere, to be measured in place of the embedded one.
type Outside struct {
	Name string // of the server, for people

	// Client publishes n messages like those of envs as fast as the broker's client can without Pulse, to a place of their own that it
	// removes again, and returns how many these were in a second. The messages are ready before the time begins to count.
	Client func(ctx context.Context, envs []pulse.Envelope, n int) (perSec float64, err error)

	// Encode makes of an event the message that is published, and throws it away.
	Encode func(env *pulse.Envelope) error
}

// clientAlone is how fast the client of the broker is without Pulse.
func (b *bench) clientAlone(ctx context.Context, store Store, n int) (perSec float64, err error) {
	if b.Outside == nil {
		return b.clientOnce(ctx, store, n)
	}
	page, err := store.Read(ctx, pulse.Query{Limit: clientBatch})
	if err != nil {
		return 0, err
	}
	return b.Outside.Client(ctx, page.Envelopes, n)
}

const serverNATS = "NATS"

// server is what the broker is.
func (b *bench) server() string {
	if b.Outside == nil {
		return serverNATS
	}
	return b.Outside.Name
}
