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
