package pulse_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
	"github.com/edupulse-live/pulse/memstore"
)

// twoDestinations is a new log with a relay to a broker that has messages of another log, one to a broker that has none, and a
// subscription.
func twoDestinations(t *testing.T) (bus *pulse.Bus, foreign, own *membroker.Broker, got *seen) {
	t.Helper()
	foreign, own, got = membroker.New(nil), membroker.New(nil), &seen{}
	fromElsewhere(t, foreign, "foreign")
	bus, _ = newBus(t)
	err := errors.Join(bus.Publish("foreign", foreign.Publisher("foreign")), bus.Publish("own", own.Publisher("own")))
	if err != nil {
		t.Fatal(err)
	}
	subscribe(t, bus, "mailer", pulse.On(func(_ context.Context, e lesson) error { got.add(e); return nil }))
	emit(t, bus, lesson{"a", 1})
	return bus, foreign, own, got
}

// fromElsewhere publishes an event of another log.
func fromElsewhere(t *testing.T, broker *membroker.Broker, destination string) {
	t.Helper()
	other, err := pulse.New(memstore.New(nil), nil)
	if err == nil {
		err = other.Publish(destination, broker.Publisher(destination))
	}
	if err != nil {
		t.Fatal(err)
	}
	emit(t, other, lesson{"x", 1})
	drain(t, other)
}

// TestADivergedDestinationStopsNoOther: it is paused with the reason, over restarts, until a person has mended it and resumes it.
func TestADivergedDestinationStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, foreign, own, got := twoDestinations(t)
		stopped := func() {
			t.Helper()
			states, err := bus.Subscriptions(t.Context())
			i := slices.IndexFunc(states, func(s pulse.SubscriptionState) bool { return s.Name == pulse.RelayName("foreign") })
			if err != nil || !states[i].PausedUntil.Equal(pulse.Forever) || !strings.HasPrefix(states[i].PauseReason, pulse.ErrDiverged.Error()) || states[i].Holder != "" {
				t.Errorf("%+v, %v", states[i], err)
			}
			if n := len(foreign.Messages("foreign")); n != 1 {
				t.Errorf("%d messages are there", n)
			}
		}
		for n := range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- bus.Run(ctx) }()
			time.Sleep(time.Minute)
			stopped()
			emit(t, bus, lesson{"a", 2 + 2*n})
			if err := bus.Resume(t.Context(), pulse.RelayName("foreign")); err != nil { // nothing was mended
				t.Error(err)
			}
			time.Sleep(time.Minute)
			stopped()
			emit(t, bus, lesson{"a", 3 + 2*n})
			time.Sleep(time.Minute)
			if a := got.of("a"); len(a) != 3+2*n || len(own.Messages("own")) != 3+2*n {
				t.Errorf("the others stopped: handled %v, published %d", a, len(own.Messages("own")))
			}
			cancel()
			if err := <-ran; err != nil {
				t.Errorf("Run returned %v", err)
			}
		}
		if err := bus.Drain(t.Context()); !errors.Is(err, pulse.ErrDiverged) || !strings.Contains(err.Error(), "relay/foreign") {
			t.Errorf("Drain returned %v", err)
		}
		foreign.Wipe()
		if err := bus.Resume(t.Context(), pulse.RelayName("foreign")); err != nil {
			t.Error(err)
		}
		drainSoon(t, bus)
		if n := len(foreign.Messages("foreign")); n != 5 {
			t.Errorf("mended, it got %d", n)
		}
	})
}

