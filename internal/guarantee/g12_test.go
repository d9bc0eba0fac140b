//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// Emits, transactions and rollbacks at the same time, readers beside them: positions have no gap, whoever sees one has seen all
// before it, none changes, and what one caller emits one after the other is in that order.
func TestG12_PositionsAreGaplessAndFinal(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		w := open(t, newPlace(t, k), "")
		b := newBusyLog(t, w, scaled(400, 60))
		b.readBeside(t, 3)
		b.emitBeside(t)
		b.check(t)
	})
}

// The same with two other processes that emit into the same log, and are killed in the end.
func TestG12_PositionsAreGaplessAmongProcesses(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		w := open(t, newPlace(t, k), "")
		b := newBusyLog(t, w, scaled(60, 30))
		const pace = 5 * time.Millisecond // who waits for SQLite's lock has no place in a queue
		b.pace = pace
		others := []*process{
			start(t, k, w.place, childSpec{Role: "emit", Base: 1_000_000, Pace: pace}),
			start(t, k, w.place, childSpec{Role: "emit", Base: 2_000_000, Pace: pace}),
		}
		for _, p := range others {
			p.awaitLines(t, "ack", 10)
		}
		b.readBeside(t, 2)
		b.emitBeside(t)
		for i, p := range others {
			p.awaitLines(t, "ack", scaled(100, 50))
			p.kill()
			t.Logf("process %d had %d emits acknowledged", i, len(p.lines("ack")))
			for _, line := range p.lines("error") {
				t.Errorf("process %d: %s", i, line)
			}
		}
		b.check(t)
	})
}

// busyLog is a log into which many emit while others read.
type busyLog struct {
	*world
	each    int           // emits of each emitter
	pace    time.Duration // between two of them
	readers sync.WaitGroup
	done    chan struct{} // closed when all have emitted

	mu      sync.Mutex
	at      map[pulse.Position]uuid.UUID // as the first reader saw it
	emitted [][]uuid.UUID                // by emitter, in order
	pages   atomic.Int64
	undone  atomic.Int64
}

func newBusyLog(t *testing.T, w *world, each int) *busyLog {
	return &busyLog{world: w, each: each, done: make(chan struct{}), at: map[pulse.Position]uuid.UUID{}}
}

