package pulse

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// A batch the store gets is bounded by these, unless one caller alone brings more.
const (
	batchRecords = 1024
	batchBytes   = 8 << 20
)

// besideRecords is how many records have to wait for another batch to leave before the answer to the one in flight. Measured on PostgreSQL with
// 256 and 1,024 callers against 96, 256 and 512: fewer cost the store more than the wait costs their callers, with more it stands idle.
const besideRecords = 128

// batcher is an Appender that lets concurrent callers share transactions of the store: group commit. It clocks
// itself: an idle store gets a unit at once; while one batch is in flight the next one fills. Where the store takes several at the same
// time the next one leaves before the answer once it is large enough.
//
// The goroutines that write exist only while there is something to write.
type batcher struct {
	store  Appender
	stored func(recs []Record) // called with each batch that was stored; keeps nothing of the slice
	most   int                 // batches in flight

	buffers sync.Pool // of *[]Record, for batches of several units

	mu       sync.Mutex
	pending  []*unit
	waiting  int        // records of pending, those of cancelled units among them
	flushing int        // flush goroutines that exist
	idle     *sync.Cond // signalled when one ends
	closed   bool
}

// unit is what one caller appends.
type unit struct {
	recs []Record
	done chan error // has room for the answer, so that nobody waits for a caller that left

	// Owned by batcher.mu.
	taken     bool // handed to the store: too late to cancel
	cancelled bool // the caller left before
}

func newBatcher(store Appender, stored func(recs []Record)) *batcher {
	b := &batcher{store: store, stored: stored, most: 1}
	b.buffers.New = func() any { return new([]Record) }
	if p, ok := store.(Parallel); ok {
		b.most = max(1, p.ParallelAppends())
	}
	b.idle = sync.NewCond(&b.mu)
	return b
}

// Append appends recs in a transaction shared with other callers and waits for it.
func (b *batcher) Append(ctx context.Context, recs []Record) error {
	u := &unit{recs: recs, done: make(chan error, 1)}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return fmt.Errorf("%w: the bus was closed", ErrClosed)
	}
	b.pending = append(b.pending, u)
	b.waiting += len(recs)
	if b.flushing == 0 || b.another(b.flushing) {
		b.flushing++
		go b.flush()
	}
	b.mu.Unlock()
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		return b.cancel(u, ctx.Err())
	}
}

// cancel answers a caller whose context ended.
func (b *batcher) cancel(u *unit, cause error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case err := <-u.done: // the answer came at the same time
		return err
	default:
	}
	if u.taken {
		return fmt.Errorf("%w: cancelled while the store was writing: %w", ErrUnknown, cause)
	}
	u.cancelled = true
	return fmt.Errorf("%w: nothing was stored", cause)
}

// close refuses new units and waits for those accepted.
func (b *batcher) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for b.flushing > 0 {
		b.idle.Wait()
	}
}

func (b *batcher) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// flush writes batch after batch until nothing is pending.
func (b *batcher) flush() {
	last := 0
	for {
		b.gather(last)
		units := b.take()
		if units == nil {
			return
		}
		last = len(units)
		b.write(units)
	}
}

// gather lets the callers of the last batch come back with their next unit before the next batch leaves; otherwise the first
// of them would travel alone while all the others wait for its sync. It yields only while that brings more.
func (b *batcher) gather(last int) {
	for seen := -1; ; runtime.Gosched() {
		b.mu.Lock()
		n := len(b.pending)
		b.mu.Unlock()
		if n >= last || n == seen {
			return
		}
		seen = n
	}
}

// another reports whether a batch may leave beside so many others. The caller holds b.mu.
func (b *batcher) another(others int) bool { return others < b.most && b.waiting >= besideRecords }

// take removes the next batch from the pending units; nil, once and for all for this goroutine, when there is none, or when it may wait
// for a flush that goes on.
func (b *batcher) take() []*unit {
	b.mu.Lock()
	defer b.mu.Unlock()
	var units []*unit
	if b.flushing > 1 && !b.another(b.flushing-1) {
		return b.endFlush()
	}
	n, records, size := 0, 0, 0
	for _, u := range b.pending {
		if !u.cancelled {
			records += len(u.recs)
			for i := range u.recs {
				size += u.recs[i].Size()
			}
			if len(units) > 0 && (records > batchRecords || size > batchBytes) {
				break
			}
			u.taken = true
			units = append(units, u)
		}
		b.waiting -= len(u.recs)
		n++
	}
	b.pending = append(b.pending[:0], b.pending[n:]...)
	clear(b.pending[len(b.pending):cap(b.pending)])
	if units == nil {
		return b.endFlush()
	}
	return units
}

// endFlush counts the end of a flush goroutine. The caller holds b.mu.
func (b *batcher) endFlush() []*unit {
	b.flushing--
	b.idle.Broadcast()
	return nil
}

// write appends units as one transaction and answers their callers. When a record is refused for its own sake
// the batch is split until only its caller fails.
func (b *batcher) write(units []*unit) {
	recs := units[0].recs
	if len(units) > 1 {
		buf := b.buffers.Get().(*[]Record)
		defer b.buffers.Put(buf)
		defer func() { clear(recs) }() // keeps no payload alive
		recs = (*buf)[:0]
		for _, u := range units {
			recs = append(recs, u.recs...)
		}
		*buf = recs
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	err := b.store.Append(ctx, recs)
	cancel()
	if len(units) > 1 && recordsFault(err) {
		half := len(units) / 2
		b.write(units[:half])
		b.write(units[half:])
		return
	}
	if err == nil {
		b.stored(recs)
	}
	for _, u := range units {
		u.done <- err
	}
}

// recordsFault reports whether err is about a record, not about the store: then its neighbours may pass without it.
func recordsFault(err error) bool {
	return errors.Is(err, ErrBusy) || errors.Is(err, ErrConflict) || errors.Is(err, ErrInvalid) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrSerialization)
}
