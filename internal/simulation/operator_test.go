package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/edupulse-live/pulse"
)

const operatorName = "operator"

// operator is a person who pauses, replays and settles while things go wrong. It has a process of its own, or
// uses a running one.
type operator struct {
	w       *world
	r       *rand.Rand
	own     *pulse.Bus
	replays int
	// republishes so far
	republishes int
}

func newOperator(w *world) *operator {
	return &operator{w: w, r: w.plan.stream(operatorName)}
}

// run decides something every now and then.
func (o *operator) run() {
	own := o.w.newNode(operatorName)
	defer own.kill()
	for o.own == nil {
		o.own, _ = pulse.New(own, &pulse.Options{Logger: o.w.log})
	}
	for o.w.age() < o.w.plan.lasting {
		time.Sleep(between(o.r, 200*time.Millisecond, 3*time.Second))
		if o.w.dest != nil && chance(o.r, 0.4) {
			o.tendRelay()
			continue
		}
		s := o.w.plan.subs[o.r.IntN(len(o.w.plan.subs))]
		switch o.r.IntN(6) {
		case 0:
			o.pause(s)
		case 1:
			if o.replays++; o.replays <= 2 {
				o.replay(s)
			}
		default:
			o.settle(s)
		}
	}
}

// bus is a process to ask: its own, or one that runs, which sees what it did at once.
func (o *operator) bus() *pulse.Bus {
	if l := o.w.pick(o.r); l != nil && chance(o.r, 0.5) {
		return l.bus
	}
	return o.own
}

// seen is how long a pause may take to be noticed by a healthy process.
const seen = 1500 * time.Millisecond

// pause pauses a subscription for a while. In the end it is resumed for sure.
func (o *operator) pause(s *sub) {
	err := o.bus().Pause(context.Background(), s.name, "maintenance")
	o.w.trace("operator pauses %s: %v", s.name, err)
	from := o.w.age()
	time.Sleep(between(o.r, 100*time.Millisecond, 5*time.Second))
	if err == nil {
		o.w.cover("a pause " + o.w.whose(s, "by a person", "of the relay"))
		o.w.history.paused(pausing{s.name, from + seen, o.w.age()})
	}
	for {
		err := o.own.Resume(context.Background(), s.name)
		o.w.trace("operator resumes %s: %v", s.name, err)
		if err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// whose tells subscriptions from the relay.
func (w *world) whose(s *sub, subscription, relay string) string {
	if s == w.plan.relay {
		return relay
	}
	return subscription
}

func (h *history) paused(p pausing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pauses = append(h.pauses, p)
}

// replay starts a new generation, and looks whether it did.
func (o *operator) replay(s *sub) {
	info, err := o.w.store.Info(context.Background())
	if err != nil || info.Head == 0 {
		return
	}
	from := 1 + pulse.Position(o.r.Int64N(int64(info.Head)))
	err = o.bus().Replay(context.Background(), s.name, from)
	states, _ := o.w.store.States(context.Background())
	h := o.w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, state := range states {
		if state.Name == s.name && state.Generation > len(h.starts[s.name]) {
			h.starts[s.name] = append(h.starts[s.name], from)
			o.w.cover("a replay")
			o.w.trace("operator replays %s from %d as generation %d: %v", s.name, from, state.Generation, err)
		}
	}
}

// settle decides about one dead letter.
func (o *operator) settle(s *sub) {
	dead := o.w.deadOf(s)
	if len(dead) == 0 {
		return
	}
	row := dead[o.r.IntN(len(dead))]
	how := []pulse.Settlement{pulse.SettleRetry, pulse.SettleSkip, pulse.SettleDrop}[o.r.IntN(3)]
	h := o.w.history
	h.mu.Lock()
	generation := len(h.starts[s.name])
	h.mu.Unlock()
	tick := h.stamp()
	n, err := o.bus().Settle(context.Background(), pulse.DeliveryQuery{Subscription: s.name, Positions: []pulse.Position{row.Position}}, how)
	o.w.trace("operator settles %s %d by %s: %d, %v", s.name, row.Position, how, n, err)
	if n == 0 && (err == nil || !o.took(s, row, how)) {
		return
	}
	o.w.cover(fmt.Sprintf("%s settled by %s", o.w.whose(s, "a dead letter", "a message the relay parked"), how))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = append(h.settled, settled{visited{s.name, generation, row.Position}, how, tick})
}

// took reports whether a settlement took effect although it failed.
func (o *operator) took(s *sub, was pulse.DeliveryState, how pulse.Settlement) bool {
	for _, row := range o.w.deadOf(s) {
		if row.Position == was.Position {
			return how == pulse.SettleSkip && row.Lane == "" || !row.FailedAt.Equal(was.FailedAt)
		}
	}
	return true
}

// deadOf lists the dead letters of a subscription.
func (w *world) deadOf(s *sub) []pulse.DeliveryState {
	rows, err := w.store.List(context.Background(), pulse.DeliveryQuery{Subscription: s.name, Statuses: []pulse.DeliveryStatus{pulse.StatusDead}})
	if err != nil {
		w.violate("set-up: list: %v", err)
	}
	return rows
}

// settleAll has all dead letters tried again.
func (w *world) settleAll() bool {
	tick := w.history.stamp()
	subs := w.plan.subs
	if w.plan.relay != nil {
		subs = append(slices.Clone(subs), w.plan.relay)
	}
	for _, s := range subs {
		rows := w.deadOf(s)
		n, err := w.anyLife().bus.Settle(context.Background(), pulse.DeliveryQuery{Subscription: s.name}, pulse.SettleRetry)
		if n != len(rows) || err != nil {
			w.violate("settle: %d of %d dead letters of %q: %v", n, len(rows), s.name, err)
			return false
		}
		w.history.mu.Lock()
		for _, row := range rows {
			w.history.settled = append(w.history.settled, settled{visited{s.name, len(w.history.starts[s.name]), row.Position}, pulse.SettleRetry, tick})
		}
		w.history.mu.Unlock()
	}
	return true
}
