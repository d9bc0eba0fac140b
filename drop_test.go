package pulse_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// slowLog is a store whose log is read slowly, page by page.
type slowLog struct{ *memstore.Store }

func (s slowLog) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	if q.Limit > 0 {
		time.Sleep(time.Second)
	}
	return s.Store.Read(ctx, q)
}

// ahead is a bus on which the delivery at position 2 has a row ahead of the cursor, as a process that died has left it. Position 3 has the
// same key.
func ahead(t *testing.T, left pulse.DeliveryState, opts ...pulse.SubscribeOption) (*pulse.Bus, *seen) {
	t.Helper()
	store := memstore.New(nil)
	bus, err := pulse.New(slowLog{store}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got seen
	subscribe(t, bus, "index", append(opts, pulse.On(func(_ context.Context, e lesson) error { got.add(e); return nil }))...)
	emit(t, bus, lesson{"b", 1}, lesson{"a", 2}, lesson{"a", 3})
	lease, err := store.Acquire(t.Context(), pulse.Lease{Name: "index", Holder: "the one before"}, time.Minute)
	if err := errors.Join(err, store.Advance(t.Context(), lease, pulse.Progress{Put: []pulse.DeliveryState{left}}), store.Release(t.Context(), lease)); err != nil {
		t.Fatal(err)
	}
	return bus, &got
}

// TestADroppedDeadLetterStaysDropped: it lies ahead of the cursor, and is read again.
func TestADroppedDeadLetterStaysDropped(t *testing.T) {
	for name, opts := range map[string][]pulse.SubscribeOption{"ordered": {pulse.Ordered()}, "unordered": nil} {
		for when, after := range map[string]time.Duration{"before a start": 0, "before it is read": time.Second / 2, "after it was read": time.Minute} {
			t.Run(name+", "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lane := "a"
					if opts == nil {
						lane = ""
					}
					bus, got := ahead(t, row(2, pulse.StatusDead, lane, 10), opts...)
					drop := func() {
						if n, err := bus.Settle(t.Context(), pulse.DeliveryQuery{Subscription: "index"}, pulse.SettleDrop); n != 1 || err != nil {
							t.Errorf("dropped %d, %v", n, err)
						}
					}
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
					defer cancel()
					if after == 0 {
						drop()
					} else {
						time.AfterFunc(after, drop)
					}
					if err := bus.Run(ctx); err != nil {
						t.Error(err)
					}
					if a := got.of("a"); !slices.Equal(a, []int{3}) {
						t.Errorf("of the key %v are handled", a)
					}
					if list := rows(t, bus); len(list) != 0 {
						t.Errorf("left are %+v", list)
					}
				})
			})
		}
	}
}

// TestARowAheadOfTheCursorIsHandledOnce, although it is read only when it has been handled.
func TestARowAheadOfTheCursorIsHandledOnce(t *testing.T) {
	for name, opts := range map[string][]pulse.SubscribeOption{"ordered": {pulse.Ordered()}, "unordered": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lane := "a"
				if opts == nil {
					lane = ""
				}
				bus, got := ahead(t, row(2, pulse.StatusRetry, lane, 1), opts...)
				drainSoon(t, bus)
				a := got.of("a")
				if opts == nil {
					slices.Sort(a)
				}
				if !slices.Equal(a, []int{2, 3}) {
					t.Errorf("of the key %v are handled", a)
				}
			})
		})
	}
}

// TestARowAheadOfTheCursorWaitsForItsKey: the one before it has none and is only read now.
func TestARowAheadOfTheCursorWaitsForItsKey(t *testing.T) {
	for _, status := range []pulse.DeliveryStatus{pulse.StatusWaiting, pulse.StatusRetry} {
		t.Run(string(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus, got := ahead(t, row(3, status, "a", 0), pulse.Ordered())
				drainSoon(t, bus)
				if a := got.of("a"); !slices.Equal(a, []int{2, 3}) {
					t.Errorf("of the key %v are handled", a)
				}
			})
		})
	}
}
