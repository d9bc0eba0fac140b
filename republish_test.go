package pulse_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
	"github.com/edupulse-live/pulse/memstore"
)

// school is a store and a broker to which the relay "memory" has published twenty events of the keys a and b.
type school struct {
	store  *memstore.Store
	bus    *pulse.Bus
	broker *membroker.Broker

	storeFault func(point string) error                  // nil for none
	fault      func(env *pulse.Envelope) membroker.Fault // nil for none
	mu         sync.Mutex                                // guards the faults
}

func newSchool(t *testing.T, opts ...pulse.PublishOption) *school {
	t.Helper()
	s := &school{}
	s.store = memstore.New(&memstore.Options{Hook: func(_ context.Context, point string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.storeFault == nil {
			return nil
		}
		return s.storeFault(point)
	}})
	s.broker = membroker.New(&membroker.Options{MaxBatch: 4, Hook: func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
		s.mu.Lock()
		fault := s.fault
		s.mu.Unlock()
		if fault == nil {
			return membroker.None
		}
		return fault(env)
	}})
	s.bus = s.open(t, opts...)
	for i := range 10 {
		emit(t, s.bus, lesson{"a", i}, lesson{"b", i})
	}
	drain(t, s.bus)
	return s
}

// open opens a further bus on the store, with the relay.
func (s *school) open(t *testing.T, opts ...pulse.PublishOption) *pulse.Bus {
	t.Helper()
	bus, err := pulse.New(s.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Publish("memory", s.broker.Publisher("memory"), opts...); err != nil {
		t.Fatal(err)
	}
	return bus
}

// setFault replaces the broker's fault.
func (s *school) setFault(fault func(env *pulse.Envelope) membroker.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// setStoreFault replaces the store's fault.
func (s *school) setStoreFault(fault func(point string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.storeFault = fault
}

// run runs the relay for a while.
func (s *school) run(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := s.bus.Run(ctx); err != nil {
		t.Error(err)
	}
}

func (s *school) republish(t *testing.T, q pulse.Query, opts *pulse.RepublishOptions) (int, error) {
	t.Helper()
	return s.bus.Republish(t.Context(), "memory", s.broker.Publisher("memory"), q, opts)
}

// since lists the positions of the broker's messages but the first n.
func (s *school) since(n int) []pulse.Position {
	var ps []pulse.Position
	for _, env := range s.broker.Messages("memory")[n:] {
		ps = append(ps, env.Position)
	}
	return ps
}

// relay is the state of the relay.
func (s *school) relay(t *testing.T) pulse.SubscriptionState {
	t.Helper()
	states, err := s.store.States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range states {
		if state.Name == pulse.RelayName("memory") {
			return state
		}
	}
	t.Fatal("there is no relay")
	return pulse.SubscriptionState{}
}

func span(from, through pulse.Position) []pulse.Position {
	var ps []pulse.Position
	for p := from; p <= through; p++ {
		ps = append(ps, p)
	}
	return ps
}

func TestRepublishSendsWhatIsSelected(t *testing.T) {
	for _, c := range []struct {
		name string
		q    pulse.Query
		want []pulse.Position // with the last message again
	}{
		{"all", pulse.Query{}, span(1, 20)},
		{"from a position", pulse.Query{After: 17}, span(18, 20)},
		{"a span", pulse.Query{After: 3, Through: 9}, span(4, 9)},
		{"one", pulse.Query{After: 19, Through: 20}, span(20, 20)},
		{"a key", pulse.Query{Key: "a", Through: 5}, []pulse.Position{1, 3, 5}},
		{"a few", pulse.Query{Limit: 2}, []pulse.Position{1, 2}},
		{"a pattern that nothing has", pulse.Query{Name: "quiz.>"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSchool(t)
				before := s.relay(t)
				n, err := s.republish(t, c.q, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := s.since(20); !slices.Equal(got, c.want) || n != len(c.want) {
					t.Errorf("%d sent: %v, want %v", n, got, c.want)
				}
				after := s.relay(t)
				if after.Cursor != before.Cursor || after.Generation != before.Generation {
					t.Errorf("the relay was at %+v and is at %+v", before, after)
				}
				if !after.PausedUntil.IsZero() || after.Holder != "" {
					t.Errorf("the relay is left paused or held: %+v", after)
				}
				s.run(t, time.Minute) // which compares the destination with the relay
				if got := len(s.since(20)); got != len(c.want) {
					t.Errorf("the relay sent %d more", got-len(c.want))
				}
			})
		})
	}
}

func TestRepublishRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		emit(t, s.bus, lesson{"a", 10}) // not published
		p := s.broker.Publisher("memory")
		for _, c := range []struct {
			name        string
			destination string
			p           pulse.Publisher
			q           pulse.Query
			opts        *pulse.RepublishOptions
			want        error
			text        string
		}{
			{"through beyond the relay", "memory", p, pulse.Query{Through: 21}, nil, pulse.ErrInvalid, "published up to 20"},
			{"from beyond the relay", "memory", p, pulse.Query{After: 20}, nil, pulse.ErrInvalid, "from position 21"},
			{"the same when nothing would be sent", "memory", p, pulse.Query{After: 20}, &pulse.RepublishOptions{DryRun: true}, pulse.ErrInvalid, "from position 21"},
			{"a destination never published to", "kafka", p, pulse.Query{}, nil, pulse.ErrNotFound, "kafka"},
			{"no name", "", p, pulse.Query{}, nil, pulse.ErrInvalid, ""},
			{"no publisher", "memory", nil, pulse.Query{}, nil, pulse.ErrInvalid, "nil"},
			{"a negative rate", "memory", p, pulse.Query{}, &pulse.RepublishOptions{Rate: -1}, pulse.ErrInvalid, "-1"},
		} {
			n, err := s.bus.Republish(t.Context(), c.destination, c.p, c.q, c.opts)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || n != 0 {
				t.Errorf("%s: %d, %v", c.name, n, err)
			}
		}
		if got := s.since(20); got != nil {
			t.Errorf("%v were sent", got)
		}
		if r := s.relay(t); !r.PausedUntil.IsZero() || r.Holder != "" {
			t.Errorf("the relay was touched: %+v", r)
		}
	})
}

