package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edupulse-live/pulse"
)

func markChecks() []check {
	return []check{
		{"Mark returns what was seen before", markSeen},
		{"Mark of no positions returns none", markNothing},
		{"Mark returns a position that its own transaction marked before", markTwiceInTx},
		{"Mark returns what lies at or below the cursor", markBelowCursor},
		{"Mark does not return a delivery below the cursor that still has a row", markRow},
		{"Mark of a delivery with a row is remembered while the cursor moves on", markRowPruning},
		{"Mark and effects commit together", markWithEffects},
		{"marks of a rolled back transaction are gone", markRollback},
		{"each subscription has an inbox of its own", markSubscriptions},
		{"concurrent transactions that mark one delivery have its effect once", markConcurrent},
		{"Mark needs the current lease", markFenced},
		{"a transaction that marked does not commit after its lease was lost", markFencedCommit},
		{"a replay starts with an empty inbox", markReplay},
	}
}

// seen marks positions and ends the case unless exactly want were seen before.
func (s *subscriber) seen(lease pulse.Lease, positions []pulse.Position, want ...pulse.Position) {
	s.Helper()
	got, err := s.mark(lease, positions...)
	s.ok(err)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.Fatalf("Mark of %v returned %v, want %v", positions, got, want)
	}
}

func markSeen(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	s.seen(lease, []pulse.Position{1, 3})
	s.seen(lease, []pulse.Position{1}, 1)
	s.seen(lease, []pulse.Position{4, 3, 2, 1}, 1, 3)
	s.seen(lease, []pulse.Position{1, 2, 3, 4, 5}, 1, 2, 3, 4)
}

func markNothing(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	s.seen(lease, nil)
}

func markTwiceInTx(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	h.ok(h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
		if _, err := tx.Mark(ctx, lease, []pulse.Position{7}); err != nil {
			return err
		}
		seen, err := tx.Mark(ctx, lease, []pulse.Position{6, 7})
		if err == nil && !slices.Equal(seen, []pulse.Position{7}) {
			h.Errorf("Mark returned %v, want 7", seen)
		}
		return err
	}))
}

func markBelowCursor(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	s.seen(lease, []pulse.Position{2})
	s.advance(lease, s.to(3))
	s.seen(lease, []pulse.Position{1, 2, 3, 4}, 1, 2, 3)
}

func markRow(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	p := s.to(5)
	p.Put = []pulse.DeliveryState{row(2, pulse.StatusRetry, "k"), row(3, pulse.StatusWaiting, "k"), row(4, pulse.StatusDead, "")}
	s.advance(lease, p)
	// The effects at 2, 3 and 4 do not exist yet, although the cursor has passed them.
	s.seen(lease, []pulse.Position{1, 2, 5}, 1, 5)
	n, err := s.Settle(h.ctx, pulse.DeliveryQuery{Subscription: "mailer", Positions: []pulse.Position{4}}, pulse.SettleRetry)
	h.ok(err)
	if n != 1 {
		h.Fatalf("%d dead letters settled, want 1", n)
	}
	s.seen(lease, []pulse.Position{3, 4})
}

func markRowPruning(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	p := s.to(2)
	p.Put = []pulse.DeliveryState{row(2, pulse.StatusRetry, "")}
	s.advance(lease, p)
	s.seen(lease, []pulse.Position{2}) // the retry's effect commits; then the process dies before it removes the row
	s.advance(lease, s.to(9))
	s.seen(lease, []pulse.Position{2}, 2)
	s.advance(lease, pulse.Progress{Remove: []pulse.Position{2}})
	s.seen(lease, []pulse.Position{2}, 2)
}

func markWithEffects(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	effect := h.record(named("mail.sent"))
	handle := func(outcome error) error {
		return h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
			seen, err := tx.Mark(ctx, lease, []pulse.Position{1})
			if err != nil || len(seen) > 0 {
				return err
			}
			if err := tx.Append(ctx, []pulse.Record{effect}); err != nil {
				return err
			}
			return outcome
		})
	}
	if err := handle(errRollback); !errors.Is(err, errRollback) {
		h.Fatalf("error is %v", err)
	}
	h.holds()
	for range 3 {
		h.ok(handle(nil))
		h.holds(effect)
		effect = h.record(named("mail.sent.again"), func(r *pulse.Record) { r.ID = effect.ID })
	}
}

