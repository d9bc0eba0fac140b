package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/edupulse-live/pulse"
)

func settleChecks() []check {
	return []check{
		{"SettleRetry tries a dead letter again now, attempts counted anew, in its place", settleRetry},
		{"SettleSkip lets the key go on and keeps the dead letter", settleSkip},
		{"SettleDrop lets the key go on and removes the dead letter", settleDrop},
		{"SettleDrop of a dead letter ahead of the cursor keeps a row until the cursor has passed it", settleDropAhead},
		{"Settle changes dead letters only", settleDeadOnly},
		{"Settle changes what the query selects and returns how many", settleSelects},
		{"Settle with a Limit changes the first", settleLimit},
		{"Settle grows the Revision of the subscriptions it changed", settleRevision},
		{"Settle needs no lease and fences none", settleBesideLease},
		{"Settle with a cancelled context changes nothing", settleCancelled},
	}
}

// settle settles and ends the case unless n dead letters were changed.
func (s *subscriber) settle(q pulse.DeliveryQuery, a pulse.Settlement, n int) {
	s.Helper()
	got, err := s.Settle(s.ctx, q, a)
	s.ok(err)
	if got != n {
		s.Fatalf("Settle %+v %s changed %d, want %d", q, a, got, n)
	}
}

// one returns the only row at a position.
func (s *subscriber) one(p pulse.Position) pulse.DeliveryState {
	s.Helper()
	rows := s.list(pulse.DeliveryQuery{Positions: []pulse.Position{p}})
	if len(rows) != 1 {
		s.Fatalf("rows at %d: %+v, want one", p, rows)
	}
	return rows[0]
}

