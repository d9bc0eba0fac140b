package pulse_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// faultyBus is newBus with a hook in the store.
func faultyBus(t *testing.T, hook memstore.Hook) (*pulse.Bus, *memstore.Store) {
	t.Helper()
	store := memstore.New(&memstore.Options{Hook: hook})
	bus, err := pulse.New(store, &pulse.Options{Source: "/test"})
	if err != nil {
		t.Fatal(err)
	}
	return bus, store
}

// crashed leaves rows behind as an instance that died would.
func crashed(t *testing.T, store *memstore.Store, name string, p pulse.Progress) {
	t.Helper()
	lease, err := store.Acquire(t.Context(), pulse.Lease{Name: name, Holder: "the one that died"}, time.Second)
	if err == nil {
		err = store.Advance(t.Context(), lease, p)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// drainSoon is drain, for as long as a system that works may take.
func drainSoon(t *testing.T, bus *pulse.Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := bus.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

func row(p pulse.Position, status pulse.DeliveryStatus, lane string, attempt int) pulse.DeliveryState {
	return pulse.DeliveryState{Position: p, Status: status, Lane: lane, Key: "a", Name: "lesson.changed", Attempt: attempt}
}

func rows(t *testing.T, bus *pulse.Bus) []pulse.DeliveryState {
	t.Helper()
	list, err := bus.Deliveries(t.Context(), pulse.DeliveryQuery{})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestInterruptedLastAttemptIsADeadLetter: a handler that kills its process ends as a dead letter, and is not forgotten.
func TestInterruptedLastAttemptIsADeadLetter(t *testing.T) {
	for name, opts := range map[string][]pulse.SubscribeOption{
		"unordered": nil,
		"skipping":  {pulse.Ordered(), pulse.SkipFailed()},
		"ordered":   {pulse.Ordered()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus, store := newBus(t)
				var got seen
				opts := append(opts, pulse.Retry(pulse.RetryPolicy{Attempts: 1}), pulse.On(func(_ context.Context, e lesson) error { got.add(e); return nil }))
				subscribe(t, bus, "mailer", opts...)
				emit(t, bus, lesson{"a", 1})
				lane := "a"
				if name == "unordered" {
					lane = ""
				}
				crashed(t, store, "mailer", pulse.Progress{Put: []pulse.DeliveryState{row(1, pulse.StatusRunning, lane, 1)}})
				drainSoon(t, bus)
				if list := rows(t, bus); len(list) != 1 || list[0].Status != pulse.StatusDead || list[0].Error == "" || len(got.of("a")) != 0 {
					t.Errorf("rows %+v, handled %v", list, got.of("a"))
				}
			})
		})
	}
}

// TestDrainDoesNotWaitForWhatADeadLetterHoldsUp: also not when that was tried before.
func TestDrainDoesNotWaitForWhatADeadLetterHoldsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, store := newBus(t)
		var got seen
		subscribe(t, bus, "index", pulse.Ordered(), pulse.On(func(_ context.Context, e lesson) error { got.add(e); return nil }))
		emit(t, bus, lesson{"a", 1}, lesson{"a", 2}, lesson{"a", 3})
		crashed(t, store, "index", pulse.Progress{Put: []pulse.DeliveryState{row(2, pulse.StatusDead, "a", 10), row(3, pulse.StatusRetry, "a", 1)}})
		drainSoon(t, bus)
		if s := one(t, bus); s.Dead != 1 || s.Waiting != 1 || s.Retries != 0 {
			t.Errorf("state %+v", s)
		}
		if want := []int{1}; !slices.Equal(got.of("a"), want) { // read again after the crash, and before what is dead
			t.Errorf("handled %v, want %v", got.of("a"), want)
		}
	})
}

// TestGoexitInABatchFailsOnlyTheCulprit: the neighbours spend no attempt.
func TestGoexitInABatchFailsOnlyTheCulprit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		subscribe(t, bus, "index", pulse.Retry(pulse.RetryPolicy{Attempts: 1}), pulse.OnBatch("lesson.>", 10, func(_ context.Context, ds []pulse.Delivery) error {
			for i := range ds {
				if ds[i].Position == 4 {
					runtime.Goexit()
				}
			}
			return nil
		}))
		for i := range 10 {
			emit(t, bus, lesson{"a", i})
		}
		drainSoon(t, bus)
		if list := rows(t, bus); len(list) != 1 || list[0].Position != 4 || list[0].Status != pulse.StatusDead {
			t.Errorf("rows %+v", list)
		}
	})
}

