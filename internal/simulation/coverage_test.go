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
	return append([]string{
		"a lease", "a lease taken over uncleanly", "a dead letter", "a slow store", "a read that failed", "a process died",
		"an event acknowledged", "an event refused", "an event of unknown outcome", "a conflict",
		"a transaction: commit", "a transaction: error", "a transaction: panic", "a transaction: cancel", "an impatient emitter",
		"a cancellation before hand-off",
		"a handler: fail", "a handler: panic", "a handler: goexit", "a handler: later", "a handler: park", "a handler: slow",
		"a handler: hang", "a handler: stuck", "a handler: kill", "a handler: down",
		"outcome: handled", "outcome: failed", "outcome: parked", "outcome: unavailable", "outcome: interrupted", "outcome: killed",
		"a graceful stop while it was idle", "a graceful stop while it handled", "a process killed in a write",
	}, oftenAtTheBroker()...)
}

// seldom is what must happen at least now and then.
func seldom() []string {
	points := slices.Concat(beforePoints(), afterPoints())
	for i := range points {
		points[i] = "fault at " + points[i]
	}
	return append(append(points,
		"a cancellation after hand-off", "a large backlog",
		"a process killed from outside while it was idle", "a process killed from outside while it handled",
		"a process frozen while it was idle", "a process frozen while it handled", "a write refused after a freeze",
		"a pause by a person", "a replay", "a dead letter settled by retry", "a dead letter settled by skip", "a dead letter settled by drop",
	), seldomAtTheBroker()...)
}

// oftenAtTheBroker is what must happen often to messages.
func oftenAtTheBroker() []string {
	return []string{
		"a schedule with a broker", "a message published", "a message published again", "a message delivered", "a message redelivered",
		"a message refused",
	}
}

// seldomAtTheBroker is what must happen at least now and then between a relay, its broker and what is fed from there.
func seldomAtTheBroker() []string {
	return []string{
		"a message delayed", "a message delayed for long", "a message dropped", "a message late", "a late message that arrived", "an answer lost",
		"a message doubled", "a message fenced off", "a message while the broker was down", "an outage of the broker", "a broker wiped", "a broker cut", "a lost message fed again", "a lost message that somebody has not handled", "a redelivery",
		"a relay frozen between messages", "a relay killed before a message", "a relay killed after a message", "a message of a former relay",
		"a feed closed on a frozen process", "a last message that could not be read", "an opening that failed",
		"a fetch that failed", "an acknowledgement that failed", "an acknowledgement reported as failed",
		"an event parked by the relay", "a pause of the relay", "a republish", "a republish killed", "a republish that failed",
		"a message the relay parked settled by retry", "a message the relay parked settled by skip", "a message the relay parked settled by drop",
	}
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
