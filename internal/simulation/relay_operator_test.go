package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
)

// tendRelay is what a person does about the relay.
func (o *operator) tendRelay() {
	switch o.r.IntN(4) {
	case 0:
		o.pause(o.w.plan.relay)
	case 1:
		o.republish()
	default:
		o.settle(o.w.plan.relay)
	}
}

// republisherName is how the names of processes that republish begin.
const republisherName = "republisher"

// republish has a part of the log published again, by a process of its own, which may be killed at it.
func (o *operator) republish() {
	o.republishes++
	n := o.w.newNode(fmt.Sprintf("%s%d", republisherName, o.republishes))
	defer n.kill()
	bus, err := o.w.openPublishing(n)
	if err != nil {
		o.w.trace("%s does not start: %v", n.name, err)
		return
	}
	if chance(o.r, 0.6) {
		doom := time.AfterFunc(between(o.r, 0, time.Second), n.kill)
		defer doom.Stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), between(o.r, time.Second, 10*time.Second))
	defer cancel()
	q := pulse.Query{}
	if head := o.w.headNow(); head > 1 {
		q.After = pulse.Position(o.r.Int64N(int64(head)))
	}
	opts := &pulse.RepublishOptions{}
	if chance(o.r, 0.3) {
		opts.Rate = 5 + o.r.IntN(100)
	}
	o.w.trace("%s republishes after %d", n.name, q.After)
	sent, err := bus.Republish(ctx, school, o.w.parts.publisher(o.w.dest.outlet(n)), q, opts)
	o.w.trace("%s has republished %d: %v", n.name, sent, err)
	switch {
	case n.isDead():
		o.w.cover("a republish killed")
	case err == nil && sent > 0:
		o.w.cover("a republish")
	case err != nil:
		o.w.cover("a republish that failed")
	}
	_ = bus.Close()
}

// openPublishing makes a bus that knows the destination and no more.
func (w *world) openPublishing(n *node) (*pulse.Bus, error) {
	bus, err := pulse.New(n, &pulse.Options{Source: "/school", Logger: w.log})
	if err == nil {
		err = bus.Publish(school, w.parts.publisher(w.dest.outlet(n)), w.plan.broker.options()...)
	}
	return bus, err
}

// headNow is the end of the log.
func (w *world) headNow() pulse.Position {
	info, err := w.store.Info(context.Background())
	if err != nil {
		w.violate("info: %v", err)
	}
	return info.Head
}
