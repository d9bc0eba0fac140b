// Package brokerworld is for the tests of adapters to brokers: a bus under load whose events go to a broker and come back from there, and the
// steps that such tests are made of.
package brokerworld

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// Subscription is the one that handles what comes from the broker.
const Subscription = "notes"

// change is an event; those of one lesson are numbered from 0.
type change struct {
	Lesson string `json:"lesson" pulse:"key"`
	N      int    `json:"n"`
	Text   string `json:"text"`
}

func (change) EventName() string { return "lesson.changed" }

// noted is the effect of a change, written in the transaction of its handler.
type noted change

func (noted) EventName() string { return "lesson.noted" }

// World is a bus whose changes go to a broker and from there to a subscription, which notes them.
type World struct {
	*pulse.Bus
	destination string
	done        chan struct{} // closed to end the load
	load        sync.WaitGroup
	counts      map[string]int // emitted changes of each lesson; of load
}

// New makes a world that runs until the end of the test.
func New(t *testing.T, destination string, publisher pulse.Publisher, source pulse.Source) *World {
	t.Helper()
	bus, err := pulse.New(memstore.New(nil), &pulse.Options{Source: "/school", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	w := &World{Bus: bus, destination: destination, done: make(chan struct{}), counts: map[string]int{}}
	if err := bus.Publish(destination, publisher, pulse.Route("lesson.changed")); err != nil {
		t.Fatal(err)
	}
	note := func(ctx context.Context, tx pulse.Tx, c change) error {
		_, err := bus.In(tx).Emit(ctx, noted(c))
		return err
	}
	if err := bus.Subscribe(Subscription, pulse.From(destination, source), pulse.Ordered(), pulse.Start(pulse.Beginning), pulse.OnTx(note)); err != nil {
		t.Fatal(err)
	}
	Run(t, bus)
	return w
}

// Begin emits the next change of each of eight lessons, again and again with a pause between, until End.
func (w *World) Begin(t *testing.T, pause time.Duration) {
	w.done = make(chan struct{})
	t.Cleanup(w.End)
	w.load.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			if w.Emit(t, 1); t.Failed() {
				return
			}
			select {
			case <-tick.C:
			case <-w.done:
				return
			}
		}
	})
}

// End ends the load.
func (w *World) End() {
	select {
	case <-w.done:
	default:
		close(w.done)
	}
	w.load.Wait()
}

// Emit emits the next n changes of each lesson, at once. It is not for while there is load.
func (w *World) Emit(t *testing.T, n int) {
	var evs []pulse.Event
	for range n {
		for _, lesson := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			evs = append(evs, change{lesson, w.counts[lesson], strings.Repeat("x", 400)})
			w.counts[lesson]++
		}
	}
	if _, err := w.EmitAll(context.WithoutCancel(t.Context()), evs); err != nil {
		t.Errorf("emit: %v", err)
	}
}

// Emitted is how many changes of each lesson were emitted. It is not for while there is load.
func (w *World) Emitted() int { return w.counts["a"] }

// AwaitHandled waits until n more positions have been handled.
func (w *World) AwaitHandled(t testing.TB, n pulse.Position) {
	t.Helper()
	at := w.Handled(t)
	Eventually(t, "handling of more events", func() bool { return w.Handled(t) >= at+n })
}

// AwaitPublished waits until the relay has published n more positions, and knows it.
func (w *World) AwaitPublished(t testing.TB, n pulse.Position) {
	t.Helper()
	at := w.Published(t)
	Eventually(t, "publishing of more events", func() bool { return w.Published(t) >= at+n })
}

// Handled is how far the subscription has come.
func (w *World) Handled(t testing.TB) pulse.Position {
	t.Helper()
	return w.State(t, Subscription).Cursor.Position
}

// Published is how far the relay has come.
func (w *World) Published(t testing.TB) pulse.Position {
	t.Helper()
	return w.Relay(t).Cursor.Position
}

// Relay is the state of the relay.
func (w *World) Relay(t testing.TB) pulse.SubscriptionState {
	t.Helper()
	return w.State(t, pulse.RelayName(w.destination))
}

// State is that of a subscription or relay.
func (w *World) State(t testing.TB, name string) pulse.SubscriptionState {
	t.Helper()
	states, err := w.Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(states, func(s pulse.SubscriptionState) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return states[i]
}

// AllNoted ends the load and fails the test unless every change is noted once, those of a lesson in order, and there are at least so many of each.
func (w *World) AllNoted(t testing.TB, least int) {
	t.Helper()
	w.End()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if err := w.Drain(ctx); err != nil {
		t.Errorf("%v; the subscription is at %d of %d, its relay at %d", err, w.Handled(t), w.State(t, Subscription).Head, w.Published(t))
	}
	seen := map[string]int{}
	for l, err := range pulse.Load[noted](t.Context(), w.Bus, pulse.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e := l.Event; e.N != seen[e.Lesson] {
			t.Fatalf("lesson %s: change %d is noted as number %d", e.Lesson, e.N, seen[e.Lesson])
		}
		seen[l.Event.Lesson]++
	}
	if !maps.Equal(seen, w.counts) {
		t.Errorf("noted are %v, emitted %v", seen, w.counts)
	}
	if n := seen["a"]; n < least {
		t.Errorf("only %d changes of each lesson, not %d", n, least)
	}
}

// AllStored fails the test unless payloads, what a broker has in the order in which it has them, hold every change, those of a lesson for the first
// time in order. It returns how often one was there again.
func (w *World) AllStored(t testing.TB, payloads iter.Seq[[]byte]) (again int) {
	t.Helper()
	seen := map[string]int{}
	for data := range payloads {
		var e change
		if err := json.Unmarshal(data, &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.N > seen[e.Lesson]:
			t.Fatalf("lesson %s: change %d is at the broker before %d", e.Lesson, e.N, seen[e.Lesson])
		case e.N < seen[e.Lesson]:
			again++
		default:
			seen[e.Lesson]++
		}
	}
	if !maps.Equal(seen, w.counts) {
		t.Errorf("at the broker are %v, emitted %v", seen, w.counts)
	}
	return again
}
