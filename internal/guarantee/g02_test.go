//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// answers counts how emits ended, against what is stored.
type answers struct {
	mu             sync.Mutex
	acked          []uuid.UUID
	unknown        []uuid.UUID
	failed         []uuid.UUID
	failedWith     map[uuid.UUID]error
	storedUnknown  int
	missingUnknown int
}

func (a *answers) note(id uuid.UUID, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil:
		a.acked = append(a.acked, id)
	case errors.Is(err, pulse.ErrUnknown):
		a.unknown = append(a.unknown, id)
	default:
		a.failed = append(a.failed, id)
		if a.failedWith == nil {
			a.failedWith = map[uuid.UUID]error{}
		}
		a.failedWith[id] = err
	}
}

// check compares the answers with the log.
func (a *answers) check(t *testing.T, stored map[uuid.UUID]pulse.Envelope) {
	t.Helper()
	for _, id := range a.acked {
		if _, ok := stored[id]; !ok {
			t.Errorf("event %s was acknowledged and is not stored", id)
		}
	}
	for _, id := range a.failed {
		if env, ok := stored[id]; ok {
			t.Errorf("event %s is at position %d although its emit failed: %v", id, env.Position, a.failedWith[id])
		}
	}
	for _, id := range a.unknown {
		if _, ok := stored[id]; ok {
			a.storedUnknown++
		} else {
			a.missingUnknown++
		}
	}
	t.Logf("%d acknowledged, %d failed, %d unknown of which %d were stored", len(a.acked), len(a.failed), len(a.unknown), a.storedUnknown)
}

// many arms a point for each of some hits.
func many(point, action string, hits ...int) string {
	var list []string
	for _, hit := range hits {
		list = append(list, fmt.Sprintf("%s=%s@%d", point, action, hit))
	}
	return strings.Join(list, ",")
}

// numbersUpTo returns a random choice of the numbers 1 to n, one of so many.
func numbersUpTo(random *rand.Rand, n, oneOf int) []int {
	var list []int
	for i := 1; i <= n; i++ {
		if random.IntN(oneOf) == 0 {
			list = append(list, i)
		}
	}
	return list
}

// The store fails before it has written, or after: the emit fails as not stored, or as unknown. All are emitted again under
// their id until that succeeds, and are there once.
func TestG02_FailedIsNotStoredOrUnknown(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		n := scaled(1200, 300)
		w := open(t, newPlace(t, k), many(failpoint.AppendBefore, "error", numbersUpTo(random, n, 5)...)+
			","+many(failpoint.AppendAfter, "error", numbersUpTo(random, n, 5)...))
		var first answers
		ids := make([]uuid.UUID, n)
		w.concurrently(6, n, func(i int) {
			id, err := w.bus.Emit(t.Context(), lesson{Key: "key", N: i})
			ids[i] = id
			first.note(id, err)
		})
		t.Logf("seed %d", seed)
		first.check(t, w.stored(t))
		atLeast(t, "failed emits", len(first.failed), scaled(20, 5))
		atLeast(t, "emits that were stored but reported as unknown", first.storedUnknown, scaled(20, 5))
		w.concurrently(6, n, func(i int) {
			for tries := 0; ; tries++ {
				_, err := w.bus.Emit(t.Context(), lesson{Key: "key", N: i}, pulse.ID(ids[i]))
				if err == nil {
					return
				}
				if tries > 100 || !errors.Is(err, pulse.ErrUnknown) && !errors.Is(err, pulse.ErrStore) {
					t.Errorf("emitting %s again: %v", ids[i], err)
					return
				}
			}
		})
		exactly(t, "lesson", w.lessons(t), n, 1)
	})
}

// concurrently calls fn for 0 … n-1 from a few goroutines.
func (w *world) concurrently(goroutines, n int, fn func(i int)) {
	var running sync.WaitGroup
	for g := range goroutines {
		running.Go(func() {
			for i := g; i < n; i += goroutines {
				fn(i)
			}
		})
	}
	running.Wait()
}

