package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

func positionChecks() []check {
	return []check{
		{"an empty log has head 0 and an origin, an epoch and a size limit", positionEmpty},
		{"after Info, events appended before are at or below Head", positionInfo},
		{"the newest events that Info gives are those of the log up to Head", positionNewest},
		{"positions are gapless, growing and immutable; who saw n has seen all before", positionStress},
		{"concurrent appends of one id store it once", positionSameID},
		{"concurrent appends of one id with other contents store one of them", positionRivals},
	}
}

func positionEmpty(h *harness) {
	info := h.info()
	if info.Head != 0 || info.Origin == "" || info.Epoch < 1 || info.MaxBytes < 1 {
		h.Fatalf("Info of a new store is %+v", info)
	}
	page, err := h.store.Read(h.ctx, pulse.Query{})
	h.ok(err)
	if len(page.Envelopes) != 0 || page.Next != 0 {
		h.Fatalf("Read of an empty log is %+v", page)
	}
}

func positionInfo(h *harness) {
	for i := range 20 {
		h.append(h.records(1 + i%3)...)
		want := h.info().Head
		if got := len(h.log(pulse.Query{Through: want})); pulse.Position(got) != want {
			h.Fatalf("head is %d and %d events are readable", want, got)
		}
		if i == 19 && want != 39 {
			h.Fatalf("head is %d after 39 events", want)
		}
	}
}

func positionNewest(h *harness) {
	for i := range 20 {
		h.append(h.records(1 + i%3)...)
		info := h.info()
		n := pulse.Position(len(info.Newest))
		if want := h.log(pulse.Query{After: info.Head - n}); n > 0 && !reflect.DeepEqual(info.Newest, want) {
			h.Fatalf("Info gave %+v, and to be read are %+v", info.Newest, want)
		}
	}
}

// stress is writers and readers at work on one log.
type stress struct {
	*harness
	taken pulse.Record

	mu     sync.Mutex
	stored map[uuid.UUID]bool // what Append or a commit acknowledged
	seen   [2][]uuid.UUID     // what each reader saw, by position
}

func positionStress(h *harness) {
	s := &stress{harness: h, taken: h.record(), stored: make(map[uuid.UUID]bool)}
	h.append(s.taken)
	s.stored[s.taken.ID] = true

	written := make(chan struct{})
	var writers, readers sync.WaitGroup
	for i := range uint64(4) {
		writers.Go(func() { s.write(rand.New(rand.NewPCG(i, 1))) })
	}
	for i := range s.seen {
		readers.Go(func() { s.seen[i] = s.follow(written) })
	}
	writers.Wait()
	close(written)
	readers.Wait()

	envs := h.log(pulse.Query{})
	for _, seen := range s.seen {
		if n := min(len(seen), len(envs)); !slices.Equal(seen, envelopeIDs(envs[:n])) {
			h.Errorf("a reader saw other events at 1 to %d than there are now", len(seen))
		}
	}
	for i, env := range envs {
		if env.Position != pulse.Position(i+1) {
			h.Fatalf("position %d stands where %d should be", env.Position, i+1)
		}
		if !s.stored[env.ID] {
			h.Errorf("the event at %d is in the log although its append failed", env.Position)
		}
		delete(s.stored, env.ID)
	}
	if len(s.stored) != 0 {
		h.Errorf("%d acknowledged events are not in the log", len(s.stored))
	}
}

// write appends units, some in transactions, some of which fail. Units of one writer must come in order.
func (s *stress) write(r *rand.Rand) {
	conflict := s.record(identified(s.taken.ID), data(`{"title":"something else"}`))
	transactor, _ := s.store.(pulse.Transactor)
	var mine []pulse.Record
	for range 40 {
		unit := s.records(1 + r.IntN(3))
		var err error
		switch n := r.IntN(10); {
		case n == 0:
			err = s.store.Append(s.ctx, append(unit, conflict))
			if !errors.Is(err, pulse.ErrConflict) {
				s.Errorf("append of a conflict: %v", err)
			}
		case n == 1 && len(mine) > 0:
			err = s.store.Append(s.ctx, append([]pulse.Record{mine[r.IntN(len(mine))]}, unit...))
		case n < 5 && transactor != nil:
			err = transactor.Transact(s.ctx, func(ctx context.Context, tx pulse.Tx) error {
				if err := tx.Append(ctx, unit); err != nil {
					return err
				}
				if n == 2 {
					return errRollback
				}
				return nil
			})
			if n == 2 && !errors.Is(err, errRollback) {
				s.Errorf("rolled back transaction: %v", err)
			}
		default:
			err = s.store.Append(s.ctx, unit)
		}
		if err == nil {
			mine = append(mine, unit...)
		} else if !errors.Is(err, pulse.ErrConflict) && !errors.Is(err, errRollback) {
			s.Errorf("append: %v", err)
		}
	}
	s.acknowledged(mine)
}

