package pulse_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// When a subscription ends cleanly nothing that was handled is handled again, also not what had overtaken something that was not, and keys keep their order.
func TestACleanEndRepeatsNothing(t *testing.T) {
	const events, slow = 1000, 10
	for name, end := range map[string]func(t *testing.T, bus *pulse.Bus, stop func()){
		"stopped": func(_ *testing.T, _ *pulse.Bus, stop func()) { stop() },
		"paused": func(t *testing.T, bus *pulse.Bus, stop func()) {
			if err := bus.Pause(t.Context(), "mailer", "new version"); err != nil {
				t.Error(err)
			}
			time.Sleep(5 * time.Second)
			stop()
			if err := bus.Resume(t.Context(), "mailer"); err != nil {
				t.Error(err)
			}
		},
	} {
		for _, ordered := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ordered %t", name, ordered), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := memstore.New(nil)
					var saw seen
					begin := func() (*pulse.Bus, func()) {
						bus, err := pulse.New(store, quiet)
						if err != nil {
							t.Fatal(err)
						}
						opts := []pulse.SubscribeOption{pulse.Start(pulse.Beginning), pulse.On(func(_ context.Context, e lesson) error {
							if e.ID == "slow" {
								time.Sleep(time.Second)
							}
							saw.add(e)
							return nil
						})}
						if ordered {
							opts = append(opts, pulse.Ordered())
						}
						subscribe(t, bus, "mailer", opts...)
						ctx, cancel := context.WithCancel(t.Context())
						ran := make(chan error)
						go func() { ran <- bus.Run(ctx) }()
						return bus, func() {
							cancel()
							if err := <-ran; err != nil {
								t.Error(err)
							}
						}
					}
					bus, stop := begin()
					for i := range events {
						key := fmt.Sprint(i)
						if i < slow {
							key = "slow"
						}
						emit(t, bus, lesson{key, i})
					}
					time.Sleep(2500 * time.Millisecond)
					end(t, bus, stop)
					bus, stop = begin()
					drain(t, bus)
					stop()
					if n := len(saw.list); n != events {
						t.Errorf("%d deliveries of %d events", n, events)
					}
					if got := saw.of("slow"); ordered && !slices.IsSorted(got) {
						t.Errorf("the events of a key came in the order %v", got)
					}
					if s := one(t, bus); s.Lag() != 0 || s.Retries != 0 {
						t.Errorf("left behind: %+v", s)
					}
				})
			})
		}
	}
}

// A handler that does not return in time is left behind; its delivery comes again, and what was handled behind it does not.
func TestAnEndThatLeavesAHandlerBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		var saw seen
		life := func(d time.Duration, handle func(e lesson), evs ...lesson) {
			bus, err := pulse.New(store, &pulse.Options{Logger: quiet.Logger, DrainTimeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			subscribe(t, bus, "mailer", pulse.Start(pulse.Beginning), pulse.Timeout(time.Hour), pulse.On(func(_ context.Context, e lesson) error {
				saw.add(e)
				handle(e)
				return nil
			}))
			emit(t, bus, evs...)
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			if err := bus.Run(ctx); err != nil {
				t.Fatal(err)
			}
		}
		life(time.Second, func(e lesson) {
			if e.N == 2 {
				time.Sleep(10 * time.Second) // whatever its context says
			}
		}, lesson{"a", 1}, lesson{"b", 2}, lesson{"c", 3})
		life(time.Minute, func(lesson) {})
		if a, b, c := saw.of("a"), saw.of("b"), saw.of("c"); len(a) != 1 || len(b) != 2 || len(c) != 1 {
			t.Errorf("handled %v, %v and %v", a, b, c)
		}
	})
}

// What a session has handled as a row of the one before is not read again either, while what it has overtaken keeps the cursor back.
func TestACleanEndRepeatsNoRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := pulse.New(memstore.New(nil), quiet)
		if err != nil {
			t.Fatal(err)
		}
		var saw seen
		var down atomic.Bool
		down.Store(true)
		subscribe(t, bus, "mailer", pulse.Retry(pulse.RetryPolicy{First: time.Second}), pulse.On(func(_ context.Context, e lesson) error {
			switch saw.add(e); {
			case e.ID == "slow":
				time.Sleep(200 * time.Millisecond)
				if down.Load() {
					return pulse.Unavailable(errors.New("smtp is down"))
				}
			case len(saw.of("a")) == 1:
				return errors.New("not yet")
			}
			return nil
		}))
		emit(t, bus, lesson{"slow", 1}, lesson{"a", 2})
		stop := (&relayed{Bus: bus}).running(t)
		time.Sleep(time.Minute)
		down.Store(false)
		time.Sleep(time.Minute)
		stop()
		if slow, a := saw.of("slow"), saw.of("a"); len(slow) < 4 || len(a) != 2 {
			t.Errorf("handled %v and %v, want the latter twice", slow, a)
		}
	})
}
