package simulation

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// total sums up what schedules did.
type total struct {
	mu       sync.Mutex
	begun    time.Time
	coverage map[string]int
	events   int
	calls    int
	virtual  time.Duration
	bad      int
}

func newTotal() *total { return &total{begun: time.Now(), coverage: map[string]int{}} }

// add adds a schedule and reports whether to tell of its violations: the first few are enough.
func (s *total) add(r report) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for what, n := range r.coverage {
		s.coverage[what] += n
	}
	s.events += r.events
	s.calls += r.calls
	s.virtual += r.virtual
	if len(r.violations) > 0 {
		s.bad++
	}
	return len(r.violations) > 0 && s.bad <= 10
}

// demand fails the test when the schedules did too little to prove anything.
func (s *total) demand(t *testing.T, schedules int) {
	t.Logf("%d schedules, %d with violations; %d events, %d calls of handlers in %v, virtually %v",
		schedules, s.bad, s.events, s.calls, time.Since(s.begun).Round(time.Millisecond), s.virtual.Round(time.Second))
	for _, what := range slices.Sorted(maps.Keys(s.coverage)) {
		t.Logf("%8d %s", s.coverage[what], what)
	}
	for _, lack := range s.lacks(schedules) {
		t.Error("too little happened: " + lack)
	}
}

// lacks lists what happened less often than it must in so many schedules.
func (s *total) lacks(schedules int) []string {
	var lacks []string
	want := func(what string, n, each100 int) {
		if least := each100 * schedules / 100; n < least {
			lacks = append(lacks, fmt.Sprintf("%d of at least %d: %s", n, least, what))
		}
	}
	want("events", s.events, 2500)
	want("calls of handlers", s.calls, 5000)
	for _, what := range often() {
		want(what, s.coverage[what], 30)
	}
	for _, what := range seldom() {
		want(what, s.coverage[what], 1)
	}
	return lacks
}

// often is what must happen often: each kind of trouble, and both sides of each.
func often() []string {
	return []string{
		"a lease", "a lease taken over uncleanly", "a dead letter", "a slow store", "a read that failed", "a process died",
		"an event acknowledged", "an event refused", "an event of unknown outcome", "a conflict",
		"a transaction: commit", "a transaction: error", "a transaction: panic", "a transaction: cancel", "an impatient emitter",
		"a cancellation before hand-off",
		"a handler: fail", "a handler: panic", "a handler: goexit", "a handler: later", "a handler: park", "a handler: slow",
		"a handler: hang", "a handler: stuck", "a handler: kill", "a handler: down",
		"outcome: handled", "outcome: failed", "outcome: parked", "outcome: unavailable", "outcome: interrupted", "outcome: killed",
		"a graceful stop while it was idle", "a graceful stop while it handled", "a process killed in a write",
	}
}

// seldom is what must happen at least now and then.
func seldom() []string {
	points := slices.Concat(beforePoints(), afterPoints())
	for i := range points {
		points[i] = "fault at " + points[i]
	}
	return append(points,
		"a cancellation after hand-off", "a large backlog",
		"a process killed from outside while it was idle", "a process killed from outside while it handled",
		"a process frozen while it was idle", "a process frozen while it handled", "a write refused after a freeze",
		"a pause by a person", "a replay", "a dead letter settled by retry", "a dead letter settled by skip", "a dead letter settled by drop",
	)
}

// TestARunThatDidTooLittleFails: schedules in which nothing happened are no proof.
func TestARunThatDidTooLittleFails(t *testing.T) {
	s := newTotal()
	if n := len(s.lacks(100)); n != 2+len(often())+len(seldom()) {
		t.Errorf("of nothing at all %d lacks were found", n)
	}
	for _, what := range slices.Concat(often(), seldom()) {
		s.coverage[what] = 30
	}
	s.events, s.calls = 2500, 5000
	if lacks := s.lacks(100); len(lacks) != 0 {
		t.Errorf("of enough it lacks %q", lacks)
	}
}
