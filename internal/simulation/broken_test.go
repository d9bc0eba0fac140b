package simulation

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// TestTheCheckersFindAStoreThat plants one bug at a time into the store: schedules must find each, as the promise it breaks.
func TestTheCheckersFindAStoreThat(t *testing.T) {
	for _, c := range []struct {
		bug     string
		promise string // a violation begins with one of these, separated by spaces
		make    storeMaker
	}{
		{"loses what it acknowledged", "G1", func(o *memstore.Options) fullStore { return &losing{Store: memstore.New(o)} }},
		{"stores what it refused", "G2", func(o *memstore.Options) fullStore { return &lying{memstore.New(o)} }},
		{"keeps what a transaction rolled back", "G3 G7", func(o *memstore.Options) fullStore { return &leaking{memstore.New(o)} }},
		{"never knows a delivery again", "G7", func(o *memstore.Options) fullStore { return &forgetful{memstore.New(o)} }},
		{"does not forget a delivery for a replay", "G4", func(o *memstore.Options) fullStore {
			return &unforgetting{Store: memstore.New(o), seen: map[visited]bool{}}
		}},
		{"lets a former holder save", "G6", func(o *memstore.Options) fullStore {
			return &unfenced{Store: memstore.New(o), newest: map[string]pulse.Lease{}}
		}},
		{"gives one lease to two", "G6", func(o *memstore.Options) fullStore {
			return &generous{Store: memstore.New(o), newest: map[string]pulse.Lease{}}
		}},
		{"never ends a lease", "convergence", func(o *memstore.Options) fullStore {
			return &stingy{Store: memstore.New(o), holder: map[string]string{}}
		}},
		{"saves the cursor before the rows", "G4", func(o *memstore.Options) fullStore { return &torn{memstore.New(o)} }},
		{"shows a late commit behind readers", "G4 G12", func(o *memstore.Options) fullStore { return &late{memstore.New(o)} }},
		{"drops rows that wait", "G4", func(o *memstore.Options) fullStore { return &hasty{memstore.New(o)} }},
		{"does not stop for a pause", "pause", func(o *memstore.Options) fullStore { return &restless{memstore.New(o)} }},
	} {
		t.Run(c.bug, func(t *testing.T) {
			t.Parallel()
			with := sound()
			with.store = c.make
			find(t, with, c.promise, func(p *plan) bool { return !withBroker(p) })
		})
	}
}

// find runs schedules until one shows a violation of one of the promises, which are separated by spaces. Only suitable
// schedules are run.
func find(t *testing.T, with parts, promises string, suitable func(*plan) bool) {
	t.Helper()
	const schedules = 300
	for n, seed := 0, uint64(1); n < schedules; seed++ {
		p := newPlan(seed)
		if !suitable(p) {
			continue
		}
		n++
		for _, v := range simulate(t, p, with, nil).violations {
			for promise := range strings.FieldsSeq(promises) {
				if strings.Contains(v, promise+":") || strings.Contains(v, promise+" ") {
					t.Logf("found in schedule %d: %s", seed, strings.SplitN(v, "\n", 2)[0])
					return
				}
			}
		}
	}
	t.Errorf("%d schedules did not find it", schedules)
}

// losing acknowledges every 50th append without storing it.
type losing struct {
	*memstore.Store
	mu sync.Mutex
	n  int
}

func (s *losing) Append(ctx context.Context, recs []pulse.Record) error {
	s.mu.Lock()
	s.n++
	lost := s.n%50 == 0
	s.mu.Unlock()
	if lost {
		return nil
	}
	return s.Store.Append(ctx, recs)
}

// lying calls an unknown outcome a failure.
type lying struct{ *memstore.Store }

func (s *lying) Append(ctx context.Context, recs []pulse.Record) error {
	if err := s.Store.Append(ctx, recs); err != nil {
		return errors.Join(pulse.ErrStore, errors.New(err.Error()))
	}
	return nil
}

// leaking appends at once what is appended in a transaction.
type leaking struct{ *memstore.Store }

func (s *leaking) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	return s.Store.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error { return fn(ctx, leakingTx{tx, s.Store}) })
}

type leakingTx struct {
	pulse.Tx
	store *memstore.Store
}

func (t leakingTx) Append(ctx context.Context, recs []pulse.Record) error {
	return t.store.Append(ctx, recs)
}

// forgetful never says that a delivery was seen.
type forgetful struct{ *memstore.Store }

func (s *forgetful) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	return s.Store.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error { return fn(ctx, forgetfulTx{tx}) })
}

type forgetfulTx struct{ pulse.Tx }

