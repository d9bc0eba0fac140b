package pulse_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// slowInfo is a store over a network: what Info tells is a moment old.
type slowInfo struct {
	*memstore.Store
	d time.Duration
}

func (s slowInfo) Info(ctx context.Context) (pulse.Info, error) {
	i, err := s.Store.Info(ctx)
	time.Sleep(s.d)
	return i, err
}

// Drain waits for what handlers emit, whenever they do.
func TestDrainWaitsForWhatHandlersEmit(t *testing.T) {
	for ms := range 100 {
		synctest.Test(t, func(t *testing.T) {
			bus, err := pulse.New(slowInfo{memstore.New(nil), 2 * time.Millisecond}, nil)
			if err != nil {
				t.Fatal(err)
			}
			var handled atomic.Int32
			subscribe(t, bus, "chain", pulse.On(func(ctx context.Context, e lesson) error {
				handled.Add(1)
				time.Sleep(time.Duration(ms) * time.Millisecond)
				if e.N == 3 {
					return nil
				}
				_, err := bus.Emit(ctx, lesson{"a", e.N + 1})
				return err
			}))
			emit(t, bus, lesson{"a", 0})
			drain(t, bus)
			if n := handled.Load(); n != 4 {
				t.Errorf("with handlers of %d ms Drain returned after %d of 4 events", ms, n)
			}
		})
	}
}

// A subscription may be added while another goroutine drains, or is told that it cannot be.
func TestSubscribeBesideDrain(t *testing.T) {
	for range 200 {
		bus, _ := newBus(t)
		subscribe(t, bus, "first", pulse.On(func(context.Context, lesson) error { return nil }))
		drained := make(chan error)
		go func() { drained <- bus.Drain(t.Context()) }()
		_ = bus.Subscribe("second", pulse.On(func(context.Context, lesson) error { return nil }))
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
	}
}
