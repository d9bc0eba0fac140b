package pulse

import (
	"context"
	"time"
)

const (
	// soonFirst is how soon the log is looked at again after a sign that something is about to be committed that nobody will tell of. The
	// longer that takes, the longer the intervals, up to pollInterval.
	soonFirst = 2 * time.Millisecond
	// relisten is the wait after hints of other processes could not be heard.
	relisten = time.Second
)

// nextLook is how long to wait until the log is looked at again, so long after the last sign that it will grow: an eighth of that time.
func nextLook(since time.Duration) time.Duration {
	return min(max(since/8, soonFirst), pollInterval)
}

// stored takes in what a batch has stored, and tells of it.
func (b *Bus) stored(recs []Record) {
	b.emitted.keepRecords(recs)
	b.committed()
}

// committed tells that something was committed: to this process at once, to the others if the store can.
func (b *Bus) committed() {
	b.head.poke()
	b.hintOthers()
}

// appended tells of what was appended to a transaction, about whose end nobody may tell.
func (b *Bus) appended(to Appender, recs []Record) {
	if e, ok := b.store.(Expecter); ok {
		e.Expect(recs)
	}
	if _, told := to.(untilWake); !told {
		b.head.expect()
		b.hintOthers()
	}
}

func (b *Bus) hintOthers() {
	if h, ok := b.store.(Hinter); ok {
		h.Hint()
	}
}

// listen takes hints from other processes until ctx ends. Without them the log is looked at every pollInterval.
func (b *Bus) listen(ctx context.Context, h Hinter) {
	for failing := false; ctx.Err() == nil; {
		began := time.Now()
		err := h.Listen(ctx, func() {
			b.head.expect()
			b.head.poke()
		})
		if ctx.Err() != nil {
			return
		}
		failing = failing && time.Since(began) < relisten
		if !failing {
			failing = true
			b.log.Warn("pulse: hints from other processes are not heard, what they emit is found a little later", "error", err)
		}
		pause(ctx, relisten)
	}
}