// deadLetters registers mailer with a blocked key: dead at 1, waiting at 2, and a dead letter of no key at 3.
func (s *subscriber) deadLetters() pulse.Lease {
	s.Helper()
	lease := s.register("mailer")
	p := s.to(3)
	p.Put = []pulse.DeliveryState{row(1, pulse.StatusDead, "k"), row(2, pulse.StatusWaiting, "k"), row(3, pulse.StatusDead, "")}
	for i := range p.Put {
		p.Put[i].Due = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	s.advance(lease, p)
	s.counts("mailer", 0, 1, 1, 2)
	return lease
}

func settleRetry(h *harness) {
	s := h.subscriptions()
	s.deadLetters()
	before := s.one(1)
	s.settle(pulse.DeliveryQuery{Positions: []pulse.Position{1}}, pulse.SettleRetry, 1)
	after := s.one(1)
	if after.Status != pulse.StatusRetry || after.Attempt != 0 || after.Lane != "k" || !after.Due.Before(before.Due) {
		h.Fatalf("a dead letter to try again is %+v", after)
	}
	if after.Error != before.Error || !after.FailedAt.Equal(before.FailedAt) || after.Name != before.Name || after.Key != before.Key {
		h.Fatalf("a dead letter to try again lost what is known of it: %+v, was %+v", after, before)
	}
	s.counts("mailer", 1, 1, 1, 1)
}

func settleSkip(h *harness) {
	s := h.subscriptions()
	s.deadLetters()
	before := s.one(1)
	s.settle(pulse.DeliveryQuery{Positions: []pulse.Position{1}}, pulse.SettleSkip, 1)
	after := s.one(1)
	want := before
	want.Lane = ""
	if !sameRow(after, want) {
		h.Fatalf("a skipped dead letter is\n     %+v\nwant %+v", after, want)
	}
	s.counts("mailer", 1, 0, 0, 2)                                                      // nothing holds up its follower any more
	s.settle(pulse.DeliveryQuery{Positions: []pulse.Position{1}}, pulse.SettleRetry, 1) // skipped, it can still be tried
	if got := s.one(1).Status; got != pulse.StatusRetry {
		h.Fatalf("a skipped dead letter to try again is %s", got)
	}
}

func settleDrop(h *harness) {
	s := h.subscriptions()
	s.deadLetters()
	s.settle(pulse.DeliveryQuery{Positions: []pulse.Position{1}}, pulse.SettleDrop, 1)
	s.positions(pulse.DeliveryQuery{}, 2, 3)
	s.counts("mailer", 1, 0, 0, 1)
}

func settleDropAhead(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	p := s.to(2)
	for at := pulse.Position(1); at <= 5; at++ {
		dead := row(at, pulse.StatusDead, "k")
		dead.Stack = "goroutine 1"
		p.Put = append(p.Put, dead)
	}
	s.advance(lease, p)
	s.settle(pulse.DeliveryQuery{Positions: []pulse.Position{2, 3, 4}}, pulse.SettleDrop, 3)
	s.positions(pulse.DeliveryQuery{}, 1, 3, 4, 5)
	want := row(3, pulse.StatusDropped, "")
	want.Key, want.Due, want.Error = "k", time.Time{}, ""
	if got := s.one(3); !sameRow(got, want) {
		h.Fatalf("dropped ahead of the cursor, the row is\n     %+v\nwant %+v", got, want)
	}
	s.counts("mailer", 0, 0, 1, 2)
	for _, a := range []pulse.Settlement{pulse.SettleRetry, pulse.SettleSkip, pulse.SettleDrop} {
		s.settle(pulse.DeliveryQuery{Positions: []pulse.Position{3, 4}}, a, 0)
	}
	s.advance(lease, pulse.Progress{Remove: []pulse.Position{1}})
	s.positions(pulse.DeliveryQuery{}, 3, 4, 5)
	s.advance(lease, s.to(3))
	s.positions(pulse.DeliveryQuery{}, 4, 5)
	s.advance(lease, s.to(9))
	s.positions(pulse.DeliveryQuery{}, 5)
}

func settleDeadOnly(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	s.advance(lease, pulse.Progress{Put: []pulse.DeliveryState{row(1, pulse.StatusRetry, "k"), row(2, pulse.StatusWaiting, "k"), row(3, pulse.StatusRunning, "")}})
	for _, a := range []pulse.Settlement{pulse.SettleRetry, pulse.SettleSkip, pulse.SettleDrop} {
		s.settle(pulse.DeliveryQuery{}, a, 0)
		s.settle(pulse.DeliveryQuery{Statuses: []pulse.DeliveryStatus{pulse.StatusRetry}}, a, 0)
		s.settle(pulse.DeliveryQuery{Positions: []pulse.Position{2}}, a, 0)
	}
	for i, want := range []pulse.DeliveryState{row(1, pulse.StatusRetry, "k"), row(2, pulse.StatusWaiting, "k"), row(3, pulse.StatusRunning, "")} {
		if got := s.one(pulse.Position(i + 1)); !sameRow(got, want) {
			h.Fatalf("Settle changed a delivery that is not dead to %+v", got)
		}
	}
}

// deadIn fills a subscription with dead letters at 1 to 6, of two names.
func (s *subscriber) deadIn(name string) pulse.Lease {
	s.Helper()
	lease := s.register(name)
	var put []pulse.DeliveryState
	for i := range pulse.Position(6) {
		r := row(i+1, pulse.StatusDead, "")
		r.Subscription, r.Name = name, []string{"lesson.published", "quiz.submitted"}[i%2]
		put = append(put, r)
	}
	p := s.to(6)
	p.Put = put
	s.advance(lease, p)
	return lease
}

func settleSelects(h *harness) {
	s := h.subscriptions()
	s.deadIn("mailer")
	s.deadIn("search")
	s.settle(pulse.DeliveryQuery{Subscription: "mailer", Name: "quiz.*"}, pulse.SettleDrop, 3)
	s.positions(pulse.DeliveryQuery{Subscription: "mailer"}, 1, 3, 5)
	s.positions(pulse.DeliveryQuery{Subscription: "search"}, 1, 2, 3, 4, 5, 6)
	s.settle(pulse.DeliveryQuery{Subscription: "search", After: 4}, pulse.SettleRetry, 2)
	s.counts("search", 2, 0, 0, 4)
	s.settle(pulse.DeliveryQuery{Name: "lesson.published", Positions: []pulse.Position{1, 2, 3}}, pulse.SettleDrop, 4)
	s.positions(pulse.DeliveryQuery{Subscription: "mailer"}, 5)
	s.settle(pulse.DeliveryQuery{Subscription: "nobody"}, pulse.SettleDrop, 0)
	s.settle(pulse.DeliveryQuery{Positions: []pulse.Position{50}}, pulse.SettleDrop, 0)
	s.settle(pulse.DeliveryQuery{}, pulse.SettleDrop, 3) // mailer 5; search 2, 4
	s.positions(pulse.DeliveryQuery{}, 5, 6)
}

func settleLimit(h *harness) {
	s := h.subscriptions()
	s.deadIn("mailer")
	s.settle(pulse.DeliveryQuery{Limit: 2}, pulse.SettleDrop, 2)
	s.positions(pulse.DeliveryQuery{}, 3, 4, 5, 6)
	s.settle(pulse.DeliveryQuery{Name: "quiz.*", Limit: 1}, pulse.SettleDrop, 1)
	s.positions(pulse.DeliveryQuery{}, 3, 5, 6)
}

func settleRevision(h *harness) {
	s := h.subscriptions()
	s.deadIn("mailer")
	s.deadIn("search")
	before, other := s.state("mailer").Revision, s.state("search").Revision
	for i, a := range []pulse.Settlement{pulse.SettleSkip, pulse.SettleRetry, pulse.SettleDrop} {
		s.settle(pulse.DeliveryQuery{Subscription: "mailer", Positions: []pulse.Position{pulse.Position(i + 1)}}, a, 1)
		after := s.state("mailer").Revision
		if after <= before {
			h.Fatalf("Settle %s left Revision at %d after %d", a, after, before)
		}
		before = after
	}
	if got := s.state("search").Revision; got != other {
		h.Fatalf("Settle grew the Revision of another subscription from %d to %d", other, got)
	}
	s.settle(pulse.DeliveryQuery{Positions: []pulse.Position{6}}, pulse.SettleDrop, 2)
	if s.state("search").Revision <= other || s.state("mailer").Revision <= before {
		h.Fatal("Settle of two subscriptions did not grow the Revision of both")
	}
}

func settleBesideLease(h *harness) {
	s := h.subscriptions()
	lease := s.deadLetters()
	s.settle(pulse.DeliveryQuery{}, pulse.SettleRetry, 2)
	s.advance(lease, s.to(4))
	renewed, err := s.Acquire(h.ctx, lease, long)
	h.ok(err)
	if lease.Revision = s.state("mailer").Revision; renewed != lease {
		h.Fatalf("%+v was renewed as %+v", lease, renewed)
	}
}

func settleCancelled(h *harness) {
	s := h.subscriptions()
	s.deadLetters()
	if _, err := s.Settle(h.cancelled(), pulse.DeliveryQuery{}, pulse.SettleDrop); !errors.Is(err, context.Canceled) {
		h.Fatalf("error is %v, want a context.Canceled", err)
	}
	s.positions(pulse.DeliveryQuery{}, 1, 2, 3)
}