func (t forgetfulTx) Mark(ctx context.Context, lease pulse.Lease, positions []pulse.Position) ([]pulse.Position, error) {
	_, err := t.Tx.Mark(ctx, lease, positions)
	return nil, err
}

// unforgetting leaves the generation out of the key of its inbox.
type unforgetting struct {
	*memstore.Store
	mu   sync.Mutex
	seen map[visited]bool
}

func (s *unforgetting) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	tx := &unforgettingTx{store: s}
	err := s.Store.Transact(ctx, func(ctx context.Context, inner pulse.Tx) error {
		tx.Tx = inner
		return fn(ctx, tx)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range tx.marked {
		s.seen[v] = s.seen[v] || err == nil
	}
	return err
}

type unforgettingTx struct {
	pulse.Tx
	store  *unforgetting
	marked []visited
}

func (t *unforgettingTx) Mark(ctx context.Context, lease pulse.Lease, positions []pulse.Position) ([]pulse.Position, error) {
	seen, err := t.Tx.Mark(ctx, lease, positions)
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	for _, p := range positions {
		v := visited{sub: lease.Name, position: p}
		if t.store.seen[v] {
			seen = append(seen, p)
		}
		t.marked = append(t.marked, v)
	}
	return seen, err
}

// unfenced takes progress under any lease for progress under the newest.
type unfenced struct {
	*memstore.Store
	mu     sync.Mutex
	newest map[string]pulse.Lease
}

func (s *unfenced) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	got, err := s.Store.Acquire(ctx, lease, ttl)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.newest[got.Name] = got
	}
	return got, err
}

func (s *unfenced) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	s.mu.Lock()
	newest := s.newest[lease.Name]
	s.mu.Unlock()
	return s.Store.Advance(ctx, newest, p)
}

// generous gives whoever asks the lease that another one holds.
type generous struct {
	*memstore.Store
	mu     sync.Mutex
	newest map[string]pulse.Lease
}

func (s *generous) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	got, err := s.Store.Acquire(ctx, lease, ttl)
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, pulse.ErrHeld) {
		got, err = s.newest[lease.Name], nil
		got.Token++
	}
	if err == nil {
		s.newest[got.Name] = got
	}
	return got, err
}

// stingy keeps a lease for its holder until it is released.
type stingy struct {
	*memstore.Store
	mu     sync.Mutex
	holder map[string]string
}

func (s *stingy) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	s.mu.Lock()
	holder := s.holder[lease.Name]
	s.mu.Unlock()
	if holder != "" && holder != lease.Holder {
		return pulse.Lease{}, pulse.ErrHeld
	}
	got, err := s.Store.Acquire(ctx, lease, ttl)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.holder[lease.Name] = lease.Holder
	}
	return got, err
}

func (s *stingy) Release(ctx context.Context, lease pulse.Lease) error {
	err := s.Store.Release(ctx, lease)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.holder, lease.Name)
	}
	return err
}

// torn saves progress in two units.
type torn struct{ *memstore.Store }

func (s *torn) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	if err := s.Store.Advance(ctx, lease, pulse.Progress{Cursor: p.Cursor}); err != nil {
		return err
	}
	p.Cursor = pulse.Cursor{}
	return s.Store.Advance(ctx, lease, p)
}

// late shows some events only a while after those behind them.
type late struct{ *memstore.Store }

func (s *late) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	page, err := s.Store.Read(ctx, q)
	var shown []pulse.Envelope
	for _, env := range page.Envelopes {
		if env.ID[15]%16 != 0 || time.Since(env.RecordedAt) > 100*time.Millisecond {
			shown = append(shown, env)
		}
	}
	page.Envelopes = shown
	return page, err
}

// hasty removes deliveries that wait behind one that it is told to remove.
type hasty struct{ *memstore.Store }

func (s *hasty) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	if len(p.Remove) > 0 {
		rows, err := s.Store.List(ctx, pulse.DeliveryQuery{Subscription: lease.Name, Statuses: []pulse.DeliveryStatus{pulse.StatusWaiting}, After: p.Remove[0], Limit: 1})
		if err != nil {
			return err
		}
		for _, row := range rows {
			p.Remove = append(p.Remove, row.Position)
		}
	}
	return s.Store.Advance(ctx, lease, p)
}

// restless forgets that a person has paused a subscription. Without pauses of its own a relay would run in circles in an outage.
type restless struct{ *memstore.Store }

func (s *restless) States(ctx context.Context) ([]pulse.SubscriptionState, error) {
	states, err := s.Store.States(ctx)
	for i := range states {
		if states[i].PausedUntil.Equal(pulse.Forever) {
			states[i].PausedUntil = time.Time{}
		}
	}
	return states, err
}
