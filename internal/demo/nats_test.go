package demo

import (
	"context"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// nats is a Broker.
type nats struct{ *natsbroker.Broker }

func (n nats) Publisher() pulse.Publisher { return n.Broker.Publisher() }
func (n nats) Source() pulse.Source       { return n.Broker.Source() }

func embedNATS(ctx context.Context, dir string) (Broker, error) {
	b, err := natsbroker.Embed(ctx, dir, nil)
	if err != nil {
		return nil, err
	}
	return nats{b}, nil
}