// readBeside starts readers, who read on until all have emitted and what there was then is read: other processes may never stop.
func (b *busyLog) readBeside(t *testing.T, n int) {
	for i := range n {
		b.readers.Go(func() { b.read(t, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
}

func (b *busyLog) read(t *testing.T, random *rand.Rand) {
	ctx := context.WithoutCancel(t.Context())
	var q pulse.Query
	end := pulse.Position(-1) // the head when all had emitted
	for {
		over := false
		select {
		case <-b.done:
			over = true
		default:
		}
		info, err := b.store.Info(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		if over && end < 0 {
			end = info.Head
		}
		if over && q.After >= end {
			return
		}
		q.Limit = 1 + random.IntN(50)
		page, err := b.store.Read(ctx, q)
		if err != nil {
			t.Error(err)
			return
		}
		b.pages.Add(1)
		if !b.note(t, q.After, page) {
			return
		}
		if page.Next == q.After && info.Head > q.After {
			t.Errorf("the head is %d, but after %d there is nothing to read", info.Head, q.After)
			return
		}
		q.After = page.Next
		if len(page.Envelopes) > 0 {
			continue
		}
		select {
		case <-b.done:
		case <-time.After(time.Millisecond): // it would read nothing thousands of times
		}
	}
}

// note compares a page with what others saw.
func (b *busyLog) note(t *testing.T, after pulse.Position, page pulse.Page) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, env := range page.Envelopes {
		if env.Position != after+1 {
			t.Errorf("position %d follows %d", env.Position, after)
			return false
		}
		after = env.Position
		if id, known := b.at[after]; known && id != env.ID {
			t.Errorf("at position %d one reader saw %s, another one %s", after, id, env.ID)
			return false
		}
		b.at[after] = env.ID
	}
	if page.Next != after {
		t.Errorf("the page ends with %d, the next begins after %d", after, page.Next)
	}
	return page.Next == after
}

// emitBeside emits from many goroutines, alone, in units, in transactions of all sorts, and rolled back.
func (b *busyLog) emitBeside(t *testing.T) {
	t.Helper()
	ways := b.transactions(b.world)
	var emitters sync.WaitGroup
	for i := range 4 {
		emitters.Go(func() { b.emitter(t, i, nil) })
	}
	for _, way := range ways {
		emitters.Go(func() { b.emitter(t, 10, way) })
	}
	emitters.Wait()
	close(b.done)
	b.readers.Wait()
}

// emitter emits one after the other; with a way, in transactions.
func (b *busyLog) emitter(t *testing.T, i int, way transaction) {
	var own []uuid.UUID
	for n := range b.each {
		time.Sleep(b.pace)
		ids, err := b.emitOne(t, i, n, way)
		if errors.Is(err, errGiveUp) {
			b.undone.Add(1)
			continue
		}
		if err != nil {
			t.Errorf("emit: %v", err)
			return
		}
		own = append(own, ids...)
		if n%20 == 0 {
			b.checkHead(t, ids[len(ids)-1])
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.emitted = append(b.emitted, own)
}

func (b *busyLog) emitOne(t *testing.T, i, n int, way transaction) (ids []uuid.UUID, err error) {
	ctx := t.Context()
	evs := []pulse.Event{lesson{Key: fmt.Sprint(i), N: n}, lesson{Key: fmt.Sprint(i), N: n}, lesson{Key: fmt.Sprint(i), N: n}}
	switch {
	case way == nil && n%4 == 0:
		return b.bus.EmitAll(ctx, evs)
	case way == nil:
		id, err := b.bus.Emit(ctx, evs[0])
		return []uuid.UUID{id}, err
	}
	err = way(ctx, func(_ any, e pulse.Emitter) error {
		if ids, err = e.EmitAll(ctx, evs[:1+n%3]); err != nil {
			return err
		}
		if n%3 == 0 {
			return errGiveUp
		}
		return nil
	})
	return ids, err
}

// checkHead checks that what was acknowledged is at or below the head that is asked for afterwards.
func (b *busyLog) checkHead(t *testing.T, id uuid.UUID) {
	ctx := t.Context()
	info, err := b.store.Info(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	for q := (pulse.Query{After: max(0, info.Head-2000), Through: info.Head}); ; {
		page, err := b.store.Read(ctx, q)
		if err != nil {
			t.Error(err)
			return
		}
		for _, env := range page.Envelopes {
			if env.ID == id {
				return
			}
		}
		if page.Next == q.After {
			t.Errorf("event %s was acknowledged, but is not among the last up to the head %d", id, info.Head)
			return
		}
		q.After = page.Next
	}
}

// check compares what readers saw with the log as it is in the end, and the order of each emitter.
func (b *busyLog) check(t *testing.T) {
	t.Helper()
	stored := b.stored(t)
	for position, id := range b.at {
		if stored[id].Position != position {
			t.Errorf("event %s was seen at position %d and is at %d", id, position, stored[id].Position)
		}
	}
	total := 0
	for _, own := range b.emitted {
		last := pulse.Position(0)
		for _, id := range own {
			if p := stored[id].Position; p <= last {
				t.Errorf("event %s is at position %d, after one that was emitted before it and is at %d", id, p, last)
			} else {
				last = p
			}
		}
		total += len(own)
	}
	if file, ok := b.place.(*sqlitePlace); ok {
		file.checkFrozen(t)
	}
	t.Logf("%d events of %d emitters, %d in the log, %d seen by readers in %d pages, %d transactions rolled back",
		total, len(b.emitted), len(stored), len(b.at), b.pages.Load(), b.undone.Load())
	atLeast(t, "events seen by readers", len(b.at), total)
	atLeast(t, "pages", int(b.pages.Load()), 20)
	atLeast(t, "transactions rolled back", int(b.undone.Load()), b.each/2)
}

// checkFrozen tries to change and to remove events behind the store's back.
func (p *sqlitePlace) checkFrozen(t *testing.T) {
	t.Helper()
	db, err := openUserDB(p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		"UPDATE events SET position = position + 1000000 WHERE position = 3",
		"UPDATE events SET data = '{}' WHERE position = 3",
		"DELETE FROM events WHERE position = 3",
		"DELETE FROM events",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err == nil {
			t.Errorf("%s was not refused", statement)
		}
	}
}
