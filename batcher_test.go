package pulse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// gatedStore is an Appender whose writes wait for the test, and fail for chosen records.
type gatedStore struct {
	gate chan struct{} // a write takes one value; nil: never waits
	fail func(r *Record) error

	mu      sync.Mutex
	batches [][]string // names of the records of each successful write
	calls   int
}

func (g *gatedStore) Append(ctx context.Context, recs []Record) error {
	if g.gate != nil {
		select {
		case <-g.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	var names []string
	for i := range recs {
		if g.fail != nil {
			if err := g.fail(&recs[i]); err != nil {
				return err
			}
		}
		names = append(names, recs[i].Name)
	}
	g.batches = append(g.batches, names)
	return nil
}

func unitOf(names ...string) []Record {
	var recs []Record
	for _, n := range names {
		recs = append(recs, Record{Envelope: Envelope{ID: uuid.New(), Name: n}})
	}
	return recs
}

// TestBatcherSharesTransactions: while one write is in flight the next batch fills, and leaves as one.
func TestBatcherSharesTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &gatedStore{gate: make(chan struct{})}
		b := newBatcher(store, func([]Record) {})
		var wg sync.WaitGroup
		emit := func(name string) {
			wg.Go(func() {
				if err := b.Append(t.Context(), unitOf(name)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		emit("first")
		synctest.Wait() // it left alone: the store was idle
		for i := range 10 {
			emit(fmt.Sprint(i))
		}
		synctest.Wait()
		store.gate <- struct{}{}
		store.gate <- struct{}{}
		wg.Wait()
		if len(store.batches) != 2 || len(store.batches[0]) != 1 || len(store.batches[1]) != 10 {
			t.Errorf("batches %v, want the first alone and then ten together", store.batches)
		}
	})
}

// TestBatcherIsolatesTheCulprit: of many callers in one batch only the one whose record is refused fails.
func TestBatcherIsolatesTheCulprit(t *testing.T) {
	for _, cause := range []error{ErrConflict, ErrInvalid, ErrTooLarge, ErrBusy} {
		t.Run(cause.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &gatedStore{gate: make(chan struct{}), fail: func(r *Record) error {
					if r.Name == "7" {
						return fmt.Errorf("refused: %w", cause)
					}
					return nil
				}}
				b := newBatcher(store, func([]Record) {})
				errs := make([]error, 20)
				var wg sync.WaitGroup
				wg.Go(func() { _ = b.Append(t.Context(), unitOf("first")) })
				synctest.Wait()
				for i := range errs {
					wg.Go(func() { errs[i] = b.Append(t.Context(), unitOf(fmt.Sprint(i), fmt.Sprint(i, "+"))) })
				}
				synctest.Wait()
				close(store.gate)
				wg.Wait()
				for i, err := range errs {
					if got, want := errors.Is(err, cause), i == 7; got != want {
						t.Errorf("caller %d got %v", i, err)
					}
				}
				all := slices.Concat(store.batches...)
				if len(all) != 1+2*19 || slices.Contains(all, "7") || slices.Contains(all, "7+") {
					t.Errorf("stored %d records, %v", len(all), all)
				}
			})
		})
	}
}

// TestBatcherStoreFailureIsNotSplit: when the store itself fails, all callers of the batch learn it from one write.
func TestBatcherStoreFailureIsNotSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &gatedStore{gate: make(chan struct{}), fail: func(*Record) error { return ErrStore }}
		b := newBatcher(store, func([]Record) {})
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				if err := b.Append(t.Context(), unitOf("x")); !errors.Is(err, ErrStore) {
					t.Errorf("got %v, want ErrStore", err)
				}
			})
		}
		synctest.Wait()
		close(store.gate)
		wg.Wait()
		if store.calls > 3 {
			t.Errorf("%d writes for 30 callers", store.calls)
		}
	})
}

