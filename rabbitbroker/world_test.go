package rabbitbroker_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// change is an event; those of one lesson are numbered from 0.
type change struct {
	Lesson string `json:"lesson" pulse:"key"`
	N      int    `json:"n"`
}

func (change) EventName() string { return "lesson.changed" }

// noted is the effect of a change, written in the transaction of its handler.
type noted change

func (noted) EventName() string { return "lesson.noted" }

// world is a bus whose events go to a broker and from there to a subscription.
type world struct {
	*pulse.Bus
	done   chan struct{} // closed to end the load
	load   sync.WaitGroup
	counts map[string]int // emitted changes of each lesson; of load
}

const subscription = "notes"

// newWorld makes a world that runs until the end of the test.
func newWorld(t *testing.T, b *rabbitbroker.Broker) *world {
	t.Helper()
	bus, err := pulse.New(memstore.New(nil), &pulse.Options{Source: "/school", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Bus: bus, done: make(chan struct{}), counts: map[string]int{}}
	if err := bus.Publish("rabbit", b.Publisher(), pulse.Route("lesson.changed")); err != nil {
		t.Fatal(err)
	}
	note := func(ctx context.Context, tx pulse.Tx, c change) error {
		_, err := bus.In(tx).Emit(ctx, noted(c))
		return err
	}
	if err := bus.Subscribe(subscription, pulse.From("rabbit", b.Source()), pulse.Ordered(), pulse.Start(pulse.Beginning), pulse.OnTx(note)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- bus.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return w
}

// begin emits changes of eight lessons, some 400 in a second, until end.
func (w *world) begin(t *testing.T) {
	w.done = make(chan struct{})
	t.Cleanup(w.end)
	w.load.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if w.emit(t); t.Failed() {
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

// emit emits the next change of each lesson. It is called by one goroutine at a time.
func (w *world) emit(t *testing.T) {
	var evs []pulse.Event
	for _, lesson := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		evs = append(evs, change{lesson, w.counts[lesson]})
		w.counts[lesson]++
	}
	if _, err := w.EmitAll(context.WithoutCancel(t.Context()), evs); err != nil {
		t.Errorf("emit: %v", err)
	}
}

func (w *world) end() {
	select {
	case <-w.done:
	default:
		close(w.done)
	}
	w.load.Wait()
}

// awaitNoted waits until n more events have been handled.
func (w *world) awaitNoted(t *testing.T, n pulse.Position) {
	t.Helper()
	at := w.state(t, subscription).Cursor.Position
	eventually(t, "handling of more events", func() bool { return w.state(t, subscription).Cursor.Position >= at+n })
}

// awaitPublished waits until the relay has come further.
func (w *world) awaitPublished(t *testing.T) {
	t.Helper()
	relay := pulse.RelayName("rabbit")
	at := w.state(t, relay).Cursor.Position
	eventually(t, "publishing of more events", func() bool { return w.state(t, relay).Cursor.Position > at })
}

func (w *world) state(t *testing.T, name string) pulse.SubscriptionState {
	t.Helper()
	states, err := w.Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(states, func(s pulse.SubscriptionState) bool { return s.Name == name })
	return states[i]
}

// allNoted ends the load and fails the test unless every change is noted once, those of a lesson in order.
func (w *world) allNoted(t *testing.T) {
	t.Helper()
	w.end()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.Drain(ctx); err != nil {
		t.Errorf("%v; the subscription is at %d, its relay at %d", err, w.state(t, subscription).Cursor.Position, w.state(t, pulse.RelayName("rabbit")).Cursor.Position)
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
	if n := seen["a"]; n < 100 {
		t.Errorf("only %d changes of each lesson", n)
	}
}

// allIn fails the test unless a plain client finds every change in a queue of another program, those of a lesson for the first time in
// order, and returns how often one was there again.
func (w *world) allIn(t *testing.T, ch *amqp.Channel, queue string) (again int) {
	t.Helper()
	seen := map[string]int{}
	for {
		d, ok, err := ch.Get(queue, true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		var e change
		if err := json.Unmarshal(d.Body, &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.N > seen[e.Lesson]:
			t.Fatalf("lesson %s: change %d is in the queue before %d", e.Lesson, e.N, seen[e.Lesson])
		case e.N < seen[e.Lesson]:
			again++
		default:
			seen[e.Lesson]++
		}
	}
	if !maps.Equal(seen, w.counts) {
		t.Errorf("in the queue are %v, emitted %v", seen, w.counts)
	}
	return again
}
