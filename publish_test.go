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
	"github.com/edupulse-live/pulse/membroker"
	"github.com/edupulse-live/pulse/memstore"
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

// relayed is a bus whose subscription reads from a broker that the test can break.
type relayed struct {
	*pulse.Bus
	broker *membroker.Broker
	got    seen
}

func newRelayed(t *testing.T, hook membroker.Hook, opts ...pulse.SubscribeOption) *relayed {
	t.Helper()
	bus, _ := newBus(t)
	r := &relayed{Bus: bus, broker: membroker.New(&membroker.Options{Hook: hook})}
	if err := bus.Publish("memory", r.broker.Publisher("memory")); err != nil {
		t.Fatal(err)
	}
	subscribe(t, bus, "index", append(opts, pulse.From("memory", r.broker.Source("memory")), pulse.Ordered(),
		pulse.On(func(_ context.Context, e lesson) error { r.got.add(e); return nil }))...)
	return r
}

// running runs the bus until the returned function is called.
func (r *relayed) running(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}
}

// TestRelayThroughFaults: lost acknowledgements, dropped and doubled messages lose nothing; the first of each event comes in order.
func TestRelayThroughFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		faults := []membroker.Fault{membroker.LostAck, membroker.Drop, membroker.Duplicate}
		r := newRelayed(t, func(context.Context, string, *pulse.Envelope) membroker.Fault {
			if n++; n%97 == 0 {
				return faults[n/97%3]
			}
			return membroker.None
		})
		for i := range 1000 {
			emit(t, r.Bus, lesson{"a", i}, lesson{"b", i})
		}
		drain(t, r.Bus)
		for _, key := range []string{"a", "b"} {
			var first []int
			known := map[int]bool{}
			for _, i := range r.got.of(key) {
				if !known[i] {
					known[i] = true
					first = append(first, i)
				}
			}
			if len(first) != 1000 || !slices.IsSorted(first) {
				t.Errorf("key %s: %d of 1000 handled, in order: %t", key, len(first), slices.IsSorted(first))
			}
		}
		if n < 2000 {
			t.Errorf("only %d messages", n)
		}
	})
}

// TestBrokerLosesWhatItAcknowledged: wiped, or cut at its end, it gets again what the subscription has not handled.
func TestBrokerLosesWhatItAcknowledged(t *testing.T) {
	for name, lose := range map[string]func(b *membroker.Broker){
		"wiped": func(b *membroker.Broker) { b.Wipe() },
		"cut":   func(b *membroker.Broker) { b.Truncate("memory", 900) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRelayed(t, nil)
				for i := range 500 {
					emit(t, r.Bus, lesson{"a", i})
				}
				drain(t, r.Bus)
				if err := r.Pause(t.Context(), "index", "test"); err != nil {
					t.Fatal(err)
				}
				stop := r.running(t)
				for i := range 500 {
					emit(t, r.Bus, lesson{"a", 500 + i})
				}
				time.Sleep(10 * time.Second)
				stop()
				if n := len(r.broker.Messages("memory")); n != 1000 {
					t.Fatalf("%d of 1000 published", n)
				}
				lose(r.broker)
				if err := r.Resume(t.Context(), "index"); err != nil {
					t.Fatal(err)
				}
				emit(t, r.Bus, lesson{"a", 1000})
				drain(t, r.Bus)
				if got := r.got.of("a"); len(got) != 1001 || !slices.IsSorted(got) {
					t.Errorf("%d of 1001 handled, in order: %t", len(got), slices.IsSorted(got))
				}
			})
		})
	}
}

// TestDrainLooksAtTheDestination: what a broker lost while nobody ran is there again when Drain returns, also a second time on one bus.
func TestDrainLooksAtTheDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, store := newBus(t)
		broker := membroker.New(nil)
		for round := range 5 {
			bus, err := pulse.New(store, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := bus.Publish("memory", broker.Publisher("memory")); err != nil {
				t.Fatal(err)
			}
			for again := range 5 {
				for i := range 3 {
					emit(t, bus, lesson{"a", i})
				}
				drainSoon(t, bus)
				broker.Truncate("memory", 1)
				drainSoon(t, bus)
				if n := len(broker.Messages("memory")); n != 3*(5*round+again+1) {
					t.Fatalf("run %d of process %d: the broker has %d messages", again, round, n)
				}
			}
		}
	})
}

