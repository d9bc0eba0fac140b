package simulation

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// facts is what the checkers compare: the history on one side, what the store holds on the other. The names of the
// promises are those of the list of guarantees.
type facts struct {
	*history
	w    *world
	log  []pulse.Envelope
	at   map[uuid.UUID]pulse.Position
	rows map[visited]pulse.DeliveryState // of the present generations

	arrivals []*arrival               // all there were at the destination
	owed     map[pulse.Position]int64 // lost there, to be published again
}

// check compares everything.
func (w *world) check() {
	f := &facts{history: w.history, w: w}
	if w.dest != nil {
		f.arrivals, f.owed = w.dest.snapshot()
	}
	f.log, f.at, f.rows = w.readLog(0), map[uuid.UUID]pulse.Position{}, map[visited]pulse.DeliveryState{}
	rows, err := w.store.List(context.Background(), pulse.DeliveryQuery{})
	if err != nil {
		w.violate("list: %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.log {
		env := &f.log[i]
		if p, ok := f.at[env.ID]; ok {
			w.violate("G2: the event %s is stored at %d and at %d", env.ID, p, env.Position)
		}
		f.at[env.ID] = env.Position
	}
	for _, row := range rows {
		f.rows[visited{row.Subscription, f.generation(row.Subscription), row.Position}] = row
	}
	f.checkEmissions()
	f.checkUnits()
	f.checkVisits()
	f.checkEffects()
	f.checkPauses()
	if w.dest != nil {
		f.checkBroker()
	}
	for _, s := range w.plan.subs {
		f.checkHandled(s)
		f.checkDead(s)
		f.checkDropped(s)
		for generation := 1; s.ordered && generation <= f.generation(s.name); generation++ {
			f.checkOrder(s, generation)
		}
	}
}

// generation is the present one of a subscription.
func (f *facts) generation(sub string) int { return len(f.starts[sub]) }

// isLesson reports whether subscriptions handle the event.
func isLesson(env *pulse.Envelope) bool { return strings.HasPrefix(env.Name, "lesson.") }

// checkEmissions: acknowledged is stored, refused is not, in the order of the emits of each lesson, and nothing was made up.
func (f *facts) checkEmissions() {
	known := map[uuid.UUID]bool{}
	newest := map[string]*emission{}
	for _, m := range f.emissions {
		known[m.id] = true
		position := f.at[m.id]
		switch {
		case m.answer == acked && position == 0:
			f.w.violate("G1: %s was acknowledged and is not stored", m.label)
		case m.answer == refused && position != 0:
			f.w.violate("G2: %s was refused and is stored at %d", m.label, position)
		}
		if m.answer != acked || m.key == "" {
			continue
		}
		if last := newest[m.key]; last != nil && f.at[last.id] >= position {
			f.w.violate("G5: %s of %s at %d was emitted before %s at %d", last.label, m.key, f.at[last.id], m.label, position)
		}
		newest[m.key] = m
	}
	for i := range f.log {
		env := &f.log[i]
		if (isLesson(env) || env.Name == "quiz.taken") && !known[env.ID] {
			f.w.violate("G3: nobody emitted %s at %d", env.Data, env.Position)
		}
	}
}

// checkUnits: of a unit all events are stored or none; those of EmitAll stand next to each other.
func (f *facts) checkUnits() {
	units := map[string][]*emission{}
	for _, m := range f.emissions {
		if m.unit != "" {
			units[m.unit] = append(units[m.unit], m)
		}
	}
	for unit, ms := range units {
		for i, m := range ms[1:] {
			last, position := f.at[ms[i].id], f.at[m.id]
			if (last == 0) != (position == 0) {
				f.w.violate("G3: of %s, %s is at %d but %s at %d", unit, ms[i].label, last, m.label, position)
			}
			if position != 0 && strings.Contains(unit, "/all/") && position != last+1 {
				f.w.violate("G3: of %s, %s is at %d but %s at %d: not next to each other", unit, ms[i].label, last, m.label, position)
			}
		}
	}
}

// checkVisits: handlers got what is stored, as an attempt the policy allows, under one idempotency key.
func (f *facts) checkVisits() {
	type effect struct {
		sub string
		id  uuid.UUID
	}
	keyOf, byKey := map[effect]string{}, map[string]effect{}
	for _, c := range f.calls {
		for _, v := range c.visits {
			if f.at[v.id] != v.position {
				f.w.violate("G12: %q got the event %s as position %d, it is at %d", c.sub.name, v.id, v.position, f.at[v.id])
			}
			if v.attempt < 1 || v.attempt > c.sub.policy.Attempts {
				f.w.violate("G9: %q tried %d as attempt %d of %d", c.sub.name, v.position, v.attempt, c.sub.policy.Attempts)
			}
			e := effect{c.sub.name, v.id}
			if key, ok := keyOf[e]; ok && key != v.idem {
				f.w.violate("G8: the effect of %d in %q is named %q and %q", v.position, c.sub.name, key, v.idem)
			}
			if other, ok := byKey[v.idem]; ok && other != e {
				f.w.violate("G8: the key %q names two effects", v.idem)
			}
			keyOf[e], byKey[v.idem] = v.idem, e
		}
	}
}

// checkPauses: nothing begins while a person has the subscription paused. Batches may finish what they split. Only where
// nothing fails is it known how soon a pause is noticed.
func (f *facts) checkPauses() {
	for _, p := range f.pauses {
		for _, c := range f.calls {
			if f.w.plan.calm && c.sub.batch == 0 && c.sub.name == p.sub && c.at > p.from && c.at < p.to {
				f.w.violate("pause: %q was paused from %v to %v, and handled %v at %v", p.sub, p.from-seen, p.to, positions(c), c.at)
			}
		}
	}
}
