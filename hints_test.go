package pulse_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// TestWhatATransactionEmittedIsSeenSoon, although nobody tells the bus of the commit: the sooner the shorter the transaction was.
func TestWhatATransactionEmittedIsSeenSoon(t *testing.T) {
	for _, c := range []struct {
		open, most time.Duration
	}{{0, 2 * time.Millisecond}, {5 * time.Millisecond, 2 * time.Millisecond}, {40 * time.Millisecond, 14 * time.Millisecond}, {time.Second, 20 * time.Millisecond}} {
		t.Run(c.open.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus, store := newBus(t)
				handled := make(chan time.Time, 1)
				subscribe(t, bus, "hearer", pulse.On(func(context.Context, lesson) error { handled <- time.Now(); return nil }))
				ctx, stop := context.WithCancel(t.Context())
				ran := make(chan error, 1)
				go func() { ran <- bus.Run(ctx) }()
				time.Sleep(time.Second + time.Millisecond) // out of step with the intervals
				err := store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
					_, err := bus.In(tx).Emit(ctx, lesson{})
					time.Sleep(c.open)
					return err
				})
				committed := time.Now()
				if err != nil {
					t.Fatal(err)
				}
				if took := (<-handled).Sub(committed); took > c.most {
					t.Errorf("it took %s, want %s at most", took, c.most)
				}
				stop()
				if err := <-ran; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// hinting is a store of two processes that tell each other.
type hinting struct {
	*memstore.Store
	mu    sync.Mutex
	hints int
	other func()
}

func (s *hinting) Hint() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hints++
	if s.other != nil {
		s.other()
	}
}

func (s *hinting) Listen(ctx context.Context, heard func()) error {
	s.mu.Lock()
	s.other = heard
	s.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

// TestOthersAreTold: a process that runs subscriptions hears at once of what another one emits.
func TestOthersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &hinting{Store: memstore.New(nil)}
		emitting, err := pulse.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		running, err := pulse.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		handled := make(chan time.Time, 1)
		subscribe(t, running, "hearer", pulse.On(func(context.Context, lesson) error { handled <- time.Now(); return nil }))
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- running.Run(ctx) }()
		time.Sleep(time.Second + time.Millisecond)
		for way, emit := range map[string]func() error{
			"Emit": func() error { _, err := emitting.Emit(t.Context(), lesson{}); return err },
			"Wake": func() error {
				defer emitting.Wake()
				return store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
					_, err := emitting.In(tx).Emit(ctx, lesson{})
					return err
				})
			},
		} {
			start, before := time.Now(), store.hints
			if err := emit(); err != nil {
				t.Fatal(err)
			}
			if took := (<-handled).Sub(start); took > 0 || store.hints == before {
				t.Errorf("%s: it took %s and %d hints", way, took, store.hints-before)
			}
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}
