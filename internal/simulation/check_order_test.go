package simulation

import (
	"math"

	"github.com/edupulse-live/pulse"
)

// checkOrder: no event of a key is tried before each earlier one of that key is handled, or let go by a person, or,
// where that is the policy, given up.
func (f *facts) checkOrder(s *sub, generation int) {
	way := f.blocked(f.released(s, generation), func(env *pulse.Envelope) bool {
		return isLesson(env) && env.Position >= f.starts[s.name][generation-1]
	})
	for _, c := range f.calls {
		if c.sub != s || c.generation != generation {
			continue
		}
		for i, v := range c.visits {
			if b := way[v.position]; c.begin < b.until && !c.handles(b.by, i) {
				f.w.violate("G10: %s tried %d of %q, key %q, at tick %d, before %d was out of its way at tick %d",
					c.node.name, v.position, s.name, v.key, c.begin, b.by, b.until)
			}
		}
	}
}

// blocked is what holds up an event longest of those of its key before it, and until which tick.
type blocked struct {
	until int64
	by    pulse.Position
}

// blocked tells for each event with a key how long those before it hold it up, when free is the tick at which each of them no
// longer does.
func (f *facts) blocked(free map[pulse.Position]int64, concerns func(*pulse.Envelope) bool) map[pulse.Position]blocked {
	way, latest := map[pulse.Position]blocked{}, map[string]blocked{}
	for i := range f.log {
		env := &f.log[i]
		if env.Key == "" || !concerns(env) {
			continue
		}
		way[env.Position] = latest[env.Key]
		tick, ok := free[env.Position]
		if !ok {
			tick = math.MaxInt64
		}
		if tick > latest[env.Key].until {
			latest[env.Key] = blocked{tick, env.Position}
		}
	}
	return way
}

// handles reports whether p is among the first i visits of the call.
func (c *call) handles(p pulse.Position, i int) bool {
	for _, v := range c.visits[:i] {
		if v.position == p {
			return true
		}
	}
	return false
}

// released gives the tick at which each position stopped holding up its key.
func (f *facts) released(s *sub, generation int) release {
	free := f.letGo(s, generation)
	for _, c := range f.calls {
		if c.sub != s || c.generation != generation {
			continue
		}
		for _, v := range c.visits {
			if done := c.done(); done != 0 {
				free.at(v.position, done)
			}
		}
	}
	return free
}

// release is the tick at which each position stopped holding up its key.
type release map[pulse.Position]int64

func (r release) at(p pulse.Position, tick int64) {
	if old, ok := r[p]; !ok || tick < old {
		r[p] = tick
	}
}

// letGo is what people, or the policy, let others pass.
func (f *facts) letGo(s *sub, generation int) release {
	free := release{}
	for _, d := range f.settled {
		if d.sub == s.name && d.generation == generation && d.how != pulse.SettleRetry {
			free.at(d.position, d.tick)
		}
	}
	for v, tick := range f.dying {
		if s.skip && v.sub == s.name && v.generation == generation {
			free.at(v.position, tick)
		}
	}
	return free
}
