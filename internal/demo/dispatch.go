package demo

import "sync"

// dispatcher hands the events of a plan to many emitters: in order, but never two of one key at the same time, and those
// of one key strictly one after the other.
type dispatcher struct {
	plan *plan

	mu      sync.Mutex
	next    int     // first event not looked at yet
	busy    []bool  // by key: one of its events is being emitted
	first   []int32 // by key: the first event passed over meanwhile, or -1
	last    []int32 // by key: the last one
	follows []int32 // by event: the next one passed over of its key, or -1; filled as needed
}

func newDispatcher(p *plan) *dispatcher {
	d := &dispatcher{plan: p, busy: make([]bool, p.keys()), first: make([]int32, p.keys()), last: make([]int32, p.keys()), follows: make([]int32, len(p.events))}
	for i := range d.first {
		d.first[i] = -1
	}
	return d
}

// take returns the next event to emit; ok is false when none is left that could start now. Those left then follow
// one that is being emitted, whose emitter gets them from done.
func (d *dispatcher) take() (event int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.next < len(d.plan.events) {
		i := d.next
		d.next++
		k := d.plan.key(&d.plan.events[i])
		if !d.busy[k] {
			d.busy[k] = true
			return i, true
		}
		d.defers(k, int32(i))
	}
	return 0, false
}

// defers passes over an event whose key is busy.
func (d *dispatcher) defers(k int, i int32) {
	if d.first[k] < 0 {
		d.first[k] = i
	} else {
		d.follows[d.last[k]] = i
	}
	d.follows[i], d.last[k] = -1, i
}

// done says that an event was emitted and returns what to emit next: one of the same key that was passed over, or
// else what take returns.
func (d *dispatcher) done(event int) (next int, ok bool) {
	k := d.plan.key(&d.plan.events[event])
	d.mu.Lock()
	if i := d.first[k]; i >= 0 {
		d.first[k] = d.follows[i]
		d.mu.Unlock()
		return int(i), true
	}
	d.busy[k] = false
	d.mu.Unlock()
	return d.take()
}
