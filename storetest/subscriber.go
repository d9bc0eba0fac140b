package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/edupulse-live/pulse"
)

// keeper is what a store must be able to do to keep subscriptions.
type keeper interface {
	pulse.Store
	pulse.Leases
	pulse.Subscriptions
	pulse.Deliveries
}

// long is a time to live that no case outlives.
const long = time.Hour

// subscriber is a harness over a store that keeps subscriptions.
type subscriber struct {
	*harness
	keeper
}

// subscriptions returns a subscriber; it skips the case when the store keeps no subscriptions.
func (h *harness) subscriptions() *subscriber {
	h.Helper()
	k, ok := h.store.(keeper)
	if !ok {
		h.Skip("not applicable: the store does not implement pulse.Leases, pulse.Subscriptions and pulse.Deliveries")
	}
	return &subscriber{harness: h, keeper: k}
}

// register creates a subscription from the beginning and takes its lease.
func (s *subscriber) register(name string) pulse.Lease {
	s.Helper()
	_, err := s.Register(s.ctx, pulse.Registration{Name: name, Start: pulse.Beginning})
	s.ok(err)
	return s.take(name, "instance-a")
}

// take takes the free lease of a subscription.
func (s *subscriber) take(name, holder string) pulse.Lease {
	s.Helper()
	lease, err := s.Acquire(s.ctx, pulse.Lease{Name: name, Holder: holder}, long)
	s.ok(err)
	return lease
}

// steal takes the lease away from holder who is gone: its lease becomes short and expires.
func (s *subscriber) steal(lease pulse.Lease, holder string) pulse.Lease {
	s.Helper()
	const short = 20 * time.Millisecond
	_, err := s.Acquire(s.ctx, lease, short)
	s.ok(err)
	return s.takeExpired(lease.Name, holder)
}

// takeExpired waits until the lease of name is free and takes it.
func (s *subscriber) takeExpired(name, holder string) pulse.Lease {
	s.Helper()
	for deadline := time.Now().Add(patience); ; {
		s.pass(10 * time.Millisecond)
		lease, err := s.Acquire(s.ctx, pulse.Lease{Name: name, Holder: holder}, long)
		if err == nil {
			return lease
		}
		if !errors.Is(err, pulse.ErrHeld) || time.Now().After(deadline) {
			s.Fatalf("taking an expired lease: %v", err)
		}
	}
}

// state returns what the store keeps of one subscription.
func (s *subscriber) state(name string) pulse.SubscriptionState {
	s.Helper()
	states, err := s.States(s.ctx)
	s.ok(err)
	for _, state := range states {
		if state.Name == name {
			return state
		}
	}
	s.Fatalf("States does not return %s", name)
	return pulse.SubscriptionState{}
}

// advance writes progress under a lease that must be current.
func (s *subscriber) advance(lease pulse.Lease, p pulse.Progress) {
	s.Helper()
	s.ok(s.Advance(s.ctx, lease, p))
}

// to is progress up to a position.
func (s *subscriber) to(position pulse.Position) pulse.Progress {
	return pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: position, Commitment: [32]byte{1, byte(position)}}}
}

// list returns the delivery rows that q selects.
func (s *subscriber) list(q pulse.DeliveryQuery) []pulse.DeliveryState {
	s.Helper()
	rows, err := s.List(s.ctx, q)
	s.ok(err)
	return rows
}

// positions ends the case unless q selects the rows at exactly these positions.
func (s *subscriber) positions(q pulse.DeliveryQuery, want ...pulse.Position) {
	s.Helper()
	rows := s.list(q)
	same := len(rows) == len(want)
	for i := 0; same && i < len(want); i++ {
		same = rows[i].Position == want[i]
	}
	if !same {
		s.Fatalf("%+v selects %+v, want positions %v", q, rows, want)
	}
}

// mark marks positions in a transaction of their own.
func (s *subscriber) mark(lease pulse.Lease, positions ...pulse.Position) (seen []pulse.Position, err error) {
	s.Helper()
	err = s.transact(s.ctx, func(ctx context.Context, tx pulse.Tx) error {
		seen, err = tx.Mark(ctx, lease, positions)
		return err
	})
	return seen, err
}

// fenced ends the case unless all that a lease protects is refused to this one.
func (s *subscriber) fenced(lease pulse.Lease, why string) {
	s.Helper()
	before := s.state(lease.Name)
	err := s.Advance(s.ctx, lease, pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: 99}, Put: []pulse.DeliveryState{row(98, pulse.StatusDead, "")}})
	if !errors.Is(err, pulse.ErrFenced) {
		s.Fatalf("%s: Advance gives %v, want an ErrFenced", why, err)
	}
	if _, err := s.Acquire(s.ctx, lease, long); !errors.Is(err, pulse.ErrFenced) {
		s.Fatalf("%s: renewing gives %v, want an ErrFenced", why, err)
	}
	if after := s.state(lease.Name); after.Cursor != before.Cursor || after.Dead != before.Dead || after.Holder != before.Holder {
		s.Fatalf("%s: a refused write changed %+v to %+v", why, before, after)
	}
	if _, ok := s.store.(pulse.Transactor); !ok {
		return
	}
	err = s.transact(s.ctx, func(ctx context.Context, tx pulse.Tx) error {
		if err := tx.Append(ctx, s.records(1)); err != nil {
			return err
		}
		_, err := tx.Mark(ctx, lease, []pulse.Position{97})
		return err
	})
	if !errors.Is(err, pulse.ErrFenced) {
		s.Fatalf("%s: Mark gives %v, want an ErrFenced", why, err)
	}
	if head := s.info().Head; head != before.Head {
		s.Fatalf("%s: the transaction with the refused Mark left events", why)
	}
}

// row is a delivery row with something in each field.
func row(position pulse.Position, status pulse.DeliveryStatus, lane string) pulse.DeliveryState {
	failed := time.Date(2026, 4, 2, 8, 30, 0, 123_456_000, time.UTC)
	return pulse.DeliveryState{
		Subscription: "mailer", Position: position, Status: status, Lane: lane,
		Name: "lesson.published", Key: lane, Attempt: 3, Due: failed.Add(time.Minute),
		Error: "smtp: no route to host", FailedAt: failed,
	}
}
