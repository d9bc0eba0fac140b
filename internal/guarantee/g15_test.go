//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/rss"
)

const mib = 1 << 20

// backlog is how many events wait, and how large each is.
type backlog struct{ events, size int }

// backlogs are sorts of work that waits: many small events, or fewer large ones.
func backlogs() map[string]backlog {
	return map[string]backlog{
		"small": {scaled(60_000, 20_000), 100},
		"large": {200, 500 << 10},
	}
}

// stalls are sorts of subscriptions that do not come along: their handlers stand still, or fail.
func stalls() map[string][]pulse.SubscribeOption {
	return map[string][]pulse.SubscribeOption{
		"standing still":          nil,
		"standing still, ordered": {pulse.Ordered()},
		"failing":                 {pulse.Retry(pulse.RetryPolicy{First: time.Hour}), pulse.PauseAfter(1 << 30)},
		"failing, ordered":        {pulse.Retry(pulse.RetryPolicy{First: time.Hour}), pulse.PauseAfter(1 << 30), pulse.Ordered()},
	}
}

// notUnderRace skips a test that measures memory: the race detector takes several times as much, and long.
func notUnderRace(t *testing.T) {
	if underRace {
		t.Skip("not applicable: measures memory, of which the race detector takes its own")
	}
}

// A backlog, of many small events or of large ones, in front of handlers that stand still or fail: what the bus holds of it in
// memory has a bound. Not parallel to other tests: it measures the memory of the process.
func TestG15_MemoryIsBounded(t *testing.T) {
	notUnderRace(t)
	each(t, func(t *testing.T, k kind) {
		for size, b := range backlogs() {
			w := open(t, newPlace(t, k), "")
			w.emitBacklog(t, b.events, b.size)
			for how, opts := range stalls() {
				t.Run(size+" events/"+how, func(t *testing.T) { w.measureStall(t, how, opts, b.events) })
			}
			if k.durable {
				t.Run(size+" events/resident", func(t *testing.T) { w.measureResident(t, k, b.events) })
			}
			w.shut(t)
		}
	})
}

// emitBacklog emits lessons of a size.
func (w *world) emitBacklog(t *testing.T, events, size int) {
	t.Helper()
	pad := strings.Repeat("x", size)
	batch := max(1, min(1000, 4*mib/size))
	for i := 0; i < events; i += batch {
		list := make([]lesson, min(batch, events-i))
		for j := range list {
			list[j] = lesson{Key: fmt.Sprint("key-", (i+j)%64), N: i + j, Pad: pad}
		}
		w.emit(t, list...)
	}
}

// heapInUse is what is in use after a collection: the least of several, as what runs beside makes garbage at once.
func heapInUse() int64 {
	least := int64(math.MaxInt64)
	for range 3 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		least = min(least, int64(stats.HeapInuse))
	}
	return least
}

// heapCeiling is how much more memory than without it a stalled subscription may take, in this process.
const heapCeiling = 64 * mib