// TestDrainBesideAnotherProcess: the relay that runs there is good enough, once it is seen to be alive.
func TestDrainBesideAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, store := newBus(t)
		broker := membroker.New(nil)
		other, err := pulse.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range []*pulse.Bus{bus, other} {
			if err := b.Publish("memory", broker.Publisher("memory")); err != nil {
				t.Fatal(err)
			}
		}
		stop := (&relayed{Bus: other}).running(t)
		defer stop()
		emit(t, bus, lesson{"a", 1})
		time.Sleep(time.Second)
		drainSoon(t, bus)
		if n := len(broker.Messages("memory")); n != 1 {
			t.Errorf("%d messages", n)
		}
	})
}

// TestDrainAfterACrash: that the lease of a process that died is not over yet does not mean that somebody looked at the destination.
func TestDrainAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, store := newBus(t)
		broker := membroker.New(&membroker.Options{MaxBatch: 1, Hook: func(context.Context, string, *pulse.Envelope) membroker.Fault {
			time.Sleep(time.Second)
			return membroker.None
		}})
		if err := bus.Publish("memory", broker.Publisher("memory")); err != nil {
			t.Fatal(err)
		}
		emit(t, bus, lesson{"a", 1}, lesson{"a", 2})
		drainSoon(t, bus)
		if _, err := store.Acquire(t.Context(), pulse.Lease{Name: pulse.RelayName("memory"), Holder: "the one that died"}, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		broker.Wipe()
		drainSoon(t, bus)
		if n := len(broker.Messages("memory")); n != 2 {
			t.Errorf("%d messages", n)
		}
	})
}

// TestDrainAfterPublishingWithoutSaving: what the destination has counts as published, without a further event.
func TestDrainAfterPublishingWithoutSaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 0
		bus, _ := faultyBus(t, func(_ context.Context, point string) error {
			if point == memstore.AdvanceBefore && failures > 0 {
				failures--
				return errors.New("not now")
			}
			return nil
		})
		broker := membroker.New(nil)
		if err := bus.Publish("memory", broker.Publisher("memory")); err != nil {
			t.Fatal(err)
		}
		emit(t, bus, lesson{"a", 0})
		drainSoon(t, bus)
		failures = 1
		emit(t, bus, lesson{"a", 1}, lesson{"a", 2})
		drainSoon(t, bus)
		if n, s := len(broker.Messages("memory")), one(t, bus); n != 3 || s.Lag() != 0 || failures != 0 {
			t.Errorf("%d messages, relay %+v, failures left %d", n, s, failures)
		}
	})
}

// TestRejectedMessageIsParked: at the destination its key waits, others go on, and settled it is published after all. A subscription that
// reads there misses nothing meanwhile, and nothing comes to it twice.
func TestRejectedMessageIsParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuse atomic.Bool
		refuse.Store(true)
		r := newRelayed(t, func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
			if refuse.Load() && env.Position == 11 {
				return membroker.Refuse
			}
			return membroker.None
		})
		for i := range 100 {
			emit(t, r.Bus, lesson{"a", i}, lesson{"b", i})
		}
		stop := r.running(t)
		time.Sleep(time.Minute)
		if ps := published(r.broker); len(ps) != 105 || slices.Contains(ps, 11) {
			t.Errorf("%d published, want all of b and what is before the refused one of a: %v", len(ps), ps)
		}
		if a, b := r.got.of("a"), r.got.of("b"); len(a) != 100 || len(b) != 100 || !slices.IsSorted(a) {
			t.Errorf("%d of a, %d of b handled, in order: %t", len(a), len(b), slices.IsSorted(a))
		}
		refuse.Store(false)
		if n, err := r.Settle(t.Context(), pulse.DeliveryQuery{Subscription: pulse.RelayName("memory")}, pulse.SettleRetry); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		drain(t, r.Bus)
		stop()
		if ps, a := published(r.broker), r.got.of("a"); len(ps) != 200 || len(a) != 100 {
			t.Errorf("settled: %d of 200 published, %d of 100 of a handled", len(ps), len(a))
		}
	})
}

