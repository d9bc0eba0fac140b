//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// handlingPoints are the points a subscription passes with each delivery.
func handlingPoints() []string {
	return []string{
		failpoint.TransactBefore, failpoint.TransactAfterHandler, failpoint.TransactAfter,
		failpoint.AdvanceBefore, failpoint.AdvanceAfter,
	}
}

// The process is killed before, in and after the handler's transaction, and before and after it saved how far it had come:
// each effect is there exactly once in the end.
func TestG07_EffectsExactlyOnceThroughKills(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		for _, sort := range effectHandlers() {
			t.Run(sort, func(t *testing.T) {
				t.Parallel()
				n, perPoint := scaled(300, 60), scaled(3, 1)
				seed := rand.Uint64()
				random := rand.New(rand.NewPCG(seed, 0))
				w := open(t, newPlace(t, k), "")
				w.emit(t, numbered(n, 7)...)
				again := 0
				for _, point := range handlingPoints() {
					for range perPoint {
						p := start(t, k, w.place, childSpec{Role: "handle", Handler: sort, Failpoints: fmt.Sprintf("%s=kill@%d", point, 1+random.IntN(5))})
						if state := p.wait(t); !killed(state) {
							t.Fatalf("seed %d: %s: not killed but %s: %s", seed, point, state, p.stderr.tail(10))
						}
						again += w.unacknowledged(t)
					}
				}
				p := start(t, k, w.place, childSpec{Role: "handle", Handler: sort})
				p.awaitLines(t, "drained", 1)
				exactly(t, "effect of lesson", w.effects(t), n, 1)
				if strings.HasPrefix(sort, "ordered") {
					ordered(t, "effect of lesson", w.effectsInOrder(t), 7)
				}
				t.Logf("seed %d: %d kills, %d deliveries came again although their effect was there", seed, perPoint*len(handlingPoints()), again)
				atLeast(t, "deliveries that came again after their effect", again, 1)
			})
		}
	})
}

// unacknowledged counts the effects that are there although the subscription does not know it: those whose delivery comes again.
func (w *world) unacknowledged(t *testing.T) (n int) {
	t.Helper()
	states, err := w.bus.Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(states) == 0 {
		return 0 // killed before it could register
	}
	rows := map[pulse.Position]bool{}
	for _, row := range w.deliveries(t, subscriptionName) {
		rows[row.Position] = true
	}
	effects := w.effects(t)
	for l, err := range pulse.Load[lesson](t.Context(), w.bus, pulse.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		p := l.Envelope.Position
		if effects[l.Event.N] > 0 && (p > states[0].Cursor.Position || rows[p]) {
			n++
		}
	}
	return n
}

// At the same points the store fails, before it has done its work or after.
func TestG07_EffectsExactlyOnceThroughStoreErrors(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		for _, sort := range effectHandlers() {
			t.Run(sort, func(t *testing.T) {
				t.Parallel()
				n := scaled(300, 60)
				var points []string
				for i, point := range handlingPoints() {
					points = append(points, fmt.Sprintf("%s=error@%d", point, 1+i))
				}
				t.Logf("failpoints %s", strings.Join(points, ","))
				p := newPlace(t, k)
				w := open(t, p, strings.Join(points, ","))
				w.emit(t, numbered(n, 7)...)
				w.subscribe(t, subscriptionName, w.effectHandler(sort)...)
				w.drain(t)
				exactly(t, "effect of lesson", w.effects(t), n, 1)
				if rows := w.deliveries(t, subscriptionName); len(rows) > 0 {
					t.Errorf("left: %+v", rows)
				}
			})
		}
	})
}

// Several processes run the same subscription while each is killed again and again.
func TestG07_EffectsExactlyOnceAmongCompetingProcesses(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		n, kills := scaled(600, 100), scaled(20, 4)
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(n, 7)...)
		running := make([]*process, 3)
		for i := range running {
			running[i] = start(t, k, w.place, childSpec{Role: "handle", Handler: "ordered"})
		}
		for range kills {
			i := random.IntN(len(running))
			running[i].awaitLines(t, "handling", 1)
			time.Sleep(time.Duration(random.IntN(20_000)) * time.Microsecond)
			running[i].kill()
			running[i] = start(t, k, w.place, childSpec{Role: "handle", Handler: "ordered"})
		}
		for _, p := range running {
			p.awaitLines(t, "drained", 1)
			p.wait(t)
		}
		exactly(t, "effect of lesson", w.effects(t), n, 1)
		ordered(t, "effect of lesson", w.effectsInOrder(t), 7)
		t.Logf("seed %d: %d processes, %d kills, %d events", seed, len(running), kills, n)
	})
}

// A process is stopped in the middle for longer than its lease lives; another one takes over; then the first goes on.
func TestG07_EffectsExactlyOnceWhenAStoppedProcessGoesOn(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		n := 100
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(n, 7)...)
		first := start(t, k, w.place, childSpec{Role: "stop", Handler: "ordered"})
		first.awaitLines(t, "stopping", 1)
		before := len(w.effects(t))
		second := start(t, k, w.place, childSpec{Role: "handle", Handler: "ordered"})
		second.awaitLines(t, "drained", 1)
		exactly(t, "effect of lesson, while the first process is stopped", w.effects(t), n, 1)
		first.signal(t, syscall.SIGCONT)
		first.awaitLines(t, "drained", 1)
		if state := first.wait(t); !state.Success() {
			t.Errorf("the first process ended by %s: %s", state, first.stderr.tail(10))
		}
		exactly(t, "effect of lesson", w.effects(t), n, 1)
		ordered(t, "effect of lesson", w.effectsInOrder(t), 7)
		t.Logf("%d effects before the stop, %d after", before, n-before)
		atLeast(t, "effects before the stop", before, 10)
		atLeast(t, "effects after the stop", n-before, 10)
	})
}