// The caller's context ends before the event was handed to the store, while the store writes, and while it fails.
func TestG02_CancelledBeforeAndAfterTheHandOff(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		n := scaled(600, 250)
		w := open(t, newPlace(t, k), failpoint.AppendBefore+"=sleep:20ms,"+many(failpoint.AppendBefore, "error", numbersUpTo(random, n, 2)...))
		delays := make([]time.Duration, n)
		for i := range delays {
			delays[i] = time.Duration(random.IntN(40)) * time.Millisecond
		}
		var a answers
		cancelledEarly := 0
		var mu sync.Mutex
		w.concurrently(8, n, func(i int) {
			ctx, cancel := context.WithTimeout(t.Context(), delays[i])
			defer cancel()
			id, err := w.bus.Emit(ctx, lesson{Key: "key", N: i})
			if id == uuid.Nil {
				t.Errorf("no id with the error %v", err)
			}
			a.note(id, err)
			if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, pulse.ErrUnknown) {
				mu.Lock()
				cancelledEarly++
				mu.Unlock()
			}
			if errors.Is(err, pulse.ErrUnknown) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("unknown, but not for the context: %v", err)
			}
		})
		w.shut(t) // waits for what was handed over
		w = open(t, w.place, "")
		t.Logf("seed %d, %d were cancelled before the hand-off", seed, cancelledEarly)
		a.check(t, w.stored(t))
		atLeast(t, "emits cancelled before the hand-off", cancelledEarly, 10)
		atLeast(t, "unknown emits that were stored", a.storedUnknown, 10)
		atLeast(t, "unknown emits that were not stored", a.missingUnknown, 3)
	})
}

// A transaction of the user fails before, inside and after its commit.
func TestG02_TransactionFailedIsNotStoredOrUnknown(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		for point, unknown := range map[string]bool{failpoint.TransactBefore: false, failpoint.TransactAfterHandler: false, failpoint.TransactAfter: true} {
			w := open(t, newPlace(t, k), point+"=error@1")
			transact := func() error {
				return w.store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
					if err := w.write(ctx, tx.Unwrap(), w.bus.In(tx), 0); err != nil {
						return err
					}
					_, err := w.bus.In(tx).Emit(ctx, lesson{Key: "key", N: 0})
					return err
				})
			}
			err := transact()
			times := 0
			if unknown {
				times = 1
			}
			if err == nil || errors.Is(err, pulse.ErrUnknown) != unknown {
				t.Errorf("%s: %v", point, err)
			}
			if got := w.lessons(t)[0]; got != times || w.effects(t)[0] != times {
				t.Errorf("%s: %d events and %d rows, want %d", point, got, w.effects(t)[0], times)
			}
			if err := transact(); err != nil || w.lessons(t)[0] != times+1 {
				t.Errorf("%s: the next transaction: %v, %v", point, err, w.lessons(t))
			}
		}
	})
}

// Emitting an id again with the same content changes nothing; with other content it is a conflict and changes nothing.
func TestG02_EmittingAnIdAgainIsSafe(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		n := scaled(200, 60)
		w := open(t, newPlace(t, k), "")
		ids := make([]uuid.UUID, n)
		for i := range ids {
			ids[i] = uuid.New()
		}
		const others = 8
		var mu sync.Mutex
		conflicts, winners := 0, make([]int, n)
		w.concurrently(others, n*others, func(i int) { // each id many times at once, half of them saying something else
			id, what := i/others, i%2
			_, err := w.bus.Emit(t.Context(), lesson{Key: fmt.Sprintf("said-%d", what), N: id}, pulse.ID(ids[id]))
			mu.Lock()
			defer mu.Unlock()
			var conflict *pulse.ConflictError
			switch {
			case err == nil:
				winners[id] |= 1 << what
			case errors.As(err, &conflict) && conflict.ID == ids[id]:
				conflicts++
			default:
				t.Errorf("%v", err)
			}
		})
		for id, env := range w.stored(t) {
			var l lesson
			if err := env.Decode(&l); err != nil || ids[l.N] != id || winners[l.N] == 3 || (winners[l.N] == 2) != (l.Key == "said-1") {
				t.Errorf("event %s says %+v, successes were reported as %b (%v)", id, l, winners[l.N], err)
			}
		}
		exactly(t, "lesson", w.lessons(t), n, 1)
		t.Logf("%d ids, %d emits, %d conflicts", n, n*others, conflicts)
		if conflicts != n*others/2 {
			t.Errorf("%d conflicts, want %d", conflicts, n*others/2)
		}
	})
}