// TestFollowersOfARejectedMessageComeAfterIt: those of its key in the same batch are not published before it is settled, or, when it is
// skipped, recorded. Others are.
func TestFollowersOfARejectedMessageComeAfterIt(t *testing.T) {
	for name, skip := range map[string]bool{"holding up its key": false, "skipped": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus, _ := newBus(t)
				var refuse atomic.Bool
				refuse.Store(true)
				broker := membroker.New(&membroker.Options{Hook: func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
					switch list := rows(t, bus); {
					case refuse.Load() && env.Position == 3:
						return membroker.Refuse
					case refuse.Load() && env.Position > 3 && (len(list) == 0 || list[0].Position != 3):
						t.Errorf("position %d before the refused one is in the store: %+v", env.Position, list)
					}
					return membroker.None
				}})
				var opts []pulse.PublishOption
				if skip {
					opts = append(opts, pulse.SkipRejected())
				}
				if err := bus.Publish("memory", broker.Publisher("memory"), opts...); err != nil {
					t.Fatal(err)
				}
				for i := range 5 {
					emit(t, bus, lesson{"a", i}, lesson{"b", i})
				}
				drainSoon(t, bus)
				want := []pulse.Position{1, 2, 4, 6, 8, 10}
				if skip {
					want = []pulse.Position{1, 2, 4, 5, 6, 7, 8, 9, 10}
				}
				if got := published(broker); !slices.Equal(got, want) {
					t.Errorf("published %v, want %v", got, want)
				}
				for _, r := range rows(t, bus) {
					if r.Position != 3 && (r.Attempt != 0 || r.Status != pulse.StatusWaiting) {
						t.Errorf("a follower is charged: %+v", r)
					}
				}
				refuse.Store(false)
				if n, err := bus.Settle(t.Context(), pulse.DeliveryQuery{}, pulse.SettleRetry); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				drainSoon(t, bus)
				if got := published(broker); skip && (len(got) != 10 || got[9] != 3) || !skip && !slices.Equal(got[6:], []pulse.Position{3, 5, 7, 9}) {
					t.Errorf("settled, published %v", got)
				}
			})
		})
	}
}

// published are the positions at the destination.
func published(broker *membroker.Broker) []pulse.Position {
	var ps []pulse.Position
	for _, env := range broker.Messages("memory") {
		ps = append(ps, env.Position)
	}
	return ps
}

// TestBrokerDown: emitting goes on, no attempt is spent, and all arrives when it is back.
func TestBrokerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelayed(t, nil)
		r.broker.SetDown(true)
		stop := r.running(t)
		for i := range 1000 {
			emit(t, r.Bus, lesson{"a", i})
		}
		time.Sleep(10*time.Minute + 10*time.Second)
		if len(r.got.of("a")) != 0 {
			t.Error("handled without a broker")
		}
		r.broker.SetDown(false)
		begin := time.Now()
		for len(r.got.of("a")) < 1000 && time.Since(begin) < time.Hour {
			time.Sleep(time.Second)
		}
		if took := time.Since(begin); took > 15*time.Second { // the longest pause of a relay, and then that of the subscription
			t.Errorf("%d of 1000 handled %s after the broker came back", len(r.got.of("a")), took)
		}
		stop()
	})
}

// TestExpiredMessagesComeFromTheLog: a subscription that was away for longer than the broker keeps messages.
func TestExpiredMessagesComeFromTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelayed(t, nil)
		if err := r.Pause(t.Context(), "index", "away"); err != nil {
			t.Fatal(err)
		}
		stop := r.running(t)
		for i := range 300 {
			emit(t, r.Bus, lesson{"a", i})
		}
		time.Sleep(10 * time.Second)
		r.broker.Expire("memory", 200)
		if err := r.Resume(t.Context(), "index"); err != nil {
			t.Fatal(err)
		}
		drain(t, r.Bus)
		stop()
		if got := r.got.of("a"); len(got) != 300 || !slices.IsSorted(got) {
			t.Errorf("%d of 300 handled, in order: %t", len(got), slices.IsSorted(got))
		}
	})
}

