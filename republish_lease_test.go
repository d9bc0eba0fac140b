package pulse_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

func TestTwoRepublishesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if n, err := s.republish(t, pulse.Query{Through: 9}, &pulse.RepublishOptions{Rate: 5}); err != nil || n != 9 {
					t.Errorf("%d, %v", n, err)
				}
			})
		}
		both.Wait()
		once := span(1, 9)
		if got := s.since(20); !slices.Equal(got, slices.Concat(once, once)) {
			t.Errorf("the broker got %v", got)
		}
		if r := s.relay(t); !r.PausedUntil.IsZero() || r.Holder != "" {
			t.Errorf("the relay is left paused or held: %+v", r)
		}
	})
}

func TestRepublishGivesUpWaitingForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		ctx, stop := context.WithCancel(t.Context())
		first := make(chan error)
		go func() {
			_, err := s.bus.Republish(ctx, "memory", s.broker.Publisher("memory"), pulse.Query{Through: 9}, &pulse.RepublishOptions{Rate: 1})
			first <- err
		}()
		go func() { // which holds it longer than anybody waits
			time.Sleep(4 * time.Second)
			s.broker.SetDown(true)
			time.Sleep(2 * time.Minute)
			stop()
		}()
		time.Sleep(2 * time.Second)
		if _, err := s.republish(t, pulse.Query{}, nil); !errors.Is(err, pulse.ErrHeld) {
			t.Errorf("error is %v, want an ErrHeld", err)
		}
		if r := s.relay(t); time.Until(r.PausedUntil) <= 0 {
			t.Error("giving up has ended the pause of the first")
		}
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the first: %v", err)
		}
	})
}

func TestRepublishRespectsThePausesOfPeople(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		relay := pulse.RelayName("memory")
		check := func(when string, paused bool) {
			t.Helper()
			if r := s.relay(t); r.PausedUntil.Equal(pulse.Forever) != paused {
				t.Errorf("%s: paused until %s for %q", when, r.PausedUntil, r.PauseReason)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		must(s.bus.Pause(t.Context(), relay, "the broker moves"))
		_, err := s.republish(t, pulse.Query{}, nil)
		must(err)
		check("paused before", true)
		must(s.bus.Resume(t.Context(), relay))

		slowly := &pulse.RepublishOptions{Rate: 1, Progress: func(sent int, _ pulse.Position) {
			if sent == 5 {
				must(s.bus.Pause(t.Context(), relay, "the broker moves"))
			}
		}}
		_, err = s.republish(t, pulse.Query{}, slowly)
		must(err)
		check("paused meanwhile", true)
		must(s.bus.Resume(t.Context(), relay))

		slowly.Progress = func(sent int, _ pulse.Position) {
			switch sent {
			case 5:
				must(s.bus.Resume(t.Context(), relay))
			case 50:
				check("resumed meanwhile", false)
				if r := s.relay(t); !r.PausedUntil.IsZero() || r.Holder == "" {
					t.Errorf("resumed meanwhile: %+v", r)
				}
			}
		}
		_, err = s.republish(t, pulse.Query{}, slowly)
		must(err)
		check("afterwards", false)
	})
}

// The relay sends nothing again when a republishing was interrupted: Last tells how far it had come before.
func TestRepublishInterruptedLeavesTheRelayItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		ctx, stop := context.WithCancel(t.Context())
		n, err := s.bus.Republish(ctx, "memory", s.broker.Publisher("memory"), pulse.Query{}, &pulse.RepublishOptions{
			Rate: 1, Progress: func(sent int, _ pulse.Position) {
				if sent == 6 {
					stop()
				}
			},
		})
		if n != 6 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d, %v", n, err)
		}
		if r := s.relay(t); !r.PausedUntil.IsZero() || r.Holder != "" {
			t.Errorf("the relay is left paused or held: %+v", r)
		}
		s.run(t, time.Minute)
		if got := s.since(20); !slices.Equal(got, span(1, 6)) {
			t.Errorf("the broker got %v", got)
		}
	})
}