// What the destination lost is the relay's to send again: after a republish that could not be seen any more.
func TestRepublishToAnEmptiedDestinationLeavesTheLossVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		s.broker.Wipe()
		if _, err := s.republish(t, pulse.Query{After: 9}, nil); !errors.Is(err, pulse.ErrBroker) {
			t.Fatalf("error is %v", err)
		}
		s.run(t, time.Minute)
		if got := s.since(0); !slices.Equal(got, span(1, 20)) {
			t.Errorf("afterwards the broker has %v", got)
		}
	})
}

func TestRepublishToATruncatedDestinationLeavesTheLossVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		s.broker.Truncate("memory", 12)
		if n, err := s.republish(t, pulse.Query{After: 16}, nil); n != 0 || !errors.Is(err, pulse.ErrBroker) || !strings.Contains(err.Error(), "after position 12") {
			t.Fatalf("%d sent, error is %v", n, err)
		}
		if n, err := s.republish(t, pulse.Query{After: 6, Through: 12}, nil); n != 6 || err != nil {
			t.Fatalf("of what is there %d sent, error is %v", n, err)
		}
		s.run(t, time.Minute)
		got := s.since(12)
		if want := slices.Concat(span(7, 12), span(13, 20)); !slices.Equal(got, want) {
			t.Errorf("afterwards came %v, want %v", got, want)
		}
	})
}

func TestRepublishDryRunWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		s.setStoreFault(func(point string) error { t.Errorf("a write at %s", point); return nil })
		n, err := s.republish(t, pulse.Query{Key: "b"}, &pulse.RepublishOptions{DryRun: true})
		if err != nil || n != 10 {
			t.Errorf("%d, %v", n, err)
		}
		if got := s.since(20); got != nil {
			t.Errorf("%v were sent", got)
		}
	})
}

func TestRepublishLeavesOutWhatTheRelayStillOwes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		s.setFault(func(env *pulse.Envelope) membroker.Fault {
			if env.Position == 21 {
				return membroker.Refuse
			}
			return membroker.None
		})
		emit(t, s.bus, lesson{"a", 10}, lesson{"b", 10})
		drain(t, s.bus)
		emit(t, s.bus, lesson{"a", 11}) // waits behind the first
		drain(t, s.bus)
		s.setFault(nil)
		if n, err := s.republish(t, pulse.Query{After: 19}, nil); err != nil || n != 2 {
			t.Errorf("%d, %v", n, err)
		}
		if got := s.since(21); !slices.Equal(got, []pulse.Position{20, 22}) {
			t.Errorf("%v were sent", got)
		}
		if r := s.relay(t); r.Dead != 1 || r.Waiting != 1 {
			t.Errorf("the relay owes %+v", r)
		}
	})
}

type quiz struct{}

func (quiz) EventName() string { return "quiz.submitted" }

func TestRepublishKeepsToTheRoutesOfTheDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t, pulse.Route("lesson.>"))
		if _, err := s.bus.Emit(t.Context(), quiz{}); err != nil {
			t.Fatal(err)
		}
		drain(t, s.bus)
		if n, err := s.republish(t, pulse.Query{After: 18}, nil); err != nil || n != 2 {
			t.Errorf("%d, %v", n, err)
		}
		if got := s.since(20); !slices.Equal(got, span(19, 20)) {
			t.Errorf("%v were sent", got)
		}
	})
}

