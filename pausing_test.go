package pulse_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// A person's pause is heeded within a moment, also while many deliveries fail and rows are being written all the time.
func TestPauseWhileDeliveriesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(&memstore.Options{Hook: func(_ context.Context, point string) error {
			if point == memstore.AdvanceBefore {
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		}})
		bus, err := pulse.New(store, quiet)
		if err != nil {
			t.Fatal(err)
		}
		var calls atomic.Int32
		subscribe(t, bus, "mailer", pulse.On(func(_ context.Context, e lesson) error {
			calls.Add(1)
			time.Sleep(time.Duration(7+e.N%5) * time.Millisecond)
			if e.N%3 == 0 {
				return errors.New("no")
			}
			return nil
		}))
		for i := range 10_000 {
			emit(t, bus, lesson{fmt.Sprint(i), i})
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- bus.Run(ctx) }()
		time.Sleep(time.Second)
		before := calls.Load()
		if err := bus.Pause(ctx, "mailer", "wrong text"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if after := calls.Load() - before; before == 0 || after > 20 {
			t.Errorf("%d were handled before the pause and %d after it", before, after)
		}
		cancel()
		<-ran
	})
}

// A subscription that pauses itself says so at once, and not when the slowest handler has returned.
func TestUnavailableBesideASlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := pulse.New(memstore.New(nil), quiet)
		if err != nil {
			t.Fatal(err)
		}
		subscribe(t, bus, "mailer", pulse.Timeout(2*time.Hour), pulse.On(func(ctx context.Context, e lesson) error {
			if e.N == 0 {
				<-ctx.Done()
				return ctx.Err()
			}
			return pulse.Unavailable(errors.New("mail server down"))
		}))
		emit(t, bus, lesson{"a", 0}, lesson{"b", 1})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- bus.Run(ctx) }()
		time.Sleep(500 * time.Millisecond)
		if s := one(t, bus); !strings.Contains(s.PauseReason, "mail server down") || !s.PausedUntil.After(time.Now()) {
			t.Errorf("paused until %v because %q", s.PausedUntil, s.PauseReason)
		}
		cancel()
		<-ran
	})
}

// A subscription that cannot say that it pauses, for the store does not answer, has its handlers stop once its lease is over.
func TestUnavailableAndCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cut atomic.Bool
		bus, err := pulse.New(memstore.New(&memstore.Options{Hook: func(ctx context.Context, point string) error {
			if cut.Load() && (point == memstore.LeaseBefore || point == memstore.ControlBefore) {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}), quiet)
		if err != nil {
			t.Fatal(err)
		}
		stopped := make(chan time.Duration, 1)
		subscribe(t, bus, "mailer", pulse.On(func(ctx context.Context, e lesson) error {
			if e.N == 1 {
				cut.Store(true)
				return pulse.Unavailable(errors.New("mail server down"))
			}
			began := time.Now()
			<-ctx.Done()
			stopped <- time.Since(began)
			return ctx.Err()
		}))
		emit(t, bus, lesson{"a", 0}, lesson{"b", 1})
		stop := (&relayed{Bus: bus}).running(t)
		if d := <-stopped; d > 6*time.Second {
			t.Errorf("the other handler was stopped after %s", d)
		}
		cut.Store(false)
		time.Sleep(time.Minute)
		stop()
	})
}
