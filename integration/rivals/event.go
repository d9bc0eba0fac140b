package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// lesson is the event all contestants carry: some 300 bytes of JSON.
type lesson struct {
	N         int64  `json:"n"`  // number of the event, from 0
	Emitted   int64  `json:"at"` // nanoseconds since the program began
	LessonID  string `json:"lesson_id" pulse:"key"`
	CourseID  string `json:"course_id"`
	Author    string `json:"author"`
	Title     string `json:"title"`
	Published bool   `json:"published"`
}

// EventName names the event for Pulse.
func (lesson) EventName() string { return "lesson.published" }

// Kind names the event for River.
func (lesson) Kind() string { return "lesson.published" }

// maxEvents is how many events one measurement can count.
const maxEvents = 1 << 23

// tally makes events and counts how often each was handled.
type tally struct {
	start   time.Time
	emitted atomic.Int64
	handled atomic.Int64 // events that were handled at least once
	twice   atomic.Int64 // further times
	counts  []atomic.Uint32
	took    []atomic.Int64 // nanoseconds from emitting to handling, of each event
	room    chan struct{}  // holds a token for each event that is not handled yet; nil when nobody waits for the handler
	keys    [1000]string
	course  string
}

func newTally() *tally {
	t := &tally{start: time.Now(), counts: make([]atomic.Uint32, maxEvents), took: make([]atomic.Int64, maxEvents), course: uuid.NewString()}
	for i := range t.keys {
		t.keys[i] = uuid.NewString()
	}
	return t
}

// next makes n events.
func (t *tally) next(n int) []lesson {
	first := t.emitted.Add(int64(n)) - int64(n)
	at := int64(time.Since(t.start))
	evs := make([]lesson, n)
	for i := range evs {
		number := first + int64(i)
		evs[i] = lesson{
			N: number, Emitted: at, LessonID: t.keys[number%int64(len(t.keys))], CourseID: t.course, Published: true,
			Author: "Ada Lovelace, Department of Mathematics", Title: "Introduction to biology, chapter one: what the cells of plants and animals have in common",
		}
	}
	return evs
}

// limit lets enter wait while so many events are not handled.
func (t *tally) limit(ahead int64) { t.room = make(chan struct{}, ahead) }

// enter waits until there is room for n more events.
func (t *tally) enter(ctx context.Context, n int) error {
	for range n {
		if t.room == nil {
			break
		}
		select {
		case t.room <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// handle is what every handler does.
func (t *tally) handle(e lesson) {
	if t.counts[e.N].Add(1) > 1 {
		t.twice.Add(1)
		return
	}
	select {
	case <-t.room:
	default:
	}
	t.took[e.N].Store(int64(time.Since(t.start)) - e.Emitted)
	t.handled.Add(1)
}

// lost tells which events were not handled; nil when all were.
func (t *tally) lost() error {
	missing, first := int64(0), int64(-1)
	for i := range t.emitted.Load() {
		if t.counts[i].Load() == 0 {
			if missing++; first < 0 {
				first = i
			}
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d events were not handled, the first is %d", missing, t.emitted.Load(), first)
	}
	return nil
}

// waits returns how long the events from first on took, in milliseconds.
func (t *tally) waits(first int64) []float64 {
	var all []float64
	for i := first; i < t.emitted.Load(); i++ {
		all = append(all, float64(t.took[i].Load())/1e6)
	}
	return all
}
