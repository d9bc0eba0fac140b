package demo

import (
	"context"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// published counts the events of a plan that the broker has acknowledged, each once. It is written by one goroutine.
type published struct {
	ids  map[uuid.UUID]int32 // of the plan
	seen []bool              // by event
	n    atomic.Int64
}

func newPublished(p *plan, secret []byte) *published {
	return &published{ids: idsOf(p, secret), seen: make([]bool, len(p.events))}
}

// acked notes an event. One of another year, or of somebody else in the same log, does not count.
func (p *published) acked(env *pulse.Envelope) {
	if i, planned := p.ids[env.ID]; planned && !p.seen[i] {
		p.seen[i] = true
		p.n.Add(1)
	}
}

// before notes what an earlier, interrupted run has published: what the relay had saved, and what it had not come to save but the
// broker has. The bus has the destination and does not run yet.
func (p *published) before(ctx context.Context, bus *pulse.Bus, b *Broker) error {
	last, _, err := b.Publisher.Last(ctx)
	if err != nil {
		return err
	}
	states, err := bus.Subscriptions(ctx)
	if err != nil {
		return err
	}
	through := last.Position
	for i := range states {
		if states[i].Name == pulse.RelayName(b.Destination) {
			through = max(through, states[i].Cursor.Position)
		}
	}
	if through == 0 {
		return nil // a query without a bound would select everything
	}
	for env, err := range bus.Log(ctx, pulse.Query{Through: through}) {
		if err != nil {
			return err
		}
		p.acked(&env)
	}
	return nil
}

// count is how many events there are so far; 0 without a broker.
func (p *published) count() int {
	if p == nil {
		return 0
	}
	return int(p.n.Load())
}
