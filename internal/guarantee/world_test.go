//go:build unix

package guarantee

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// lesson is the event of these tests. N tells one from all others.
type lesson struct {
	Key string `json:"key" pulse:"key"`
	N   int    `json:"n"`
	Pad string `json:"pad,omitempty"`
}

func (lesson) EventName() string { return "lesson.changed" }

const lessonName = "lesson.changed"

// world is an open store with a bus over it.
type world struct {
	place
	raw   full // the store itself
	store full // with failpoints
	bus   *pulse.Bus
	close func() error
}

// openWorld opens a place. Failpoints are as in package failpoint; "" for none.
func openWorld(ctx context.Context, p place, failpoints string, opts *pulse.Options) (*world, error) {
	raw, closeStore, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	w := &world{place: p, raw: raw, store: raw}
	points, err := failpoint.Parse(failpoints)
	if err == nil && points != nil {
		var wrapped pulse.Store
		if wrapped, err = failpoint.Wrap(raw, points); err == nil {
			w.store = wrapped.(full)
		}
	}
	if err == nil {
		w.bus, err = pulse.New(w.store, opts)
	}
	if err != nil {
		return nil, errors.Join(err, closeStore())
	}
	w.close = once(func() error { return errors.Join(w.bus.Close(), closeStore()) })
	return w, nil
}

// open opens a place for a test, which may close the world earlier.
func open(t testing.TB, p place, failpoints string) *world {
	t.Helper()
	w, err := openWorld(t.Context(), p, failpoints, &pulse.Options{Logger: quiet(t), DrainTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.shut(t) })
	return w
}

func (w *world) shut(t testing.TB) {
	t.Helper()
	if err := w.close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// run runs the bus until stop is called, which waits for it.
func (w *world) run(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- w.bus.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (w *world) subscribe(t testing.TB, name string, opts ...pulse.SubscribeOption) {
	t.Helper()
	if err := w.bus.Subscribe(name, opts...); err != nil {
		t.Fatal(err)
	}
}

func (w *world) drain(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.bus.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// emit emits lessons, many in one transaction.
func (w *world) emit(t testing.TB, lessons ...lesson) {
	t.Helper()
	for len(lessons) > 0 {
		n := min(len(lessons), 1000)
		evs := make([]pulse.Event, n)
		for i := range evs {
			evs[i] = lessons[i]
		}
		if _, err := w.bus.EmitAll(t.Context(), evs); err != nil {
			t.Fatal(err)
		}
		lessons = lessons[n:]
	}
	if _, err := w.raw.Info(t.Context()); err != nil { // PostgreSQL gives positions a little later: Lag is 0 until then
		t.Fatal(err)
	}
}

// state is what the store has of a subscription.
func (w *world) state(t testing.TB, name string) pulse.SubscriptionState {
	t.Helper()
	states, err := w.bus.Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no subscription %s", name)
	return pulse.SubscriptionState{}
}

// deliveries are the rows of a subscription.
func (w *world) deliveries(t testing.TB, name string) []pulse.DeliveryState {
	t.Helper()
	rows, err := w.bus.Deliveries(t.Context(), pulse.DeliveryQuery{Subscription: name})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// stored is the log as a map, after checking that its positions are gapless.
func (w *world) stored(t testing.TB) map[uuid.UUID]pulse.Envelope {
	t.Helper()
	found := map[uuid.UUID]pulse.Envelope{}
	last := pulse.Position(0)
	for env, err := range w.bus.Log(context.WithoutCancel(t.Context()), pulse.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if env.Position != last+1 {
			t.Fatalf("position %d follows %d", env.Position, last)
		}
		if other, twice := found[env.ID]; twice {
			t.Fatalf("event %s is at positions %d and %d", env.ID, other.Position, env.Position)
		}
		last = env.Position
		found[env.ID] = env
	}
	return found
}

// lessons are the numbers of the lessons in the log, with how often each is there.
func (w *world) lessons(t testing.TB) map[int]int {
	t.Helper()
	count := map[int]int{}
	for l, err := range pulse.Load[lesson](t.Context(), w.bus, pulse.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		count[l.Event.N]++
	}
	return count
}

// effects are the effects written, with how often each is there.
func (w *world) effects(t testing.TB) map[int]int {
	t.Helper()
	count := map[int]int{}
	for _, n := range w.effectsInOrder(t) {
		count[n]++
	}
	return count
}

// effectsInOrder are the effects in the order in which they were written.
func (w *world) effectsInOrder(t testing.TB) []int {
	t.Helper()
	list, err := w.written(t.Context(), w.raw)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// ordered fails the test unless, for each key, the numbers grow. The numbers are of lessons made by numbered with so many keys.
func ordered(t testing.TB, what string, list []int, keys int) {
	t.Helper()
	last := map[int]int{}
	for _, n := range list {
		if before, seen := last[n%keys]; seen && n <= before {
			t.Errorf("%s %d comes after %d of the same key", what, n, before)
		}
		last[n%keys] = n
	}
}

// firsts leaves the first of equal numbers.
func firsts(list []int) (first []int) {
	seen := map[int]bool{}
	for _, n := range list {
		if !seen[n] {
			first = append(first, n)
		}
		seen[n] = true
	}
	return first
}

// exactly fails the test unless each of 0 … n-1 was counted the given number of times, and nothing else.
func exactly(t testing.TB, what string, count map[int]int, n, times int) {
	t.Helper()
	wrong := 0
	for i := range n {
		if count[i] != times {
			if wrong++; wrong <= 5 {
				t.Errorf("%s %d: %d times, want %d", what, i, count[i], times)
			}
		}
	}
	if wrong > 5 {
		t.Errorf("%s: %d of %d are wrong", what, wrong, n)
	}
	if len(count) > n {
		t.Errorf("%s: %d different ones, want %d", what, len(count), n)
	}
}

// numbered returns lessons 0 … n-1, spread over keys.
func numbered(n, keys int) []lesson {
	list := make([]lesson, n)
	for i := range list {
		list[i] = lesson{Key: fmt.Sprintf("key-%d", i%keys), N: i}
	}
	return list
}

// tally counts what handlers saw, from many goroutines.
type tally struct {
	mu    sync.Mutex
	count map[int]int
	order []int
	each  func(l lesson) // called for each, nil for none
}

func newTally() *tally { return &tally{count: map[int]int{}} }

func (y *tally) add(l lesson) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.count[l.N]++
	y.order = append(y.order, l.N)
	if y.each != nil {
		y.each(l)
	}
}

// list returns the numbers seen, in order.
func (y *tally) list() []int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return append([]int(nil), y.order...)
}

// distinct is how many different lessons were seen.
func (y *tally) distinct() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.count)
}

func (y *tally) counts() map[int]int {
	y.mu.Lock()
	defer y.mu.Unlock()
	c := map[int]int{}
	for n, times := range y.count {
		c[n] = times
	}
	return c
}

// quiet is a logger whose words are shown when the test fails.
func quiet(t testing.TB) *slog.Logger {
	var log lockedBuffer
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the bus:\n%s", log.tail(40))
		}
	})
	return slog.New(slog.NewTextHandler(&log, nil))
}

// lockedBuffer is a buffer that several goroutines may write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// tail is the last lines.
func (b *lockedBuffer) tail(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(b.buf.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
