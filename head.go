package pulse

import (
	"context"
	"sync"
	"time"
)

// pollInterval is how often the head of the log is looked at without a hint, for what other processes emit.
const pollInterval = 20 * time.Millisecond

// After a look that found something, and during which more was committed, as it was a moment before, the next one waits for a multiple of the time
// it took, so that the events of a stream share it, and what it leads to: a look that gives positions is a transaction. Events that come
// one by one, or two at a time, wait for nothing.
const (
	restTimes = 2
	longest   = 10 * time.Millisecond // rest, and how long ago it was
)

// headSignal tells readers of the log that it has grown.
type headSignal struct {
	hint   chan struct{} // has room for one: something may have been committed
	sooner chan struct{} // has room for one: there was a sign

	mu      sync.Mutex
	head    Position
	grown   chan struct{} // closed and replaced when head grows
	sign    time.Time     // the last one that the log will grow without a hint
	readers int           // that wait for it
}

func (h *headSignal) init() {
	h.hint, h.sooner = make(chan struct{}, 1), make(chan struct{}, 1)
	h.grown = make(chan struct{})
}

// poke hints that the log may have grown.
func (h *headSignal) poke() { leave(h.hint) }

// leave puts a sign into c, unless one is there.
func leave(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// hinted reports whether the log may have grown since the last look began.
func (h *headSignal) hinted() bool {
	return len(h.hint) != 0
}

// expect is a sign that the log will grow in a moment, without a hint.
func (h *headSignal) expect() {
	h.mu.Lock()
	h.sign = time.Now()
	h.mu.Unlock()
	leave(h.sooner)
}

// interval is how long to wait until the head is looked at again. When nobody waits for it there is no hurry.
func (h *headSignal) interval() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers == 0 {
		return pollInterval
	}
	return nextLook(time.Since(h.sign))
}

// watchHead follows the head of the log until ctx ends.
func (b *Bus) watchHead(ctx context.Context) {
	failing := false
	var overtaken time.Time // when more was committed during a look
	for {
		began := time.Now()
		info, err := b.store.Info(ctx)
		switch {
		case err == nil:
			if failing {
				failing = false
				b.log.Info("pulse: the log can be looked at again")
			}
			b.enter(info.Epoch)
			b.emitted.keep(info.Newest)
			if b.head.set(info.Head) && b.head.hinted() {
				if time.Since(overtaken) < longest {
					pause(ctx, min(restTimes*time.Since(began), longest))
				}
				overtaken = time.Now()
			}
		case ctx.Err() == nil && !failing:
			failing = true
			b.log.Error("pulse: the log cannot be looked at, trying on", "error", err)
		}
		if !b.head.untilNextLook(ctx) {
			return
		}
	}
}

// enter begins again when the log is in another epoch: what was read before may not be in it any more, and something else in its place.
func (b *Bus) enter(epoch int) {
	if b.epoch.Swap(int64(epoch)) == int64(epoch) {
		return
	}
	b.emitted.forget()
	b.published.forget()
	b.pokeRunner("")
}

// untilNextLook waits until the head is to be looked at again. It is false when ctx has ended.
func (h *headSignal) untilNextLook(ctx context.Context) bool {
	wait := h.interval()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for due := time.Now().Add(wait); ; {
		select {
		case <-ctx.Done():
			return false
		case <-h.hint:
			return true
		case <-timer.C:
			return true
		case <-h.sooner:
			if wait := h.interval(); wait < time.Until(due) { // only ever sooner, however many signs there are
				due = time.Now().Add(wait)
				timer.Reset(wait)
			}
		}
	}
}

// set takes over the head and reports whether it is another.
func (h *headSignal) set(head Position) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if head == h.head {
		return false
	}
	h.head = head
	close(h.grown)
	h.grown = make(chan struct{})
	return true
}

// read is wait for a reader, for whose sake the head is looked at often.
func (h *headSignal) read(ctx context.Context, after Position) error {
	h.count(1)
	defer h.count(-1)
	return h.wait(ctx, after)
}

func (h *headSignal) count(readers int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readers += readers
}

// wait returns nil when the log has more than after, and an error when ctx has ended, also when both are so.
func (h *headSignal) wait(ctx context.Context, after Position) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h.mu.Lock()
		head, grown := h.head, h.grown
		h.mu.Unlock()
		if head > after {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// now returns the head as last seen.
func (h *headSignal) now() Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.head
}