var errRollback = errors.New("the caller wants to roll back")

// acknowledged checks that what one writer appended, one unit after the other, is in the log in that order.
func (s *stress) acknowledged(recs []pulse.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[uuid.UUID]int)
	for i, rec := range recs {
		s.stored[rec.ID] = true
		wanted[rec.ID] = i
	}
	if _, err := s.store.Info(s.ctx); err != nil {
		s.Errorf("info: %v", err)
		return
	}
	next := 0
	for q := (pulse.Query{}); ; {
		page, err := s.store.Read(s.ctx, q)
		if err != nil {
			s.Errorf("read: %v", err)
			return
		}
		for _, env := range page.Envelopes {
			i, mine := wanted[env.ID]
			if mine && i != next {
				s.Errorf("the writer's event %d stands at position %d, where its event %d should be", i, env.Position, next)
				return
			}
			if mine {
				next++
			}
		}
		if page.Next == q.After {
			break
		}
		q.After = page.Next
	}
	if next != len(recs) {
		s.Errorf("%d of a writer's %d acknowledged events are in the log", next, len(recs))
	}
}

// follow reads the log as it grows, checks that nothing appears at or below what was seen before, and returns what it saw.
func (s *stress) follow(written <-chan struct{}) (seen []uuid.UUID) {
	for last := false; !last; {
		select {
		case <-written:
			last = true
		default:
		}
		info, err := s.store.Info(s.ctx)
		if err != nil {
			s.Errorf("info: %v", err)
			return seen
		}
		for more := true; more; {
			after := pulse.Position(len(seen))
			page, err := s.store.Read(s.ctx, pulse.Query{After: after, Limit: 7})
			if err != nil {
				s.Errorf("read: %v", err)
				return seen
			}
			for _, env := range page.Envelopes {
				if env.Position != pulse.Position(len(seen)+1) {
					s.Errorf("position %d follows %d", env.Position, len(seen))
					return seen
				}
				seen = append(seen, env.ID)
			}
			more = page.Next != after
		}
		if int(info.Head) > len(seen) {
			s.Errorf("Info gave the head %d, but reading ends at %d", info.Head, len(seen))
			return seen
		}
	}
	return seen
}

func positionSameID(h *harness) {
	recs := h.records(30)
	var writers sync.WaitGroup
	for range 4 {
		own := slices.Clone(recs)
		writers.Go(func() {
			for i := range own {
				if err := h.store.Append(h.ctx, own[i:i+1]); err != nil {
					h.Errorf("append of a repeated record: %v", err)
				}
			}
		})
	}
	writers.Wait()
	h.holds(recs...)
}

func positionRivals(h *harness) {
	for range 10 {
		one := h.record()
		other := h.record(identified(one.ID), data(`{"title":"something else"}`))
		before := h.info().Head
		var errs [2]error
		var writers sync.WaitGroup
		for i, rec := range []pulse.Record{one, other} {
			writers.Go(func() { errs[i] = h.store.Append(h.ctx, []pulse.Record{rec}) })
		}
		writers.Wait()
		stored, refused := one, errs[1]
		if errs[0] != nil {
			stored, refused = other, errs[0]
		}
		if errs[0] != nil && errs[1] != nil || !errors.Is(refused, pulse.ErrConflict) {
			h.Fatalf("errors are %v and %v, want one nil and one ErrConflict", errs[0], errs[1])
		}
		envs := h.log(pulse.Query{After: before})
		if len(envs) != 1 {
			h.Fatalf("%d events, want 1", len(envs))
		}
		h.same(&envs[0], &stored)
	}
}
