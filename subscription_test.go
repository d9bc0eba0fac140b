package pulse_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// lesson is the event of these tests.
type lesson struct {
	ID string `json:"id" pulse:"key"`
	N  int    `json:"n"`
}

func (lesson) EventName() string { return "lesson.changed" }

// seen collects what handlers saw.
type seen struct {
	mu   sync.Mutex
	list []lesson
}

func (s *seen) add(e lesson) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, e)
}

// of returns the numbers seen for a key, in order.
func (s *seen) of(key string) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ns []int
	for _, e := range s.list {
		if e.ID == key {
			ns = append(ns, e.N)
		}
	}
	return ns
}

func newBus(t *testing.T) (*pulse.Bus, *memstore.Store) {
	t.Helper()
	store := memstore.New(nil)
	bus, err := pulse.New(store, &pulse.Options{Source: "/test"})
	if err != nil {
		t.Fatal(err)
	}
	return bus, store
}

func subscribe(t *testing.T, bus *pulse.Bus, name string, opts ...pulse.SubscribeOption) {
	t.Helper()
	if err := bus.Subscribe(name, opts...); err != nil {
		t.Fatal(err)
	}
}

func emit(t *testing.T, bus *pulse.Bus, evs ...lesson) {
	t.Helper()
	for _, e := range evs {
		if _, err := bus.Emit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func drain(t *testing.T, bus *pulse.Bus) {
	t.Helper()
	if err := bus.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// one returns the state of the only subscription.
func one(t *testing.T, bus *pulse.Bus) pulse.SubscriptionState {
	t.Helper()
	states, err := bus.Subscriptions(t.Context())
	if err != nil || len(states) != 1 {
		t.Fatalf("states %v, %v", states, err)
	}
	return states[0]
}

func TestSubscriptionHandlesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		var got seen
		subscribe(t, bus, "mailer", pulse.On(func(_ context.Context, e lesson) error { got.add(e); return nil }))
		for i := range 5000 {
			emit(t, bus, lesson{"a", i})
		}
		drain(t, bus)
		if n := len(got.of("a")); n != 5000 {
			t.Errorf("handled %d of 5000", n)
		}
		if s := one(t, bus); s.Cursor.Position != 5000 || s.Lag() != 0 {
			t.Errorf("state %+v", s)
		}
	})
}

func TestOrderedBlocksTheKeyOfAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		var got seen
		fail := 3
		subscribe(t, bus, "index", pulse.Ordered(), pulse.Retry(pulse.RetryPolicy{Attempts: 5}),
			pulse.On(func(_ context.Context, e lesson) error {
				if e.ID == "a" && e.N == 2 && fail > 0 {
					fail--
					return errors.New("not yet")
				}
				got.add(e)
				return nil
			}))
		for i := range 10 {
			emit(t, bus, lesson{"a", i}, lesson{"b", i})
		}
		drain(t, bus)
		want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
		for _, key := range []string{"a", "b"} {
			if !slices.Equal(got.of(key), want) {
				t.Errorf("key %s: %v", key, got.of(key))
			}
		}
	})
}

func TestDeadLetterHoldsItsKeyUntilSettled(t *testing.T) {
	for _, how := range []pulse.Settlement{pulse.SettleRetry, pulse.SettleSkip, pulse.SettleDrop} {
		t.Run(string(how), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus, _ := newBus(t)
				var got seen
				broken := true
				subscribe(t, bus, "index", pulse.Ordered(), pulse.On(func(_ context.Context, e lesson) error {
					if e.ID == "a" && e.N == 2 && broken {
						return pulse.Park("poison")
					}
					got.add(e)
					return nil
				}))
				for i := range 5 {
					emit(t, bus, lesson{"a", i}, lesson{"b", i})
				}
				drain(t, bus)
				if !slices.Equal(got.of("a"), []int{0, 1}) || len(got.of("b")) != 5 {
					t.Fatalf("before: a %v, b %v", got.of("a"), got.of("b"))
				}
				if s := one(t, bus); s.Dead != 1 || s.Waiting != 2 || s.Blocked != 1 {
					t.Fatalf("state %+v", s)
				}
				broken = false
				if n, err := bus.Settle(t.Context(), pulse.DeliveryQuery{Subscription: "index"}, how); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				drain(t, bus)
				want := []int{0, 1, 2, 3, 4}
				if how != pulse.SettleRetry {
					want = []int{0, 1, 3, 4}
				}
				if !slices.Equal(got.of("a"), want) {
					t.Errorf("after: a %v, want %v", got.of("a"), want)
				}
				dead := 0
				if how == pulse.SettleSkip {
					dead = 1
				}
				if s := one(t, bus); s.Dead != dead || s.Waiting != 0 || s.Blocked != 0 {
					t.Errorf("state %+v", s)
				}
			})
		})
	}
}

