package demo

import (
	"context"

	"github.com/edupulse-live/pulse/natsbroker"
)

// embedNATS is a BrokerOpener.
func embedNATS(ctx context.Context, store string) (*Broker, error) {
	b, err := natsbroker.Embed(ctx, store+".nats", nil)
	if err != nil {
		return nil, err
	}
	return &Broker{Destination: "nats", Publisher: b.Publisher(), Source: b.Source(), Close: b.Close}, nil
}

// brokerOf is the opener of a broker, or nil.
func brokerOf(broker bool) BrokerOpener {
	if broker {
		return embedNATS
	}
	return nil
}

// wantPublished is how many of n events go to a broker, if there is one.
func wantPublished(broker bool, n int) int {
	if broker {
		return n
	}
	return 0
}
