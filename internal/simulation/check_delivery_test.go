package simulation

import (
	"strings"

	"github.com/edupulse-live/pulse"
)

// checkEffects: what a transactional handler does exists once, if and only if the call committed. What a plain
// one does exists when it is done.
func (f *facts) checkEffects() {
	made := map[visited]pulse.Position{}
	for i := range f.log {
		env := &f.log[i]
		if env.Name != "effect.made" {
			continue
		}
		var e effect
		if err := env.Decode(&e); err != nil {
			f.w.violate("effect: %v", err)
		}
		v := visited{e.Subscription, e.Generation, e.Position}
		if p, ok := made[v]; ok {
			f.w.violate("G7: the effect of %d in %q, generation %d, exists at %d and at %d", v.position, v.sub, v.generation, p, env.Position)
		}
		made[v] = env.Position
		if f.at[e.Of] != e.Position || env.Causation != e.Of && !strings.HasPrefix(e.Subscription, "batch") { // the cause of a batch is its first event
			f.w.violate("causation: the effect at %d of %d says it was caused by %s", env.Position, e.Position, env.Causation)
		}
	}
	done := map[visited]bool{}
	for _, c := range f.calls {
		for _, v := range c.visits {
			f.checkEffect(c, v, made)
			if c.tx != nil && c.done() != 0 {
				done[visited{c.sub.name, c.generation, v.position}] = true
			}
		}
	}
	for v, p := range made {
		if !done[v] {
			f.w.violate("G7: the effect at %d of %d in %q, generation %d, is of no call that committed", p, v.position, v.sub, v.generation)
		}
	}
}

func (f *facts) checkEffect(c *call, v visit, made map[visited]pulse.Position) {
	switch {
	case c.tx != nil && c.tx.commit != 0 && c.outcome != handled:
		f.w.violate("G7: the call of %q for %v ended with %q and committed", c.sub.name, positions(c), c.outcome)
	case c.done() == 0:
	case c.tx != nil && made[visited{c.sub.name, c.generation, v.position}] == 0:
		f.w.violate("G7: %q committed %d, generation %d, and the effect does not exist", c.sub.name, v.position, c.generation)
	case c.sub.name == "plain" && v.id[15] < 128 && f.at[followID(v.id)] == 0:
		f.w.violate("G1: what followed %d was acknowledged and is not stored", v.position)
	}
}

// checkHandled: every event from the start of the present generation on is handled, or a dead letter, or waits behind one, or was
// dropped by a person. Nothing is left that would still be tried.
func (f *facts) checkHandled(s *sub) {
	generation := f.generation(s.name)
	handled, dropped := map[pulse.Position]bool{}, map[pulse.Position]bool{}
	for _, c := range f.calls {
		for _, v := range c.visits {
			if c.sub == s && c.generation == generation && c.done() != 0 {
				handled[v.position] = true
			}
		}
	}
	for _, d := range f.settled {
		if d.sub == s.name && d.generation == generation && d.how == pulse.SettleDrop {
			dropped[d.position] = true
		}
	}
	holding := map[string]bool{} // lanes with a dead letter so far
	for i := range f.log {
		env := &f.log[i]
		if !isLesson(env) || env.Position < f.starts[s.name][generation-1] {
			continue
		}
		row, ok := f.rows[visited{s.name, generation, env.Position}]
		switch {
		case ok && row.Status == pulse.StatusDead:
			if row.Lane != "" {
				holding[row.Lane] = true
			}
		case ok && (row.Status != pulse.StatusWaiting || !holding[row.Lane]):
			f.w.violate("G4: %q is drained and %d is still %s in lane %q", s.name, env.Position, row.Status, row.Lane)
		case !ok && !handled[env.Position] && !dropped[env.Position]:
			f.w.violate("G4: %q, generation %d, lost %d of key %q", s.name, generation, env.Position, env.Key)
		}
	}
}

// checkDead: a dead letter says why, after as many attempts as the policy has, or parked; and what a shutdown
// interrupted or what was unavailable has spent none.
func (f *facts) checkDead(s *sub) {
	for v, row := range f.rows {
		if v.sub != s.name || row.Status != pulse.StatusDead {
			continue
		}
		f.w.cover("a dead letter")
		parked := strings.Contains(row.Error, errPoison.Error())
		if row.Error == "" || row.FailedAt.IsZero() || row.Attempt < 1 || row.Attempt > s.policy.Attempts || row.Attempt < s.policy.Attempts && !parked {
			f.w.violate("G9: the dead letter %d of %q after %d of %d attempts says %q", v.position, s.name, row.Attempt, s.policy.Attempts, row.Error)
		}
		spent, unsure := f.spent(s, v)
		if row.Attempt > spent+unsure || f.w.plan.calm && row.Attempt < spent {
			f.w.violate("G9: the dead letter %d of %q counts %d attempts; handlers failed %d times, %d more may have (%s)", v.position, s.name, row.Attempt, spent, unsure, row.Error)
		}
	}
}

// checkDropped: what a person has dropped is not handled any more. A process that was frozen may not know.
func (f *facts) checkDropped(s *sub) {
	dropped := map[visited]int64{}
	for _, d := range f.settled {
		if d.sub == s.name && d.how == pulse.SettleDrop {
			dropped[d.visited] = d.tick
		}
	}
	for _, c := range f.calls {
		for _, v := range c.visits {
			tick, ok := dropped[visited{s.name, c.generation, v.position}]
			if ok && c.sub == s && c.begin > tick && !c.node.thawed.Load() {
				f.w.violate("G4: %s handles %d of %q at tick %d, which was dropped at tick %d", c.node.name, v.position, s.name, c.begin, tick)
			}
		}
	}
}

// spent counts the attempts that failed since a person last let the delivery begin anew, and those that may have.
func (f *facts) spent(s *sub, v visited) (spent, unsure int) {
	var since int64
	for _, d := range f.settled {
		if d.visited == v && d.how != pulse.SettleSkip {
			since = d.tick
		}
	}
	for _, c := range f.calls {
		if c.sub != s || c.generation != v.generation || c.begin < since || !c.handles(v.position, len(c.visits)) {
			continue
		}
		fails := (c.outcome == failed || c.outcome == parked) && len(c.visits) == 1 // a larger batch is split
		switch {
		case fails && !c.stopped && !c.late && s.batch == 0: // a batch reports when all of it is tried
			spent++
		case fails || c.outcome == killed || c.outcome == handled && c.done() == 0:
			unsure++
		case c.outcome == failed && c.late: // a batch that was taken for hung is noted as being tried until all its parts are
			unsure++
		}
	}
	if !f.w.plan.calm {
		unsure += f.recorded[v]
	}
	return spent, unsure
}

// checkNothingLeft: with handlers mended and all dead letters tried again there is no delivery left.
func (w *world) checkNothingLeft() {
	if text := w.dump(); strings.Contains(text, " lane ") {
		w.violate("G9: not everything was handled in the end\n%s", text)
	}
}