func TestPanicsTimeoutsAndGoexitAreFailedAttempts(t *testing.T) {
	for name, fail := range map[string]func(context.Context) error{
		"panic":                         func(context.Context) error { panic("boom") },
		"timeout":                       func(ctx context.Context) error { <-ctx.Done(); panic(ctx.Err()) },
		"nil pointer in an error":       func(context.Context) error { var err *os.PathError; return err },
		"one that says nothing of that": func(context.Context) error { var err *refusal; return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus, _ := newBus(t)
				attempts := 0
				subscribe(t, bus, "mailer", pulse.Timeout(time.Second), pulse.Retry(pulse.RetryPolicy{Attempts: 3}),
					pulse.On(func(ctx context.Context, e lesson) error { attempts++; return fail(ctx) }))
				emit(t, bus, lesson{"a", 1})
				drain(t, bus)
				rows, err := bus.Deliveries(t.Context(), pulse.DeliveryQuery{})
				if err != nil || len(rows) != 1 || rows[0].Status != pulse.StatusDead || rows[0].Attempt != 3 || rows[0].Error == "" || rows[0].Stack == "" {
					t.Errorf("rows %+v, %v", rows, err)
				}
				if attempts != 3 {
					t.Errorf("%d attempts", attempts)
				}
			})
		})
	}
}

// refusal is an error with a cause.
type refusal struct{ cause error }

func (*refusal) Error() string   { return "refused" }
func (r *refusal) Unwrap() error { return r.cause }

func TestHungHandlerHoldsOnlyItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		var got seen
		release := make(chan struct{})
		subscribe(t, bus, "index", pulse.Ordered(), pulse.Timeout(time.Second), pulse.On(func(_ context.Context, e lesson) error {
			if e.ID == "a" && e.N == 0 {
				<-release
			}
			got.add(e)
			return nil
		}))
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- bus.Run(ctx) }()
		for i := range 4000 {
			emit(t, bus, lesson{"a", i}, lesson{fmt.Sprint("b", i), i})
		}
		time.Sleep(time.Minute)
		if n := len(got.of("a")); n != 0 {
			t.Errorf("%d of the hung key were handled", n)
		}
		got.mu.Lock()
		n := len(got.list)
		got.mu.Unlock()
		if n != 4000 {
			t.Errorf("%d of 4000 other events were handled", n)
		}
		close(release)
		drain(t, bus)
		if a := got.of("a"); len(a) != 4000 || !slices.IsSorted(a) {
			t.Errorf("after the return: %d handled", len(a))
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

func TestUnavailablePausesAndSpendsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		down, attempts, last := 4, 0, 0
		subscribe(t, bus, "mailer", pulse.Retry(pulse.RetryPolicy{Attempts: 1}),
			pulse.OnDelivery("lesson.>", func(_ context.Context, d *pulse.Delivery) error {
				attempts++
				if down > 0 {
					down--
					return pulse.Unavailable(errors.New("smtp refuses connections"))
				}
				last = d.Attempt
				return nil
			}))
		begin := time.Now()
		emit(t, bus, lesson{"a", 1})
		drain(t, bus)
		if s := one(t, bus); s.Dead != 0 || attempts != 5 || last != 1 {
			t.Errorf("state %+v after %d calls, the last as attempt %d", s, attempts, last)
		}
		if d := time.Since(begin); d < 15*time.Second || d > 20*time.Second {
			t.Errorf("paused for %s, want 1+2+4+8 seconds", d)
		}
	})
}

func TestReplayRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		var got seen
		var keys sync.Map
		subscribe(t, bus, "mailer", pulse.Ordered(), pulse.OnDelivery("lesson.>", func(_ context.Context, d *pulse.Delivery) error {
			var e lesson
			if err := d.Decode(&e); err != nil {
				return err
			}
			keys.Store(d.IdempotencyKey(), true)
			got.add(e)
			return nil
		}))
		emit(t, bus, lesson{"a", 1}, lesson{"a", 2}, lesson{"a", 3})
		drain(t, bus)
		if err := bus.Replay(t.Context(), "mailer", 2); err != nil {
			t.Fatal(err)
		}
		drain(t, bus)
		if want := []int{1, 2, 3, 2, 3}; !slices.Equal(got.of("a"), want) {
			t.Errorf("handled %v, want %v", got.of("a"), want)
		}
		n := 0
		keys.Range(func(any, any) bool { n++; return true })
		if n != 3 {
			t.Errorf("%d idempotency keys for 3 events", n)
		}
	})
}

func TestPauseAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		var got seen
		subscribe(t, bus, "mailer", pulse.On(func(_ context.Context, e lesson) error { got.add(e); return nil }))
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- bus.Run(ctx) }()
		emit(t, bus, lesson{"a", 1})
		drain(t, bus)
		if err := bus.Pause(t.Context(), "mailer", "maintenance"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		emit(t, bus, lesson{"a", 2})
		time.Sleep(time.Minute)
		if len(got.of("a")) != 1 {
			t.Errorf("handled while paused: %v", got.of("a"))
		}
		if err := bus.Resume(t.Context(), "mailer"); err != nil {
			t.Fatal(err)
		}
		drain(t, bus)
		if len(got.of("a")) != 2 {
			t.Errorf("not handled after resume: %v", got.of("a"))
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

func TestBatchSplitsToTheCulprit(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		t.Run(fmt.Sprint("ordered=", ordered), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus, _ := newBus(t)
				var got seen
				poison := true
				opts := []pulse.SubscribeOption{pulse.OnBatchTx("lesson.>", 100, func(_ context.Context, tx pulse.Tx, ds []pulse.Delivery) error {
					var es []lesson
					for _, d := range ds {
						var e lesson
						if err := d.Decode(&e); err != nil {
							return err
						}
						if e.ID == "a" && e.N == 37 && poison {
							return pulse.Park("poison")
						}
						es = append(es, e)
					}
					for _, e := range es {
						got.add(e)
					}
					return nil
				})}
				if ordered {
					opts = append(opts, pulse.Ordered())
				}
				subscribe(t, bus, "index", opts...)
				for i := range 100 {
					emit(t, bus, lesson{"a", i}, lesson{"b", i})
				}
				drain(t, bus)
				wantA := 99
				if ordered {
					wantA = 37
				}
				if a, b := got.of("a"), got.of("b"); len(a) != wantA || len(b) != 100 || ordered && !slices.IsSorted(a) {
					t.Fatalf("a %d %v, b %d", len(a), a, len(b))
				}
				poison = false
				if _, err := bus.Settle(t.Context(), pulse.DeliveryQuery{Subscription: "index"}, pulse.SettleRetry); err != nil {
					t.Fatal(err)
				}
				drain(t, bus)
				if a := got.of("a"); len(a) != 100 || ordered && !slices.IsSorted(a) {
					t.Errorf("after the retry: a %d %v", len(a), a)
				}
			})
		})
	}
}

func TestHandlerEmitsWithCausation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		subscribe(t, bus, "awards", pulse.OnTx(func(ctx context.Context, _ pulse.Tx, e lesson) error {
			_, err := bus.Emit(ctx, pulse.Raw{Name: "badge.awarded", Key: e.ID, Data: []byte(`{}`)})
			return err
		}))
		id, err := bus.Emit(t.Context(), lesson{"a", 1}, pulse.CorrelatedTo("request-1"))
		if err != nil {
			t.Fatal(err)
		}
		drain(t, bus)
		n := 0
		for env, err := range bus.Log(t.Context(), pulse.Query{Name: "badge.*"}) {
			if n++; err != nil || env.Causation != id || env.Correlation != "request-1" {
				t.Errorf("%+v, %v", env, err)
			}
		}
		if n != 1 {
			t.Errorf("%d badges", n)
		}
	})
}
