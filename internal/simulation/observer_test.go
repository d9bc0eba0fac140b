package simulation

import (
	"context"
	"time"

	"github.com/edupulse-live/pulse"
)

// observe looks at the store from outside until stop: what was seen once must stay so. In between it looks at the end of the
// log, at last at all of it.
func (w *world) observe(stop <-chan struct{}) {
	o := &observer{w: w, cursors: map[string]pulse.SubscriptionState{}}
	for {
		o.look(len(o.log) - 30)
		select {
		case <-stop:
			o.look(0)
			return
		case <-time.After(700 * time.Millisecond):
		}
	}
}

type observer struct {
	w       *world
	log     []pulse.Envelope
	cursors map[string]pulse.SubscriptionState
}

// look looks at the subscriptions, and at the log after an index.
func (o *observer) look(after int) {
	o.lookAtLog(max(after, 0))
	states, err := o.w.store.States(context.Background())
	if err != nil {
		o.w.violate("observer: %v", err)
	}
	for _, s := range states {
		last := o.cursors[s.Name]
		if o.w.dest != nil && s.Name == o.w.plan.relay.name {
			last.Cursor.Position = 0 // it feeds again what was lost, or seems to be
		}
		if s.Generation < last.Generation || s.Generation == last.Generation && s.Cursor.Position < last.Cursor.Position {
			o.w.violate("G12: %q went back from generation %d, position %d to %d, %d", s.Name, last.Generation, last.Cursor.Position, s.Generation, s.Cursor.Position)
		}
		if s.Cursor.Position > s.Head {
			o.w.violate("G14: %q is at %d, the log ends at %d", s.Name, s.Cursor.Position, s.Head)
		}
		o.cursors[s.Name] = s
	}
}

// lookAtLog compares the log with what it was: positions are gapless and an envelope keeps its own.
func (o *observer) lookAtLog(after int) {
	log := append(o.log[:after:after], o.w.readLog(pulse.Position(after))...)
	for i := after; i < len(log); i++ {
		env := &log[i]
		if env.Position != pulse.Position(i+1) {
			o.w.violate("G12: the envelope at index %d has position %d", i, env.Position)
		}
		if i < len(o.log) && (o.log[i].ID != env.ID || o.log[i].Commitment != env.Commitment || !o.log[i].RecordedAt.Equal(env.RecordedAt)) {
			o.w.violate("G12: position %d was %s and is %s", env.Position, o.log[i].ID, env.ID)
		}
	}
	if len(log) < len(o.log) {
		o.w.violate("G12: the log had %d events and has %d", len(o.log), len(log))
	}
	o.log = log
}

// readLog reads the log after a position.
func (w *world) readLog(after pulse.Position) []pulse.Envelope {
	var log []pulse.Envelope
	q := pulse.Query{After: after}
	for {
		page, err := w.store.Read(context.Background(), q)
		if err != nil {
			w.violate("read of the log: %v", err)
			return log
		}
		log = append(log, page.Envelopes...)
		if page.Next <= q.After {
			return log
		}
		q.After = page.Next
	}
}