// TestRunReturnsWhenNothingCanGoOn: at each start, until a person resumes something.
func TestRunReturnsWhenNothingCanGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, foreign, _, _ := twoDestinations(t)
		if err := bus.Close(); err != nil {
			t.Fatal(err)
		}
		store := memstore.New(nil)
		bus, err := pulse.New(store, nil)
		if err == nil {
			err = errors.Join(bus.Publish("foreign", foreign.Publisher("foreign")), bus.Publish("again", foreign.Publisher("foreign")))
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for range 2 {
			err := bus.Run(ctx)
			if !errors.Is(err, pulse.ErrDiverged) || !strings.Contains(err.Error(), "relay/foreign") || !strings.Contains(err.Error(), "relay/again") {
				t.Errorf("Run returned %v", err)
			}
		}
		foreign.Wipe()
		if err := bus.Resume(t.Context(), pulse.RelayName("again")); err != nil {
			t.Error(err)
		}
		brief, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := bus.Run(brief); err != nil || brief.Err() == nil {
			t.Errorf("with one resumed Run returned %v", err)
		}
	})
}

// TestAResumedDestinationGoesOn while all others have stopped since.
func TestAResumedDestinationGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		brokers := map[string]*membroker.Broker{"first": membroker.New(nil), "second": membroker.New(nil)}
		fromElsewhere(t, brokers["first"], "first")
		for name, broker := range brokers {
			if err := bus.Publish(name, broker.Publisher(name)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- bus.Run(ctx) }()
		time.Sleep(time.Minute)
		for _, name := range []string{"first", "second"} { // the one is mended, then the other one diverges
			brokers[name].Wipe()
			if name == "second" {
				fromElsewhere(t, brokers[name], name)
			}
			err := bus.Pause(t.Context(), pulse.RelayName(name), "test")
			time.Sleep(time.Minute)
			if err := errors.Join(err, bus.Resume(t.Context(), pulse.RelayName(name))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		emit(t, bus, lesson{"a", 1})
		time.Sleep(time.Minute)
		if first, second := len(brokers["first"].Messages("first")), len(brokers["second"].Messages("second")); first != 1 || second != 1 || len(ran) != 0 {
			t.Errorf("the first got %d, the second has %d, ended: %d", first, second, len(ran))
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestAMessageOfAnotherLogIsNoticed also where the relay has come further.
func TestAMessageOfAnotherLogIsNoticed(t *testing.T) {
	broker := membroker.New(nil)
	bus, _ := newBus(t)
	if err := bus.Publish("shared", broker.Publisher("shared")); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		emit(t, bus, lesson{"a", n})
	}
	drain(t, bus)
	broker.Wipe()
	fromElsewhere(t, broker, "shared")
	if err := bus.Drain(t.Context()); !errors.Is(err, pulse.ErrDiverged) {
		t.Errorf("Drain returned %v", err)
	}
	if n := len(broker.Messages("shared")); n != 1 {
		t.Errorf("%d messages are there", n)
	}
}

// TestARelayAheadOfTheLog cannot be replayed. What the error says to do instead works.
func TestARelayAheadOfTheLog(t *testing.T) {
	store, broker := memstore.New(nil), membroker.New(nil)
	open := func() *pulse.Bus {
		t.Helper()
		bus, err := pulse.New(store, nil)
		if err == nil {
			err = bus.Publish("nats", broker.Publisher("nats"))
		}
		if err != nil {
			t.Fatal(err)
		}
		return bus
	}
	bus := open()
	emit(t, bus, lesson{"a", 1}, lesson{"a", 2})
	lease, err := store.Acquire(t.Context(), pulse.Lease{Name: pulse.RelayName("nats"), Holder: "before the restore"}, time.Minute)
	if err == nil {
		err = store.Advance(t.Context(), lease, pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: 9}})
	}
	if err := errors.Join(err, store.Release(t.Context(), lease)); err != nil {
		t.Fatal(err)
	}
	err = bus.Drain(t.Context())
	if !errors.Is(err, pulse.ErrDiverged) || strings.Contains(err.Error(), "replay") || !strings.Contains(err.Error(), "an empty place at the destination and drop the relay") {
		t.Errorf("Drain returned %v", err)
	}
	if err := errors.Join(bus.Drop(t.Context(), pulse.RelayName("nats")), bus.Close()); err != nil {
		t.Fatal(err)
	}
	bus = open()
	drain(t, bus)
	if n := len(broker.Messages("nats")); n != 2 {
		t.Errorf("%d events were published, want 2", n)
	}
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
}
