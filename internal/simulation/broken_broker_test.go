package simulation

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// TestTheCheckersFindABrokerThat plants one bug at a time on the way to the broker.
func TestTheCheckersFindABrokerThat(t *testing.T) {
	for _, c := range []struct {
		bug     string
		promise string // a violation begins with one of these, separated by spaces
		wrap    func(pulse.Publisher) pulse.Publisher
	}{
		{"takes an unknown outcome for success", "G4", func(p pulse.Publisher) pulse.Publisher { return &hopeful{p} }},
		{"hides what was refused", "G4", func(p pulse.Publisher) pulse.Publisher { return &hushing{p} }},
		{"goes on behind what failed", "G5", func(p pulse.Publisher) pulse.Publisher { return &rushing{p} }},
		{"sends a batch from its end", "G5", func(p pulse.Publisher) pulse.Publisher { return &backward{p} }},
		{"says it has more than it has", "G4", func(p pulse.Publisher) pulse.Publisher { return &boasting{p} }},
		{"never says that it lost something", "G6", func(p pulse.Publisher) pulse.Publisher { return &silent{p} }},
	} {
		t.Run(c.bug, func(t *testing.T) {
			t.Parallel()
			with := sound()
			with.publisher = c.wrap
			find(t, with, c.promise, withBroker)
		})
	}
}

// TestTheCheckersFindARelayWhoseStore plants bugs that only a relay has to suffer from.
func TestTheCheckersFindARelayWhoseStore(t *testing.T) {
	for _, c := range []struct {
		bug     string
		promise string
		make    storeMaker
	}{
		{"forgets what it parks", "G4", func(o *memstore.Options) fullStore { return &careless{memstore.New(o)} }},
		{"does not stop it for a pause", "pause", func(o *memstore.Options) fullStore { return &busy{memstore.New(o)} }},
	} {
		t.Run(c.bug, func(t *testing.T) {
			t.Parallel()
			with := sound()
			with.store = c.make
			find(t, with, c.promise, withBroker)
		})
	}
}

// TestTheCheckersFindInWhatIsFedFromABroker plants bugs of the store where every subscription is fed from the broker.
func TestTheCheckersFindInWhatIsFedFromABroker(t *testing.T) {
	for _, c := range []struct {
		bug     string
		promise string
		make    storeMaker
	}{
		{"that deliveries are not known again", "G7", func(o *memstore.Options) fullStore { return &forgetful{memstore.New(o)} }},
		{"that the cursor is saved before the rows", "G4", func(o *memstore.Options) fullStore { return &torn{memstore.New(o)} }},
		{"that a late commit shows behind readers", "G4 G12", func(o *memstore.Options) fullStore { return &late{memstore.New(o)} }},
		{"that rows that wait are dropped", "G4", func(o *memstore.Options) fullStore { return &hasty{memstore.New(o)} }},
		{"that waiting rows wait for nobody", "G10", func(o *memstore.Options) fullStore { return &pushing{memstore.New(o)} }},
	} {
		t.Run(c.bug, func(t *testing.T) {
			t.Parallel()
			with := sound()
			with.store = c.make
			find(t, with, c.promise, func(p *plan) bool {
				return withBroker(p) && !slices.ContainsFunc(p.subs, func(s *sub) bool { return !s.fed })
			})
		})
	}
}

// withBroker selects the schedules that have one.
func withBroker(p *plan) bool { return p.broker != nil }

// pushing forgets of rows which lane they are in.
type pushing struct{ *memstore.Store }

func (s *pushing) List(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
	rows, err := s.Store.List(ctx, q)
	for i := range rows {
		if rows[i].Subscription != pulse.RelayName(school) {
			rows[i].Key, rows[i].Lane = "", ""
		}
	}
	return rows, err
}

// hopeful answers for what it has not heard of.
type hopeful struct{ pulse.Publisher }

func (p *hopeful) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	return answering(p.Publisher.PublishBatch(ctx, envs), pulse.Unknown)
}

// hushing answers for what was refused.
type hushing struct{ pulse.Publisher }

func (p *hushing) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	return answering(p.Publisher.PublishBatch(ctx, envs), pulse.Rejected)
}

// answering turns an outcome into success.
func answering(results []pulse.Result, outcome pulse.Outcome) []pulse.Result {
	for i := range results {
		if results[i].Outcome == outcome {
			results[i] = pulse.Result{Outcome: pulse.Acked}
		}
	}
	return results
}

// rushing publishes one by one and does not stop.
type rushing struct{ pulse.Publisher }

func (p *rushing) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	var results []pulse.Result
	for i := range envs {
		results = append(results, p.Publisher.PublishBatch(ctx, envs[i:i+1])...)
	}
	return results
}

// backward publishes the last one first.
type backward struct{ pulse.Publisher }

func (p *backward) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	envs = slices.Clone(envs)
	slices.Reverse(envs)
	results := p.Publisher.PublishBatch(ctx, envs)
	slices.Reverse(results)
	return results
}

// boasting says it has the first event that it does not have.
type boasting struct{ pulse.Publisher }

func (p *boasting) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	results := p.Publisher.PublishBatch(ctx, envs)
	if last := len(results) - 1; results[last].Outcome == pulse.Unknown && envs[last].Position%2 == 0 {
		results[0].Outcome = pulse.Acked
	}
	return results
}

// silent never says what it has.
type silent struct{ pulse.Publisher }

func (p *silent) Last(ctx context.Context) (pulse.Cursor, bool, error) {
	_, _, err := p.Publisher.Last(ctx)
	return pulse.Cursor{}, false, err
}

// careless keeps no dead letters of a relay.
type careless struct{ *memstore.Store }

func (s *careless) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	if lease.Name == pulse.RelayName(school) {
		p.Put = slices.DeleteFunc(slices.Clone(p.Put), func(row pulse.DeliveryState) bool { return row.Status == pulse.StatusDead })
	}
	return s.Store.Advance(ctx, lease, p)
}

// busy forgets that a person has paused the relay.
type busy struct{ *memstore.Store }

func (s *busy) States(ctx context.Context) ([]pulse.SubscriptionState, error) {
	states, err := s.Store.States(ctx)
	for i := range states {
		if states[i].Name == pulse.RelayName(school) && states[i].PausedUntil.Equal(pulse.Forever) {
			states[i].PausedUntil = time.Time{}
		}
	}
	return states, err
}
