package pulse_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
)

func TestPublishAndHandleFromTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		broker := membroker.New(nil)
		if err := bus.Publish("memory", broker.Publisher("memory")); err != nil {
			t.Fatal(err)
		}
		var got seen
		subscribe(t, bus, "index", pulse.From("memory", broker.Source("memory")), pulse.Ordered(),
			pulse.On(func(_ context.Context, e lesson) error { got.add(e); return nil }))
		for i := range 3000 {
			emit(t, bus, lesson{"a", i}, lesson{"b", i})
		}
		begin := time.Now()
		drain(t, bus)
		for _, key := range []string{"a", "b"} {
			if ns := got.of(key); len(ns) != 3000 || !slices.IsSorted(ns) {
				t.Errorf("key %s: %d handled", key, len(ns))
			}
		}
		t.Log(time.Since(begin))
	})
}

// TestDrainBesideASlowRelay: the subscription is done before its relay has saved that it published; the cursor follows.
func TestDrainBesideASlowRelay(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			r := newRelayed(t, nil)
			for i := range 3 {
				emit(t, r.Bus, lesson{"a", i})
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := r.Drain(ctx); err != nil {
				t.Fatal(err)
			}
		})
	}
}
