package pulse_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// TestItsOwnPauseRacesAPersons: decided in the same instant, that of the person stays.
func TestItsOwnPauseRacesAPersons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var person atomic.Bool
		var bus *pulse.Bus
		bus, _ = faultyBus(t, func(ctx context.Context, point string) error {
			if point == memstore.ControlBefore && person.CompareAndSwap(false, true) { // it has looked, and found no pause
				return bus.Pause(context.WithoutCancel(ctx), "mailer", "maintenance")
			}
			return nil
		})
		subscribe(t, bus, "mailer", pulse.On(func(context.Context, lesson) error { return pulse.Unavailable(errors.New("smtp is down")) }))
		emit(t, bus, lesson{"a", 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := bus.Run(ctx); err != nil {
			t.Error(err)
		}
		if s := one(t, bus); !person.Load() || !s.PausedUntil.Equal(pulse.Forever) || s.PauseReason != "maintenance" {
			t.Errorf("state %+v", s)
		}
	})
}

// TestRepublishRacesAPersonsPause: whenever a person pauses the relay while it is republished in its place, it stays paused.
func TestRepublishRacesAPersonsPause(t *testing.T) {
	for nth := range 3 { // of the changes republishing makes: the pause, what makes it last, and the end of it
		t.Run(fmt.Sprint("change ", nth+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSchool(t)
				changes := 0
				s.storeFault = func(point string) error {
					if point != memstore.ControlBefore {
						return nil
					}
					if changes++; changes != nth+1 {
						return nil
					}
					s.mu.Unlock() // a person is quicker
					defer s.mu.Lock()
					return s.bus.Pause(t.Context(), pulse.RelayName("memory"), "maintenance")
				}
				n, err := s.bus.Republish(t.Context(), "memory", s.broker.Publisher("memory"), pulse.Query{}, &pulse.RepublishOptions{Rate: 1})
				if n != 20 || err != nil {
					t.Errorf("republished %d, %v", n, err)
				}
				if r := s.relay(t); changes <= nth || !r.PausedUntil.Equal(pulse.Forever) || r.PauseReason != "maintenance" {
					t.Errorf("after %d changes the relay is at %+v", changes, r)
				}
			})
		})
	}
}

// TestRepublishRacesAPersonsResume: a pause that a person has ended is not made again while it goes on.
func TestRepublishRacesAPersonsResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		var changes atomic.Int32
		var resumed atomic.Bool
		s.storeFault = func(point string) error {
			if point != memstore.ControlBefore {
				return nil
			}
			if changes.Add(1) != 2 { // the first that makes the pause last
				return nil
			}
			s.mu.Unlock()
			defer s.mu.Lock()
			err := s.bus.Resume(t.Context(), pulse.RelayName("memory"))
			resumed.Store(true)
			return err
		}
		n, err := s.bus.Republish(t.Context(), "memory", s.broker.Publisher("memory"), pulse.Query{}, &pulse.RepublishOptions{
			Rate: 1, Progress: func(int, pulse.Position) {
				if r := s.relay(t); resumed.Load() && time.Until(r.PausedUntil) > 0 {
					t.Errorf("paused again: %+v", r)
				}
			},
		})
		if n != 20 || err != nil || changes.Load() < 2 {
			t.Errorf("republished %d, %v; %d changes", n, err, changes.Load())
		}
	})
}
