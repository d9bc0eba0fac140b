package pulse

import (
	"cmp"
	"container/heap"
	"slices"
	"sync/atomic"
	"time"
)

// item is one delivery inside a session.
type item struct {
	position Position // constant

	env     Envelope       // zero but for what its row says while it is only known by that; while it runs the worker's
	entry   *entry         // its place among the unacknowledged; nil when it came from a row
	row     *DeliveryState // nil while nothing went wrong
	lane    *lane          // nil when it waits for nobody and nobody for it
	attempt int            // the one that runs, or will

	called atomic.Int64 // while its handler runs: since when, in nanoseconds; set by the worker
	hung   bool         // its handler outlived the timeout

	suspect bool // a process died during its last attempt: of it, or of another one at the same time
}

// newItem is the first delivery of an event.
func newItem(env *Envelope, e *entry) *item {
	it := &item{position: env.Position, env: *env, entry: e, attempt: 1}
	e.item = it
	return it
}

func (it *item) fresh() bool { return it.row == nil }

// lane keeps the deliveries of one key in order.
type lane struct {
	key    string
	active *item   // the one that waits for its time, is ready or runs; nil: none does
	fresh  []*item // behind the active one
	rows   []*item // failed ones and their followers, by position; the first holds up the others
}

// insert puts it among the rows and returns its place.
func (l *lane) insert(it *item) int {
	i, found := slices.BinarySearchFunc(l.rows, it.position, func(a *item, p Position) int { return cmp.Compare(a.position, p) })
	if !found {
		l.rows = slices.Insert(l.rows, i, it)
	}
	return i
}

// leave takes it out of the lane.
func (l *lane) leave(it *item) {
	if l.active == it {
		l.active = nil
	}
	if i := slices.Index(l.rows, it); i >= 0 {
		l.rows = slices.Delete(l.rows, i, i+1)
	}
}

// entry is one position a session has read and not yet passed with its cursor.
type entry struct {
	position   Position
	commitment [32]byte
	size       int   // bytes of the envelope; 0 for a place without one
	item       *item // whose place it is; nil when there was nothing to be done
	done       bool
	receipt    uint64 // of the broker's message that brought it, to be acknowledged when it is done; 0 for none
}

// unacked is what a session has read, in order of position: the cursor moves over what is done at its front.
type unacked struct {
	entries []*entry
	size    int // bytes of their envelopes
	unsaved int // entries the cursor passed since it was last saved
}

func (u *unacked) add(e *entry) {
	u.entries = append(u.entries, e)
	u.size += e.size
}

// advance moves c over what is done.
func (u *unacked) advance(c *Cursor) {
	n := 0
	for n < len(u.entries) && u.entries[n].done {
		e := u.entries[n]
		c.Position, c.Commitment = e.position, e.commitment
		u.size -= e.size
		n++
	}
	u.entries = u.entries[n:]
	u.unsaved += n
}

// dueHeap orders items that wait for their next attempt by the time it is due.
type dueHeap []*item

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].row.Due.Before(h[j].row.Due) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(*item)) }
func (h *dueHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return it
}

func (h *dueHeap) push(it *item) { heap.Push(h, it) }

// pop returns the next item due at now; nil when there is none.
func (h *dueHeap) pop(now time.Time) *item {
	if len(*h) == 0 || (*h)[0].row.Due.After(now) {
		return nil
	}
	return heap.Pop(h).(*item)
}