func TestRepublishTriesUntilTheDestinationAnswers(t *testing.T) {
	for _, fault := range []membroker.Fault{membroker.Drop, membroker.LostAck, membroker.Duplicate} {
		t.Run(fmt.Sprint("fault ", fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSchool(t)
				calls := 0
				s.setFault(func(*pulse.Envelope) membroker.Fault {
					if calls++; calls%3 == 0 {
						return fault
					}
					return membroker.None
				})
				if n, err := s.republish(t, pulse.Query{Through: 15}, nil); err != nil || n != 15 {
					t.Fatalf("%d, %v", n, err)
				}
				got := s.since(20)
				if first := slices.Compact(slices.Clone(got)); !slices.Equal(first, span(1, 15)) {
					t.Errorf("the broker got %v", got)
				}
				if fault != membroker.Drop && len(got) == 15 {
					t.Error("no fault happened")
				}
			})
		})
	}
}

func TestRepublishWaitsForADestinationThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		s.setFault(func(env *pulse.Envelope) membroker.Fault {
			if env.Position == 7 {
				s.setFault(nil)
				s.broker.SetDown(true)
				time.AfterFunc(10*time.Minute, func() { s.broker.SetDown(false) })
			}
			return membroker.None
		})
		begin := time.Now()
		if n, err := s.republish(t, pulse.Query{}, nil); err != nil || n != 20 {
			t.Fatalf("%d, %v", n, err)
		}
		if d := time.Since(begin); d < 10*time.Minute || d > 11*time.Minute {
			t.Errorf("it took %s", d)
		}
		if got := s.since(20); !slices.Equal(got, span(1, 20)) {
			t.Errorf("the broker got %v", got)
		}
	})
}

func TestRepublishCountsWhatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		s.setFault(func(env *pulse.Envelope) membroker.Fault {
			if env.Position == 1 || env.Position == 8 {
				return membroker.Refuse
			}
			return membroker.None
		})
		begin := time.Now()
		n, err := s.republish(t, pulse.Query{Through: 10}, nil)
		if n != 8 || !errors.Is(err, pulse.ErrBroker) || !strings.Contains(err.Error(), "2 events were refused, the first: position 1") {
			t.Errorf("%d, %v", n, err)
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("it waited %s for a destination that answers", took)
		}
		if got := s.since(20); !slices.Equal(got, []pulse.Position{2, 3, 4, 5, 6, 7, 9, 10}) {
			t.Errorf("the broker got %v", got)
		}
		if r := s.relay(t); r.Dead != 0 {
			t.Errorf("the relay has dead letters: %+v", r)
		}
	})
}

func TestRepublishRateAndProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		begin := time.Now()
		var progress []string
		opts := &pulse.RepublishOptions{Rate: 10, Progress: func(sent int, through pulse.Position) {
			progress = append(progress, fmt.Sprintf("%d/%d", sent, through))
		}}
		if n, err := s.republish(t, pulse.Query{After: 10}, opts); err != nil || n != 10 {
			t.Fatalf("%d, %v", n, err)
		}
		if d := time.Since(begin); d < 900*time.Millisecond || d > 1200*time.Millisecond {
			t.Errorf("10 events at 10 a second took %s", d)
		}
		if got := strings.Join(progress, " "); got != "1/11 2/12 3/13 4/14 5/15 6/16 7/17 8/18 9/19 10/20" {
			t.Errorf("progress: %s", got)
		}
	})
}

// Beside a running relay and subscriptions that read from the broker: one writer at a time, and no handler runs again.
func TestRepublishBesideARunningBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		var fromBroker, fromLog atomic.Int32
		reader := s.open(t)
		subscribe(t, reader, "index", pulse.From("memory", s.broker.Source("memory")), pulse.Start(pulse.Beginning),
			pulse.On(func(context.Context, lesson) error { fromBroker.Add(1); return nil }))
		subscribe(t, reader, "mailer", pulse.Start(pulse.Beginning),
			pulse.On(func(context.Context, lesson) error { fromLog.Add(1); return nil }))
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, bus := range []*pulse.Bus{s.bus, reader} {
			running.Go(func() {
				if err := bus.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		running.Go(func() {
			for i := range 100 {
				emit(t, s.bus, lesson{"a", 10 + i})
				time.Sleep(20 * time.Millisecond)
			}
		})
		time.Sleep(500 * time.Millisecond)
		republisher, err := pulse.New(s.store, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := republisher.Republish(t.Context(), "memory", s.broker.Publisher("memory"), pulse.Query{Through: 20}, nil); err != nil || n != 20 {
			t.Errorf("%d, %v", n, err)
		}
		time.Sleep(5 * time.Second)
		stop()
		running.Wait()

		got := s.since(20)
		at := slices.Index(got, 1)
		if at < 1 || at > 80 || !slices.Equal(got[at:at+20], span(1, 20)) {
			t.Fatalf("the broker got %v: sent again is not in one piece, or not in the middle", got)
		}
		if rest := slices.Delete(slices.Clone(got), at, at+20); !slices.Equal(rest, span(21, 120)) {
			t.Errorf("the relay published %v", rest)
		}
		if fromBroker.Load() != 120 || fromLog.Load() != 120 {
			t.Errorf("handled %d from the broker, %d from the log, want 120 each", fromBroker.Load(), fromLog.Load())
		}
	})
}
