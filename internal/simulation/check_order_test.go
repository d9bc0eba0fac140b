package simulation

import (
	"math"

	"github.com/edupulse-live/pulse"
)

// checkOrder: no event of a key is tried before each earlier one of that key is handled, or let go by a person, or,
// where that is the policy, given up.
func (f *facts) checkOrder(s *sub, generation int) {
	free := f.released(s, generation)
	// blocked is, for each position, the tick from which nothing before it holds it up.
	blocked := map[pulse.Position]int64{}
	holder := map[pulse.Position]pulse.Position{}
	type last struct {
		tick     int64
		position pulse.Position
	}
	latest := map[string]last{}
	for i := range f.log {
		env := &f.log[i]
		if !isLesson(env) || env.Key == "" || env.Position < f.starts[s.name][generation-1] {
			continue
		}
		l := latest[env.Key]
		blocked[env.Position], holder[env.Position] = l.tick, l.position
		tick, ok := free[env.Position]
		if !ok {
			tick = math.MaxInt64
		}
		if tick > l.tick {
			latest[env.Key] = last{tick, env.Position}
		}
	}
	for _, c := range f.calls {
		if c.sub != s || c.generation != generation {
			continue
		}
		for i, v := range c.visits {
			if c.begin < blocked[v.position] && !c.handles(holder[v.position], i) {
				f.w.violate("G10: %s tried %d of %q, key %q, at tick %d, before %d was out of its way at tick %d",
					c.node.name, v.position, s.name, v.key, c.begin, holder[v.position], blocked[v.position])
			}
		}
	}
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
func (f *facts) released(s *sub, generation int) map[pulse.Position]int64 {
	free := map[pulse.Position]int64{}
	release := func(p pulse.Position, tick int64) {
		if old, ok := free[p]; !ok || tick < old {
			free[p] = tick
		}
	}
	for _, c := range f.calls {
		if c.sub != s || c.generation != generation {
			continue
		}
		for _, v := range c.visits {
			if done := c.done(); done != 0 {
				release(v.position, done)
			} else if s.skip && c.end != 0 && (c.outcome == parked || v.attempt >= s.policy.Attempts) {
				release(v.position, c.end)
			}
		}
	}
	for _, d := range f.settled {
		if d.sub == s.name && d.generation == generation && d.how != pulse.SettleRetry {
			release(d.position, d.tick)
		}
	}
	for v, tick := range f.dying {
		if s.skip && v.sub == s.name && v.generation == generation {
			release(v.position, tick)
		}
	}
	return free
}