// TestBatcherCancellation (G2, G16): a caller cancelled before its unit left gets its context's error and nothing is stored; one
// cancelled afterwards gets ErrUnknown wrapping it, and the others in its batch are not disturbed.
func TestBatcherCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &gatedStore{gate: make(chan struct{})}
		b := newBatcher(store, func([]Record) {})
		inFlight, cancelInFlight := context.WithCancel(t.Context())
		waiting, cancelWaiting := context.WithCancel(t.Context())
		var errInFlight, errWaiting, errNeighbour error
		var wg sync.WaitGroup
		wg.Go(func() { errInFlight = b.Append(inFlight, unitOf("in-flight")) })
		synctest.Wait()
		wg.Go(func() { errWaiting = b.Append(waiting, unitOf("waiting")) })
		wg.Go(func() { errNeighbour = b.Append(t.Context(), unitOf("neighbour")) })
		synctest.Wait()
		cancelInFlight()
		cancelWaiting()
		synctest.Wait()
		if !errors.Is(errInFlight, ErrUnknown) || !errors.Is(errInFlight, context.Canceled) {
			t.Errorf("in flight: %v, want ErrUnknown wrapping context.Canceled", errInFlight)
		}
		if errors.Is(errWaiting, ErrUnknown) || !errors.Is(errWaiting, context.Canceled) {
			t.Errorf("waiting: %v, want context.Canceled and no ErrUnknown", errWaiting)
		}
		close(store.gate)
		wg.Wait()
		if errNeighbour != nil {
			t.Errorf("neighbour: %v", errNeighbour)
		}
		if got := slices.Concat(store.batches...); !slices.Equal(got, []string{"in-flight", "neighbour"}) {
			t.Errorf("stored %v", got)
		}
	})
}

// TestBatcherClose waits for what was accepted and refuses what comes after.
func TestBatcherClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &gatedStore{gate: make(chan struct{})}
		b := newBatcher(store, func([]Record) {})
		accepted := make(chan error, 1)
		go func() { accepted <- b.Append(t.Context(), unitOf("accepted")) }()
		synctest.Wait()
		closed := make(chan struct{})
		go func() { b.close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("close returned while a unit was in flight")
		default:
		}
		if err := b.Append(t.Context(), unitOf("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("after close: %v, want ErrClosed", err)
		}
		close(store.gate)
		<-closed
		if err := <-accepted; err != nil {
			t.Errorf("accepted before close: %v", err)
		}
	})
}

// TestBatcherTimesOut: a store that hangs does not hold its callers for ever.
func TestBatcherTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatcher(&gatedStore{gate: make(chan struct{})}, func([]Record) {})
		begin := time.Now()
		err := b.Append(t.Context(), unitOf("x"))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != storeTimeout {
			t.Errorf("got %v after %s", err, time.Since(begin))
		}
	})
}

// parallelStore takes two writes at the same time.
type parallelStore struct{ gatedStore }

func (*parallelStore) ParallelAppends() int { return 2 }

// TestBatcherKeepsAsManyInFlightAsTheStoreTakes, of those that are large enough, and no more: what comes meanwhile leaves as one batch.
func TestBatcherKeepsAsManyInFlightAsTheStoreTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &parallelStore{gatedStore{gate: make(chan struct{})}}
		b := newBatcher(store, func([]Record) {})
		var callers sync.WaitGroup
		emit := func(name string, records int) {
			callers.Go(func() {
				if err := b.Append(t.Context(), unitOf(slices.Repeat([]string{name}, records)...)); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait() // it is in flight, or waits
		}
		emit("first", 1)
		emit("second", besideRecords-1) // waits
		emit("third", 1)                // both leave
		emit("fourth", 1)
		emit("fifth", besideRecords)
		store.gate <- struct{}{}
		store.gate <- struct{}{}
		synctest.Wait()
		store.mu.Lock()
		var lengths []int
		for _, batch := range store.batches {
			lengths = append(lengths, len(batch))
		}
		if slices.Sort(lengths); !slices.Equal(lengths, []int{1, besideRecords}) {
			t.Errorf("the writes in flight were of %v records", lengths)
		}
		store.mu.Unlock()
		store.gate <- struct{}{}
		callers.Wait()
		if got := len(store.batches); got != 3 || len(store.batches[2]) != besideRecords+1 {
			t.Errorf("what waited left in %d writes", got-2)
		}
		b.close()
	})
}

// TestBatcherOneInFlightWhileFew: few records wait for the answer although the store would take another batch, and nobody is forgotten.
func TestBatcherOneInFlightWhileFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &parallelStore{gatedStore{gate: make(chan struct{})}}
		b := newBatcher(store, func([]Record) {})
		var callers sync.WaitGroup
		for i := range 9 {
			callers.Go(func() {
				if err := b.Append(t.Context(), unitOf(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		store.gate <- struct{}{}
		store.gate <- struct{}{}
		callers.Wait()
		if len(store.batches) != 2 || len(store.batches[1]) != 8 {
			t.Errorf("batches %v, want the first alone and then eight together", store.batches)
		}
		b.close()
	})
}