// stoppingStore stops its own process before the nth transaction, as SIGSTOP or a long pause of a virtual machine does. No write
// is under way then: a process that stops while it writes to SQLite stops all others with it.
type stoppingStore struct {
	full
	child  *child
	n      int64
	count  atomic.Int64
	once   sync.Once
	writes sync.RWMutex
}

func (s *stoppingStore) Transact(ctx context.Context, fn func(context.Context, pulse.Tx) error) error {
	if s.count.Add(1) >= s.n {
		s.once.Do(s.stop) // the other handlers wait here, too
	}
	s.writes.RLock()
	defer s.writes.RUnlock()
	return s.full.Transact(ctx, fn)
}

func (s *stoppingStore) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	s.writes.RLock()
	defer s.writes.RUnlock()
	return s.full.Advance(ctx, lease, p)
}

func (s *stoppingStore) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	s.writes.RLock()
	defer s.writes.RUnlock()
	return s.full.Acquire(ctx, lease, ttl)
}

func (s *stoppingStore) stop() {
	s.writes.Lock()
	defer s.writes.Unlock()
	s.child.say("stopping")
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		s.child.say("error %v", err)
	}
	time.Sleep(200 * time.Millisecond) // the signal does not stop all threads at once
}

// handleThroughStop is handleUntilDrained, stopped once in the middle.
func handleThroughStop(ctx context.Context, c *child) error {
	c.store = &stoppingStore{full: c.raw, child: c, n: 40}
	bus, err := pulse.New(c.store, nil)
	if err != nil {
		return err
	}
	c.bus = bus
	return errors.Join(handleUntilDrained(ctx, c), bus.Close())
}

// The same delivery in many transactions at the same time: one of them sees it first.
func TestG07_ConcurrentDuplicatesAreSeen(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		const positions, duplicates = 40, 8
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(positions, 7)...)
		lease := w.lease(t, pulse.Beginning)
		var running sync.WaitGroup
		var refused atomic.Int64
		for range duplicates {
			running.Go(func() {
				for p := range pulse.Position(positions) {
					fresh, err := w.effectOnce(t.Context(), lease, p+1)
					if err != nil {
						t.Error(err)
					}
					if !fresh {
						refused.Add(1)
					}
				}
			})
		}
		running.Wait()
		exactly(t, "effect", w.effects(t), positions, 1)
		t.Logf("%d transactions of %d were told that the effect exists", refused.Load(), positions*duplicates)
		if refused.Load() != positions*(duplicates-1) {
			t.Errorf("%d were refused, want %d", refused.Load(), positions*(duplicates-1))
		}
	})
}

// A delivery comes again after the inbox was pruned: it lies below the cursor and has no effect.
func TestG07_RedeliveryBelowTheCursorHasNoEffect(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		const positions, handled = 60, 40
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(positions, 7)...)
		lease := w.lease(t, pulse.Beginning)
		once := func(want func(p pulse.Position) bool) {
			t.Helper()
			for p := pulse.Position(1); p <= positions; p++ {
				if fresh, err := w.effectOnce(t.Context(), lease, p); err != nil || fresh != want(p) {
					t.Fatalf("position %d is fresh: %t, %v", p, fresh, err)
				}
			}
		}
		once(func(pulse.Position) bool { return true })
		progress := pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: handled}}
		progress.Put = []pulse.DeliveryState{{Subscription: lease.Name, Position: 7, Status: pulse.StatusRetry, Name: lessonName}}
		if err := w.store.Advance(t.Context(), lease, progress); err != nil {
			t.Fatal(err)
		}
		once(func(pulse.Position) bool { return false })
		if err := w.store.Advance(t.Context(), lease, pulse.Progress{Remove: []pulse.Position{7}}); err != nil {
			t.Fatal(err)
		}
		once(func(pulse.Position) bool { return false })
		exactly(t, "effect", w.effects(t), positions, 1)
	})
}

// lease registers a subscription and takes its lease.
func (w *world) lease(t testing.TB, from pulse.Position) pulse.Lease {
	t.Helper()
	if _, err := w.store.Register(t.Context(), pulse.Registration{Name: "by-hand", Start: from}); err != nil {
		t.Fatal(err)
	}
	lease, err := w.store.Acquire(t.Context(), pulse.Lease{Name: "by-hand", Holder: "test"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

// effectOnce handles a delivery by hand: its effect has the number position-1. fresh tells that it was not there yet.
func (w *world) effectOnce(ctx context.Context, lease pulse.Lease, p pulse.Position) (fresh bool, err error) {
	err = w.store.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
		seen, err := tx.Mark(ctx, lease, []pulse.Position{p})
		fresh = len(seen) == 0
		if err != nil || !fresh {
			return err
		}
		return w.write(ctx, tx.Unwrap(), w.bus.In(tx), int(p)-1)
	})
	return fresh, err
}