func TestRepublishStopsWhenItLosesTheLease(t *testing.T) {
	t.Run("the store is down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSchool(t)
			n, err := s.republish(t, pulse.Query{}, &pulse.RepublishOptions{Rate: 1, Progress: func(sent int, _ pulse.Position) {
				if sent == 3 {
					s.setStoreFault(func(string) error { return errors.New("the disk is gone") })
				}
			}})
			if n < 3 || n > 10 || !errors.Is(err, pulse.ErrStore) {
				t.Errorf("%d, %v", n, err)
			}
			if got := s.since(20); len(got) != n {
				t.Errorf("without the lease the last message was sent: %v", got)
			}
		})
	})
	t.Run("the relay is dropped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, dropped := newSchool(t), false
			n, err := s.republish(t, pulse.Query{}, &pulse.RepublishOptions{Rate: 1, Progress: func(sent int, _ pulse.Position) {
				if sent == 3 && !dropped {
					dropped = true
					time.Sleep(time.Second / 10) // not at the moment at which the lease is renewed
					if err := s.bus.Drop(t.Context(), pulse.RelayName("memory")); err != nil {
						t.Error(err)
					}
				}
			}})
			if n > 5 || !errors.Is(err, pulse.ErrFenced) {
				t.Errorf("%d, %v", n, err)
			}
		})
	})
}

// crashedRepublish is a store that a process has that was killed: nothing it asks for happens any more.
type crashedRepublish struct {
	*memstore.Store
	dead atomic.Bool
}

var errKilled = errors.New("killed")

func (c *crashedRepublish) Acquire(ctx context.Context, l pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	if c.dead.Load() {
		return l, errKilled
	}
	return c.Store.Acquire(ctx, l, ttl)
}

func (c *crashedRepublish) Release(ctx context.Context, l pulse.Lease) error {
	if c.dead.Load() {
		return errKilled
	}
	return c.Store.Release(ctx, l)
}

func (c *crashedRepublish) Control(ctx context.Context, name string, to pulse.Control) error {
	if c.dead.Load() {
		return errKilled
	}
	return c.Store.Control(ctx, name, to)
}

func TestRepublishKilledLeavesAPauseThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		victim := &crashedRepublish{Store: s.store}
		bus, err := pulse.New(victim, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		_, err = bus.Republish(ctx, "memory", s.broker.Publisher("memory"), pulse.Query{}, &pulse.RepublishOptions{
			Rate: 1, Progress: func(sent int, _ pulse.Position) {
				if sent == 6 {
					victim.dead.Store(true)
					s.broker.SetDown(true) // for the dead: it sends nothing either
					stop()
				}
			},
		})
		if err == nil {
			t.Fatal("it was not killed")
		}
		s.broker.SetDown(false)
		r := s.relay(t)
		if left := time.Until(r.PausedUntil); r.PauseReason != "republish" || left <= 0 || left > 30*time.Second {
			t.Errorf("paused until %s for %q", r.PausedUntil, r.PauseReason)
		}
		emit(t, s.bus, lesson{"a", 10})
		begin := time.Now()
		drain(t, s.bus)
		if d := time.Since(begin); d > 31*time.Second {
			t.Errorf("the relay went on after %s", d)
		}
		got := s.since(20)
		if !slices.Contains(got, 21) {
			t.Errorf("the broker got %v: the new event is missing", got)
		}
		if r := s.relay(t); r.Cursor.Position != 21 || r.Dead+r.Retries != 0 {
			t.Errorf("the relay is at %+v", r)
		}
	})
}

// TestRepublishGoesOnWhenARenewalFails: the lease is still its own.
func TestRepublishGoesOnWhenARenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		asked := 0
		s.setStoreFault(func(point string) error {
			if point == memstore.LeaseBefore {
				if asked++; asked == 2 {
					return errors.New("the disk is full")
				}
			}
			return nil
		})
		if n, err := s.republish(t, pulse.Query{}, &pulse.RepublishOptions{Rate: 1}); n != 20 || err != nil || asked < 3 {
			t.Errorf("%d, %v after asking %d times", n, err, asked)
		}
	})
}
