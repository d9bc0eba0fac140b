package demo

import (
	"context"
	"sync"

	"github.com/edupulse-live/pulse"
)

// Broker is what the demo needs of a broker. The caller closes it.
type Broker interface {
	Publisher() pulse.Publisher
	Source() pulse.Source
	Close() error
}

const (
	brokerDir   = "broker" // of an embedded broker, in the data directory
	destination = "nats"
)

// acknowledged is a publisher that counts the events the broker has acknowledged, each once.
type acknowledged struct {
	pulse.Publisher

	mu    sync.Mutex
	first pulse.Position // up to here the broker had everything when the run began
	acked map[pulse.Position]struct{}
}

// begin asks the broker what an earlier, interrupted run had published.
func (a *acknowledged) begin(ctx context.Context) error {
	last, _, err := a.Publisher.Last(ctx)
	a.first = last.Position
	a.acked = map[pulse.Position]struct{}{}
	return err
}

// PublishBatch is that of the publisher.
func (a *acknowledged) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	results := a.Publisher.PublishBatch(ctx, envs)
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range results {
		if results[i].Outcome == pulse.Acked && envs[i].Position > a.first {
			a.acked[envs[i].Position] = struct{}{}
		}
	}
	return results
}

// count is how many events the broker has acknowledged, in this run and before; 0 without a broker.
func (a *acknowledged) count() int {
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return int(a.first) + len(a.acked)
}