// TestBatchGoesOnBehindWhatItGaveUp: with SkipFailed the followers in the same batch come next, before later ones.
func TestBatchGoesOnBehindWhatItGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		var got []pulse.Position
		subscribe(t, bus, "index", pulse.Ordered(), pulse.SkipFailed(), pulse.OnBatch("lesson.>", 4, func(_ context.Context, ds []pulse.Delivery) error {
			for i := range ds {
				if ds[i].Position == 1 {
					return pulse.Park("poison")
				}
			}
			for i := range ds {
				got = append(got, ds[i].Position)
			}
			return nil
		}))
		for i := range 12 {
			emit(t, bus, lesson{"a", i})
		}
		drainSoon(t, bus)
		if len(got) != 11 || !slices.IsSorted(got) {
			t.Errorf("handled %v", got)
		}
	})
}

// TestHungBatchKeepsTheOrder: what a batch had before it hung is done, what fails after it comes before later events, and nothing is
// handled twice.
func TestHungBatchKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		var got []pulse.Position
		hangs, fails := true, 3
		subscribe(t, bus, "index", pulse.Ordered(), pulse.Timeout(time.Second), pulse.OnBatch("lesson.>", 2, func(_ context.Context, ds []pulse.Delivery) error {
			if len(ds) == 1 && ds[0].Position == 1 && hangs {
				hangs = false
				time.Sleep(5 * time.Second) // past its timeout, and then it is handled
			}
			for i := range ds {
				if ds[i].Position == 2 && fails > 0 {
					fails--
					return errors.New("not yet")
				}
			}
			for i := range ds {
				got = append(got, ds[i].Position)
			}
			return nil
		}))
		for i := range 6 {
			emit(t, bus, lesson{"a", i})
		}
		drainSoon(t, bus)
		if want := []pulse.Position{1, 2, 3, 4, 5, 6}; !slices.Equal(got, want) {
			t.Errorf("handled %v, want %v", got, want)
		}
	})
}

// TestASkippedDeadLetterIsTriedAgainInItsKey: never beside another event of it.
func TestASkippedDeadLetterIsTriedAgainInItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		var mu sync.Mutex
		broken, running, most := true, 0, 0
		subscribe(t, bus, "index", pulse.Ordered(), pulse.SkipFailed(), pulse.On(func(_ context.Context, e lesson) error {
			mu.Lock()
			fails := broken && e.N < 3
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			running--
			if fails {
				return pulse.Park("poison")
			}
			return nil
		}))
		for i := range 5 {
			emit(t, bus, lesson{"a", i})
		}
		drainSoon(t, bus)
		broken = false
		if n, err := bus.Settle(t.Context(), pulse.DeliveryQuery{Subscription: "index"}, pulse.SettleRetry); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		drainSoon(t, bus)
		if list := rows(t, bus); most != 1 || len(list) != 0 {
			t.Errorf("%d handlers of one key at a time, rows %+v", most, list)
		}
	})
}

// TestAPauseWhileTheLeaseIsTaken is seen by the session that has just begun.
func TestAPauseWhileTheLeaseIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store *memstore.Store
		pause := sync.OnceFunc(func() {
			c := pulse.Control{Pause: &pulse.Pause{Until: pulse.Forever, Reason: "maintenance"}}
			if err := store.Control(context.Background(), "mailer", c); err != nil {
				t.Error(err)
			}
		})
		bus, s := faultyBus(t, func(_ context.Context, point string) error {
			if point == memstore.LeaseBefore {
				pause()
			}
			return nil
		})
		store = s
		var got seen
		subscribe(t, bus, "mailer", pulse.On(func(_ context.Context, e lesson) error { got.add(e); return nil }))
		emit(t, bus, lesson{"a", 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := bus.Run(ctx); err != nil || len(got.of("a")) != 0 {
			t.Errorf("handled %v while paused, %v", got.of("a"), err)
		}
	})
}

// TestItsOwnPauseLeavesAPersonsPause: what is down for a second does not end maintenance.
func TestItsOwnPauseLeavesAPersonsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		subscribe(t, bus, "mailer", pulse.On(func(ctx context.Context, _ lesson) error {
			if err := bus.Pause(context.WithoutCancel(ctx), "mailer", "maintenance"); err != nil {
				t.Error(err)
			}
			return pulse.Unavailable(errors.New("smtp is down"))
		}))
		emit(t, bus, lesson{"a", 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := bus.Run(ctx); err != nil {
			t.Error(err)
		}
		if s := one(t, bus); !s.PausedUntil.Equal(pulse.Forever) {
			t.Errorf("state %+v", s)
		}
	})
}