// TestDrainOfEventsNotRouted: what the subscription does not handle does not hold up its cursor.
func TestDrainOfEventsNotRouted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelayed(t, nil)
		emit(t, r.Bus, lesson{"a", 1})
		for range 100 {
			if _, err := r.Emit(t.Context(), pulse.Raw{Name: "other.event", Data: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
		}
		drain(t, r.Bus)
		states, err := r.Subscriptions(t.Context())
		if err != nil || len(states) != 2 {
			t.Fatal(states, err)
		}
		for _, s := range states {
			if s.Lag() != 0 {
				t.Errorf("%s has a lag of %d", s.Name, s.Lag())
			}
		}
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

// TestFollowersFromTheBroker: behind a failed event, several of its key come from the broker and wait as rows; all are handled
// in order once it succeeds.
func TestFollowersFromTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		broker := membroker.New(nil)
		if err := bus.Publish("memory", broker.Publisher("memory")); err != nil {
			t.Fatal(err)
		}
		var got seen
		failures := 0
		subscribe(t, bus, "index", pulse.From("memory", broker.Source("memory")), pulse.Ordered(),
			pulse.On(func(_ context.Context, e lesson) error {
				if e.ID == "a" && e.N == 3 && failures < 2 {
					failures++
					return errors.New("not now")
				}
				got.add(e)
				return nil
			}))
		for i := range 10 {
			emit(t, bus, lesson{"a", i}, lesson{"b", i})
		}
		drainSoon(t, bus)
		for _, key := range []string{"a", "b"} {
			if ns := got.of(key); len(ns) != 10 || !slices.IsSorted(ns) {
				t.Errorf("key %s: %v handled, want 0 to 9 in order", key, ns)
			}
		}
	})
}

// TestNothingIsPassedOverByACrash: what the relay passed over, because it was refused or follows something refused, is written down
// before anything behind it is published: a relay that fails to save goes on behind what it finds at the destination, and
// that must not lie behind something nobody knows of.
func TestNothingIsPassedOverByACrash(t *testing.T) {
	for failing := range 5 {
		t.Run(fmt.Sprint("save ", failing), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				saves := 0
				bus, _ := faultyBus(t, func(_ context.Context, point string) error {
					if point != memstore.AdvanceBefore {
						return nil
					}
					if saves++; saves == failing+1 {
						return errors.New("the disk is on fire")
					}
					return nil
				})
				broker := membroker.New(&membroker.Options{Hook: func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
					if env.Key == "a" && env.Position%10 == 3 {
						return membroker.Refuse
					}
					return membroker.None
				}})
				if err := bus.Publish("memory", broker.Publisher("memory")); err != nil {
					t.Fatal(err)
				}
				stop := (&relayed{Bus: bus}).running(t)
				for i := range 20 { // the key a waits from position 3 on
					emit(t, bus, lesson{"a", i}, lesson{"b", i})
					if i == 10 {
						time.Sleep(time.Second)
					}
				}
				time.Sleep(time.Minute)
				stop()
				known := map[pulse.Position]bool{}
				for _, p := range published(broker) {
					known[p] = true
				}
				for _, r := range rows(t, bus) {
					known[r.Position] = true
				}
				for p := pulse.Position(1); p <= 40; p++ {
					if !known[p] {
						t.Errorf("position %d is neither at the destination nor noted", p)
					}
				}
				if saves <= failing {
					t.Errorf("only %d saves: nothing failed", saves)
				}
			})
		})
	}
}

// TestRelayIsNotReplayed: what it has refused would be forgotten, and the rest is behind the destination's last message.
func TestRelayIsNotReplayed(t *testing.T) {
	bus, _ := newBus(t)
	if err := bus.Publish("memory", membroker.New(nil).Publisher("memory")); err != nil {
		t.Fatal(err)
	}
	if err := bus.Replay(t.Context(), pulse.RelayName("memory"), 1); !errors.Is(err, pulse.ErrInvalid) {
		t.Errorf("replay of a relay: %v, want an ErrInvalid", err)
	}
}
