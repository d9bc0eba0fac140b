package storetest

import (
	"context"
	"errors"
	"io"
	"reflect"

	"github.com/edupulse-live/pulse"
)

func reopenChecks() []check {
	return []check{
		{"the log is the same after reopening", reopenLog},
		{"subscriptions, inbox and deliveries are the same after reopening", reopenSubscriptions},
		{"a lease is held after reopening", reopenLease},
	}
}

func closeChecks() []check {
	return []check{
		{"after Close everything is an ErrClosed", closeAll},
		{"Close may be called twice", closeTwice},
	}
}

// reopen replaces the store by what it stored; it skips the case when the store is not durable.
func (h *harness) reopen() {
	h.Helper()
	if h.options.Reopen == nil {
		h.Skip("not applicable: the store is not durable: Options.Reopen is nil")
	}
	h.store = h.options.Reopen(h, h.store)
}

func reopenLog(h *harness) {
	recs := h.records(5, func(r *pulse.Record) { r.Extensions = []byte(`{"region":"north"}`) })
	h.append(recs...)
	before, info := h.log(pulse.Query{}), h.info()
	h.reopen()
	again := h.info()
	again.Newest, info.Newest = nil, nil // a matter of the moment
	if !reflect.DeepEqual(again, info) {
		h.Fatalf("Info was %+v and is %+v", info, again)
	}
	for i, env := range h.log(pulse.Query{}) {
		h.same(&env, &recs[i])
		if !env.RecordedAt.Equal(before[i].RecordedAt) {
			h.Fatalf("RecordedAt was %s and is %s", before[i].RecordedAt, env.RecordedAt)
		}
	}
	next := h.record()
	h.append(next, recs[2])
	h.holds(append(recs, next)...)
}

func reopenSubscriptions(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	p := s.to(4)
	p.Put = []pulse.DeliveryState{row(1, pulse.StatusDead, "k"), row(2, pulse.StatusWaiting, "k")}
	s.advance(lease, p)
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Pause: &pulse.Pause{Until: pulse.Forever, Reason: "maintenance"}}))
	_, transacts := h.store.(pulse.Transactor)
	if transacts {
		s.seen(lease, []pulse.Position{6})
	}
	before, rows := s.state("mailer"), s.list(pulse.DeliveryQuery{})
	h.reopen()
	s = h.subscriptions()
	if after := s.state("mailer"); after != before {
		h.Fatalf("the subscription was\n       %+v\nand is %+v", before, after)
	}
	for i, r := range s.list(pulse.DeliveryQuery{}) {
		if !sameRow(r, rows[i]) {
			h.Fatalf("the row was\n       %+v\nand is %+v", rows[i], r)
		}
	}
	if transacts {
		s.seen(lease, []pulse.Position{5, 6}, 6)
	}
}

func reopenLease(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	h.reopen()
	s = h.subscriptions()
	s.refused("mailer", "instance-b")
	s.advance(lease, s.to(1))
	h.ok(s.Release(h.ctx, lease))
	h.reopen()
	s = h.subscriptions()
	if next := s.take("mailer", "instance-b"); next.Token <= lease.Token || next.Unclean {
		h.Fatalf("after %+v was released, the next is %+v", lease, next)
	}
}

// closer returns the store's Close; it skips the case when the store has none.
func (h *harness) closer() io.Closer {
	h.Helper()
	c, ok := h.store.(io.Closer)
	if !ok {
		h.Skip("not applicable: the store has no Close")
	}
	return c
}

func closeAll(h *harness) {
	h.append(h.record())
	h.ok(h.closer().Close())
	calls := map[string]func() error{
		"Append": func() error { return h.store.Append(h.ctx, h.records(1)) },
		"Read":   func() error { _, err := h.store.Read(h.ctx, pulse.Query{}); return err },
		"Info":   func() error { _, err := h.store.Info(h.ctx); return err },
	}
	if t, ok := h.store.(pulse.Transactor); ok {
		calls["Transact"] = func() error {
			return t.Transact(h.ctx, func(context.Context, pulse.Tx) error { return errors.New("the function ran") })
		}
	}
	if k, ok := h.store.(keeper); ok {
		lease := pulse.Lease{Name: "mailer", Holder: "instance-a"}
		calls["Acquire"] = func() error { _, err := k.Acquire(h.ctx, lease, long); return err }
		calls["Release"] = func() error { return k.Release(h.ctx, lease) }
		calls["Register"] = func() error {
			_, err := k.Register(h.ctx, pulse.Registration{Name: "mailer", Start: pulse.Now})
			return err
		}
		calls["States"] = func() error { _, err := k.States(h.ctx); return err }
		calls["Control"] = func() error { return k.Control(h.ctx, "mailer", pulse.Control{Resume: true}) }
		calls["Advance"] = func() error { return k.Advance(h.ctx, lease, pulse.Progress{}) }
		calls["List"] = func() error { _, err := k.List(h.ctx, pulse.DeliveryQuery{}); return err }
		calls["Settle"] = func() error { _, err := k.Settle(h.ctx, pulse.DeliveryQuery{}, pulse.SettleDrop); return err }
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, pulse.ErrClosed) {
			h.Errorf("%s after Close: error is %v, want an ErrClosed", name, err)
		}
	}
}

func closeTwice(h *harness) {
	c := h.closer()
	h.ok(c.Close())
	h.ok(c.Close())
}