// TestAStoreInTroubleSpendsNoAttempt: a delivery that was never handled is no dead letter.
func TestAStoreInTroubleSpendsNoAttempt(t *testing.T) {
	for _, point := range []string{memstore.MarkBefore, memstore.TransactBegin, memstore.AdvanceBefore, memstore.AdvanceAfter} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				trouble := 0
				bus, store := faultyBus(t, func(_ context.Context, p string) error {
					if p == point && trouble > 0 {
						trouble--
						return errors.New("the disk is on fire")
					}
					return nil
				})
				var got []int
				subscribe(t, bus, "index", pulse.Ordered(), pulse.Retry(pulse.RetryPolicy{Attempts: 2}),
					pulse.Use(func(next pulse.Handler) pulse.Handler {
						return func(ctx context.Context, d *pulse.Delivery) error {
							got = append(got, d.Attempt)
							return next(ctx, d)
						}
					}),
					pulse.OnTx(func(context.Context, pulse.Tx, lesson) error { return nil }))
				emit(t, bus, lesson{"a", 1}, lesson{"a", 2})
				crashed(t, store, "index", pulse.Progress{Put: []pulse.DeliveryState{row(1, pulse.StatusRetry, "a", 1)}})
				trouble = 5
				drainSoon(t, bus)
				if list := rows(t, bus); len(list) != 0 || len(got) < 2 || slices.Max(got) > 2 {
					t.Errorf("rows %+v after attempts %v", list, got)
				}
			})
		})
	}
}

// TestDrainBesideOthers: a Drain beside a Run, or beside a Drain that is cancelled, is no error and ends when all is handled.
func TestDrainBesideOthers(t *testing.T) {
	for _, c := range []struct {
		name   string
		beside func(ctx context.Context, bus *pulse.Bus) error
	}{
		{"Run", func(ctx context.Context, bus *pulse.Bus) error { return bus.Run(ctx) }},
		{"Drain", func(ctx context.Context, bus *pulse.Bus) error {
			if err := bus.Drain(ctx); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("cancelled it returned %w", err)
			}
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus, _ := newBus(t)
				var got seen
				subscribe(t, bus, "mailer", pulse.On(func(_ context.Context, e lesson) error { time.Sleep(time.Minute / 2); got.add(e); return nil }))
				emit(t, bus, lesson{"a", 1})
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- c.beside(ctx, bus) }()
				time.AfterFunc(time.Second, stop)
				time.Sleep(time.Second / 2)
				drainSoon(t, bus)
				if len(got.of("a")) == 0 {
					t.Error("drained, and nothing is handled")
				}
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// settlingStore has a dead letter settled between two looks at the rows.
type settlingStore struct {
	*memstore.Store
	settle func()
}

func (s *settlingStore) List(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
	list, err := s.Store.List(ctx, q)
	s.settle()
	return list, err
}

// TestADeadLetterSettledWhileRowsAreRead keeps its place before its followers.
func TestADeadLetterSettledWhileRowsAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memstore.New(nil)
		store := &settlingStore{Store: inner, settle: sync.OnceFunc(func() {
			if n, err := inner.Settle(context.Background(), pulse.DeliveryQuery{Subscription: "index"}, pulse.SettleRetry); n != 1 || err != nil {
				t.Error(n, err)
			}
		})}
		bus, err := pulse.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got seen
		subscribe(t, bus, "index", pulse.Ordered(), pulse.On(func(_ context.Context, e lesson) error { got.add(e); return nil }))
		emit(t, bus, lesson{"a", 1}, lesson{"a", 2})
		dead, waiting := row(1, pulse.StatusDead, "a", 10), row(2, pulse.StatusWaiting, "a", 0)
		crashed(t, inner, "index", pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: 2}, Put: []pulse.DeliveryState{dead, waiting}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := bus.Run(ctx); err != nil {
			t.Error(err)
		}
		if want := []int{1, 2}; !slices.Equal(got.of("a"), want) {
			t.Errorf("handled %v, want %v", got.of("a"), want)
		}
	})
}