func markRollback(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	err := h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
		if _, err := tx.Mark(ctx, lease, []pulse.Position{1, 2}); err != nil {
			return err
		}
		return errRollback
	})
	if !errors.Is(err, errRollback) {
		h.Fatalf("error is %v", err)
	}
	s.seen(lease, []pulse.Position{1, 2})
}

func markSubscriptions(h *harness) {
	s := h.subscriptions()
	mailer, search := s.register("mailer"), s.register("search")
	s.seen(mailer, []pulse.Position{1})
	s.seen(search, []pulse.Position{1})
	s.advance(mailer, s.to(5))
	s.seen(search, []pulse.Position{2, 1}, 1)
}

func markConcurrent(h *harness) {
	s := h.subscriptions()
	h.transactor()
	lease := s.register("mailer")
	const deliveries, instances = 15, 3
	var effects [deliveries + 1]atomic.Int32
	var workers sync.WaitGroup
	for range instances {
		workers.Go(func() {
			for p := pulse.Position(1); p <= deliveries; p++ {
				fresh := false
				err := h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
					seen, err := tx.Mark(ctx, lease, []pulse.Position{p})
					fresh = len(seen) == 0
					time.Sleep(time.Millisecond) // lets another transaction mark meanwhile
					return err
				})
				if err == nil && fresh {
					effects[p].Add(1)
				}
			}
		})
	}
	workers.Wait()
	for p := 1; p <= deliveries; p++ {
		if n := effects[p].Load(); n != 1 {
			h.Errorf("the effect of delivery %d was committed %d times", p, n)
		}
	}
}

func markFenced(h *harness) {
	s := h.subscriptions()
	h.transactor()
	old := s.register("mailer")
	lease := s.steal(old, "instance-b")
	s.fenced(old, "after another instance took over")
	s.seen(lease, []pulse.Position{97})
	for what, wrong := range map[string]pulse.Lease{
		"no token":         {Name: lease.Name, Holder: lease.Holder, Generation: lease.Generation},
		"other token":      {Name: lease.Name, Holder: lease.Holder, Generation: lease.Generation, Token: lease.Token + 1},
		"other generation": {Name: lease.Name, Holder: lease.Holder, Generation: lease.Generation + 1, Token: lease.Token},
		"no such name":     {Name: "nobody", Holder: lease.Holder, Generation: lease.Generation, Token: lease.Token},
	} {
		if _, err := s.mark(wrong, 1); !errors.Is(err, pulse.ErrFenced) {
			h.Fatalf("Mark with a lease with %s: error is %v, want an ErrFenced", what, err)
		}
		if err := s.Advance(h.ctx, wrong, s.to(1)); !errors.Is(err, pulse.ErrFenced) {
			h.Fatalf("Advance with a lease with %s: error is %v, want an ErrFenced", what, err)
		}
	}
}

// markFencedCommit allows that nobody can take the lease while the transaction is open.
func markFencedCommit(h *harness) {
	s := h.subscriptions()
	h.transactor()
	lease := s.register("mailer")
	_, err := s.Acquire(h.ctx, lease, 20*time.Millisecond)
	h.ok(err)
	var lost error
	err = h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
		if _, err := tx.Mark(ctx, lease, []pulse.Position{1}); err != nil {
			return err
		}
		h.pass(30 * time.Millisecond)
		waiting, cancel := context.WithTimeout(h.ctx, 100*time.Millisecond)
		defer cancel()
		_, lost = s.Acquire(waiting, pulse.Lease{Name: "mailer", Holder: "instance-b"}, long)
		return nil
	})
	if lost == nil && !errors.Is(err, pulse.ErrFenced) || lost != nil && err != nil {
		h.Fatalf("taking the lease of an open transaction: %v; its commit: %v, want an ErrFenced if and only if it was lost", lost, err)
	}
}

func markReplay(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	s.seen(lease, []pulse.Position{1, 2})
	s.advance(lease, s.to(1))
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Replay: &pulse.Replay{From: pulse.Beginning}}))
	s.fenced(lease, "after a replay")
	h.ok(s.Release(h.ctx, lease))
	s.seen(s.take("mailer", "instance-a"), []pulse.Position{1, 2})
}
