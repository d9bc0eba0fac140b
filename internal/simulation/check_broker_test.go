package simulation

import (
	"maps"
	"slices"

	"github.com/edupulse-live/pulse"
)

// checkBroker compares the broker with the log.
func (f *facts) checkBroker() {
	first := release{}
	for _, a := range f.arrivals {
		first.at(a.position, a.tick)
		if f.at[a.id] != a.position {
			f.w.violate("G12: the event %s was published as position %d, it is at %d", a.id, a.position, f.at[a.id])
		}
	}
	f.checkPublished(first)
	f.checkArrivals(first)
	f.checkFedAgain()
	f.checkRelayPauses()
}

// snapshot is all that ever arrived. What the broker holds must be what is known of it: that checks the simulation.
func (d *destination) snapshot() (all []*arrival, owed map[pulse.Position]int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	there := d.broker.Messages(school)
	same := len(there) == len(d.stream)
	for i := range there {
		same = same && there[i].ID == d.stream[i].id
	}
	if !same {
		d.w.violate("set-up: the broker holds %d messages, and others than the %d that are known", len(there), len(d.stream))
	}
	return slices.Clone(d.all), maps.Clone(d.owed)
}

// checkPublished: every event that is routed has been stored at the destination, or is a dead letter of the relay, or waits
// behind one, or was dropped by a person.
func (f *facts) checkPublished(first release) {
	holding := map[string]bool{} // keys with a dead letter so far
	for i := range f.log {
		env := &f.log[i]
		if !f.routed(env) {
			continue
		}
		row, ok := f.rows[f.atRelay(env.Position)]
		switch {
		case ok && row.Status == pulse.StatusDead:
			f.w.cover("an event parked by the relay")
			holding[row.Lane] = row.Lane != ""
		case ok && (row.Status != pulse.StatusWaiting || !holding[row.Lane]):
			f.w.violate("G4: the relay is drained and %d is still %s in lane %q", env.Position, row.Status, row.Lane)
		case !ok && first[env.Position] == 0 && !f.dropped(f.atRelay(env.Position)):
			f.w.violate("G4: %d of key %q never arrived at the destination, and is not parked", env.Position, env.Key)
		}
	}
}

// checkFedAgain: what the broker lost, and somebody who is fed from there had not handled, has been published again, or is parked.
func (f *facts) checkFedAgain() {
	last := map[pulse.Position]int64{}
	for _, a := range f.arrivals {
		last[a.position] = max(last[a.position], a.tick)
	}
	for p, since := range f.owed {
		if _, parked := f.rows[f.atRelay(p)]; last[p] < since && !parked && !f.dropped(f.atRelay(p)) {
			f.w.violate("G6: %d was lost by the broker at tick %d and not published again", p, since)
			return // one is enough
		}
	}
}

// checkArrivals: no event appears at the destination before each earlier one of its key did, or was let go.
func (f *facts) checkArrivals(first release) {
	free := f.letGo(f.w.plan.relay, 1)
	for p, tick := range first {
		free.at(p, tick)
	}
	way := f.blocked(free, f.routed)
	for i := range f.log {
		p := f.log[i].Position
		if b := way[p]; first[p] != 0 && first[p] < b.until {
			f.w.violate("G5: %d of key %q appeared at the destination at tick %d, before %d did at tick %d", p, f.log[i].Key, first[p], b.by, b.until)
			return // one is enough
		}
	}
}

// checkRelayPauses: nothing is published while a person has the relay paused. Only where nothing fails is it known how soon
// a pause is noticed.
func (f *facts) checkRelayPauses() {
	for _, p := range f.pauses {
		for _, a := range f.arrivals {
			if f.w.plan.calm && p.sub == f.w.plan.relay.name && a.at > p.from && a.at < p.to {
				f.w.violate("pause: the relay was paused from %v to %v, and %d arrived at %v", p.from-seen, p.to, a.position, a.at)
			}
		}
	}
}

// routed reports whether the event is to be published.
func (f *facts) routed(env *pulse.Envelope) bool { return !f.w.plan.broker.route || isLesson(env) }

// atRelay is the delivery of an event through the relay.
func (f *facts) atRelay(p pulse.Position) visited { return visited{f.w.plan.relay.name, 1, p} }

// dropped reports whether a person dropped a delivery.
func (f *facts) dropped(v visited) bool {
	for _, d := range f.settled {
		if d.visited == v && d.how == pulse.SettleDrop {
			return true
		}
	}
	return false
}