func (w *world) measureStall(t *testing.T, how string, opts []pulse.SubscribeOption, events int) {
	t.Helper()
	bus, err := pulse.New(w.store, &pulse.Options{Logger: quiet(t), DrainTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	own := &world{place: w.place, raw: w.raw, store: w.store, bus: bus}
	name := "stalled." + strings.NewReplacer(" ", "-", ",", "").Replace(how)
	var calls atomic.Int64
	own.subscribe(t, name, append(opts, pulse.Start(pulse.Beginning), pulse.OnDelivery(lessonName, func(ctx context.Context, _ *pulse.Delivery) error {
		calls.Add(1)
		if strings.HasPrefix(how, "failing") {
			return errors.New(strings.Repeat("no ", 100))
		}
		<-ctx.Done()
		return ctx.Err()
	}))...)
	before := heapInUse()
	stop := own.run(t)
	most := own.watchHeap(t, before, func() bool { return calls.Load() >= 8 })
	t.Logf("%d events waiting, %d calls: %.1f MiB more than the %.1f MiB before", events, calls.Load(), rss.MiB(most), rss.MiB(before))
	if most > heapCeiling {
		t.Errorf("a stalled subscription takes %.1f MiB, want at most %.1f", rss.MiB(most), rss.MiB(heapCeiling))
	}
	stop()
	if err := bus.Drop(context.WithoutCancel(t.Context()), name); err != nil {
		t.Error(err)
	}
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
}

// watchHeap returns the largest growth of the heap until it has begun and grows no more.
func (w *world) watchHeap(t *testing.T, before int64, begun func() bool) (most int64) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for same := 0; same < 6; time.Sleep(20 * time.Millisecond) {
		grown := heapInUse() - before
		if same++; grown > most+mib || !begun() {
			same = 0
		}
		most = max(most, grown)
		if time.Now().After(deadline) {
			t.Fatalf("still growing after %s: %.1f MiB more", patience, rss.MiB(most))
		}
	}
	return most
}

// residentCeiling is how much memory a process may take in all, with two stalled subscriptions.
const residentCeiling = 160 * mib

// measureResident is measureStall seen from outside: the resident memory of a process that stands still before the backlog.
func (w *world) measureResident(t *testing.T, k kind, events int) {
	t.Helper()
	p := start(t, k, w.place, childSpec{Role: "stall"})
	p.awaitLines(t, "peak", 1)
	var peak int64
	if _, err := fmt.Sscan(p.lines("peak ")[0], &peak); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events waiting: at most %.1f MiB resident", events, rss.MiB(peak))
	if peak > residentCeiling {
		t.Errorf("%.1f MiB resident, want at most %.1f", rss.MiB(peak), rss.MiB(residentCeiling))
	}
}

// stall is a process with handlers that stand still.
func stall(ctx context.Context, c *child) error {
	begun := make(chan struct{}, 1000)
	for how, opts := range stalls() {
		if !strings.HasPrefix(how, "standing") {
			continue
		}
		name := "stalled." + strings.NewReplacer(" ", "-", ",", "").Replace(how)
		err := c.bus.Subscribe(name, append(opts, pulse.Start(pulse.Beginning), pulse.On(func(ctx context.Context, _ lesson) error {
			begun <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}))...)
		if err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- c.bus.Run(ctx) }()
	for range 16 {
		<-begun
	}
	for last := int64(-1); last != rss.Peak(); time.Sleep(200 * time.Millisecond) {
		last = rss.Peak()
	}
	c.say("peak %d", rss.Peak())
	return nil // without waiting for what stands still
}

// Emit goes on as before while a subscription with a backlog stands still.
func TestG15_EmitIsUnaffectedByAStalledSubscription(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		w := open(t, newPlace(t, k), "")
		w.emitBacklog(t, scaled(20_000, 5000), 100)
		emits := scaled(1500, 300)
		before := w.emitLatencies(t, emits)
		release := make(chan struct{})
		var calls atomic.Int64
		w.subscribe(t, subscriptionName, pulse.Ordered(), pulse.Start(pulse.Beginning), pulse.On(func(context.Context, lesson) error {
			calls.Add(1)
			<-release
			return nil
		}))
		w.subscribe(t, "failing", pulse.Start(pulse.Beginning), pulse.PauseAfter(1<<30), pulse.On(func(context.Context, lesson) error { return errors.New("no") }))
		stop := w.run(t)
		await(t, "all handlers stand still", func() bool { return calls.Load() == 8 })
		stalled := w.emitLatencies(t, emits)
		close(release)
		stop()
		t.Logf("latency of %d emits: median %s, longest %s; with stalled subscriptions %s, %s", emits,
			before[emits/2], before[emits-1], stalled[emits/2], stalled[emits-1])
		if limit := 10*before[emits/2] + 20*time.Millisecond; stalled[emits/2] > limit {
			t.Errorf("the median emit took %s, want at most %s", stalled[emits/2], limit)
		}
		if stalled[emits-1] > 5*time.Second {
			t.Errorf("an emit took %s", stalled[emits-1])
		}
	})
}

// emitLatencies emits from a few goroutines and returns how long each took, the shortest first.
func (w *world) emitLatencies(t *testing.T, n int) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	w.concurrently(4, n, func(i int) {
		began := time.Now()
		if _, err := w.bus.Emit(t.Context(), lesson{Key: "key", N: -i}); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(began))
	})
	slices.Sort(took)
	return took
}
