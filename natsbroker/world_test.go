package natsbroker_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/natsbroker"
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
	broker  *natsbroker.Broker
	watched *watched
	halt    func()        // stops the bus
	done    chan struct{} // closed to end the load
	load    sync.WaitGroup
	counts  map[string]int // emitted changes of each lesson; of load
}

const subscription = "notes"

// newWorld makes a world that runs until the end of the test.
func newWorld(t *testing.T, b *natsbroker.Broker) *world {
	t.Helper()
	bus, err := pulse.New(memstore.New(nil), &pulse.Options{Source: "/school", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Bus: bus, broker: b, watched: &watched{Publisher: b.Publisher(), times: map[pulse.Position]int{}}, done: make(chan struct{}), counts: map[string]int{}}
	if err := bus.Publish("nats", w.watched, pulse.Route("lesson.changed")); err != nil {
		t.Fatal(err)
	}
	note := func(ctx context.Context, tx pulse.Tx, c change) error {
		_, err := bus.In(tx).Emit(ctx, noted(c))
		return err
	}
	if err := bus.Subscribe(subscription, pulse.From("nats", b.Source()), pulse.Ordered(), pulse.Start(pulse.Beginning), pulse.OnTx(note)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- bus.Run(ctx) }()
	w.halt = sync.OnceFunc(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			states, err := bus.Subscriptions(context.WithoutCancel(t.Context()))
			t.Logf("%+v, %v", states, err)
		}
		w.halt()
	})
	return w
}

// begin emits changes of eight lessons, some 2,000 in a second, until end.
func (w *world) begin(t *testing.T) {
	t.Cleanup(w.end)
	w.load.Go(func() {
		tick := time.NewTicker(4 * time.Millisecond)
		defer tick.Stop()
		for {
			if w.emit(t, 1); t.Failed() {
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

// emit emits the next n changes of each lesson. It is called by one goroutine at a time.
func (w *world) emit(t *testing.T, n int) {
	for range n {
		var evs []pulse.Event
		for _, lesson := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			evs = append(evs, change{lesson, w.counts[lesson]})
			w.counts[lesson]++
		}
		if _, err := w.EmitAll(context.WithoutCancel(t.Context()), evs); err != nil {
			t.Errorf("emit: %v", err)
		}
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
	at := w.cursor(t)
	eventually(t, "handling of more events", func() bool { return w.cursor(t) >= at+n })
}

// cursor is how far the subscription has come.
func (w *world) cursor(t *testing.T) pulse.Position {
	t.Helper()
	return w.state(t, subscription).Cursor.Position
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
		t.Errorf("%v; the subscription is at %d of %d, its relay at %d", err, w.cursor(t), w.state(t, subscription).Head, w.state(t, pulse.RelayName("nats")).Cursor.Position)
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

// allStored fails the test unless another client finds every change in the stream, those of a lesson for the first time in order, and
// returns how often one was there again. Those before from are not looked for.
func (w *world) allStored(t *testing.T, js jetstream.JetStream, stream string, from map[string]int) (again int) {
	t.Helper()
	var s jetstream.Stream
	var c jetstream.Consumer
	eventually(t, "looking at the stream", func() bool { // a cluster that elects a leader does not answer
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var err error
		if s, err = js.Stream(ctx, stream); err == nil {
			c, err = s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
		}
		return err == nil
	})
	deadline := time.Now().Add(patience)
	seen := maps.Clone(from)
	if seen == nil {
		seen = map[string]int{}
	}
	for left := int(s.CachedInfo().State.Msgs); left > 0; {
		batch, err := c.Fetch(min(left, 1000), jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			t.Fatalf("%d messages before the end: %v", left, err)
		}
		before := left
		for m := range batch.Messages() {
			left--
			var e change
			if err := json.Unmarshal(m.Data(), &e); err != nil {
				t.Fatal(err)
			}
			switch {
			case e.N > seen[e.Lesson]:
				t.Fatalf("lesson %s: change %d is in the stream before %d", e.Lesson, e.N, seen[e.Lesson])
			case e.N < seen[e.Lesson]:
				again++
			default:
				seen[e.Lesson]++
			}
		}
		if err := batch.Error(); left == before && (time.Now().After(deadline) || !errors.Is(err, nats.ErrNoResponders)) {
			t.Fatalf("%d messages before the end: %v", left, err) // no responders: a cluster does not know the new consumer everywhere yet
		}
	}
	if !maps.Equal(seen, w.counts) {
		t.Errorf("in the stream are %v, emitted %v", seen, w.counts)
	}
	return again
}

// watched is a publisher that notes what its broker acknowledges.
type watched struct {
	pulse.Publisher
	mu    sync.Mutex
	acked time.Time              // when something was acknowledged last
	all   []time.Time            // when something was acknowledged
	gap   time.Duration          // the longest time between two such
	times map[pulse.Position]int // how often each event was acknowledged
}

func (p *watched) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	results := p.Publisher.PublishBatch(ctx, envs)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range results {
		if results[i].Outcome != pulse.Acked {
			continue
		}
		now := time.Now()
		if !p.acked.IsZero() {
			p.gap = max(p.gap, now.Sub(p.acked))
		}
		p.acked = now
		if len(p.all) == 0 || p.all[len(p.all)-1].Before(now.Add(-time.Millisecond)) {
			p.all = append(p.all, now)
		}
		p.times[envs[i].Position]++
	}
	return results
}

// outage is the longest time without an acknowledgement since it was asked last.
func (p *watched) outage() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	gap := p.gap
	p.gap = 0
	return gap
}

func (p *watched) lastAcked() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// firstAfter is how long after a time something was acknowledged for the first time.
func (p *watched) firstAfter(when time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, _ := slices.BinarySearchFunc(p.all, when, time.Time.Compare)
	if i == len(p.all) {
		return p.acked.Sub(when)
	}
	return p.all[i].Sub(when)
}

// againBefore counts the events up to a position that were published more than once.
func (p *watched) againBefore(position pulse.Position) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, times := range p.times {
		if at <= position && times > 1 {
			n++
		}
	}
	return n
}
