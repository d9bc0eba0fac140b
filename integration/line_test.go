package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

const (
	patience     = 2 * time.Minute
	destination  = "broker"
	subscription = "notes"
)

var quiet = slog.New(slog.DiscardHandler)

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

// line is the way from a bus to a broker, and from there to a subscription, through a network that can be hurt.
type line struct {
	*pulse.Bus
	proxy    *toxiproxy.Proxy
	messages func(t *testing.T) [][]byte // the payloads another client finds at the broker, in its order
	connections
	counts map[string]int // emitted changes of each lesson
	done   chan struct{}  // closed to end the load
	load   sync.WaitGroup
}

// newLine makes a line to a broker, and runs it.
func newLine(t *testing.T, open opener) *line {
	t.Helper()
	l := &line{counts: map[string]int{}, done: make(chan struct{})}
	publisher, source := open(t, l)
	l.join(t, publisher, source)
	return l
}

// connections counts those that are made through the network, from what the proxy logs.
type connections struct{ atomic.Int64 }

func (c *connections) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("Accepted client")) {
		c.Add(1)
	}
	return len(b), nil
}

// through makes the network in front of a server, and returns the address at this end.
func (l *line) through(t *testing.T, server string) (address string) {
	t.Helper()
	log := zerolog.New(&l.connections).Level(zerolog.InfoLevel)
	l.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), log), destination, "127.0.0.1:0", server)
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.proxy.Stop)
	return l.proxy.Listen
}

// join makes the bus, and runs it until the end of the test.
func (l *line) join(t *testing.T, p pulse.Publisher, source pulse.Source) {
	t.Helper()
	var err error
	l.Bus, err = pulse.New(memstore.New(nil), &pulse.Options{Source: "/school", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Publish(destination, p, pulse.Route("lesson.changed")); err != nil {
		t.Fatal(err)
	}
	note := func(ctx context.Context, tx pulse.Tx, c change) error {
		_, err := l.In(tx).Emit(ctx, noted(c))
		return err
	}
	if err := l.Subscribe(subscription, pulse.From(destination, source), pulse.Ordered(), pulse.Start(pulse.Beginning), pulse.OnTx(note)); err != nil {
		t.Fatal(err)
	}
	l.run(t)
}

// run runs the bus until the end of the test.
func (l *line) run(t *testing.T) {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// hurt adds a fault to the network: of a type, in a direction, with its attributes as JSON. heal takes it away.
func (l *line) hurt(t *testing.T, kind, stream, attributes string) (heal func()) {
	t.Helper()
	name := fmt.Sprint(kind, stream)
	spec := fmt.Sprintf(`{"name":%q,"type":%q,"stream":%q,"attributes":%s}`, name, kind, stream, attributes)
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(spec)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := l.proxy.Toxics.RemoveToxic(context.WithoutCancel(t.Context()), name); err != nil {
			t.Fatal(err)
		}
	}
}

// emit emits the next n changes of each of eight lessons, at once.
func (l *line) emit(t *testing.T, n int) {
	var evs []pulse.Event
	for range n {
		for _, lesson := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			evs = append(evs, change{lesson, l.counts[lesson], strings.Repeat("x", 400)})
			l.counts[lesson]++
		}
	}
	if _, err := l.EmitAll(context.WithoutCancel(t.Context()), evs); err != nil {
		t.Errorf("emit: %v", err)
	}
}

// begin emits some 400 events in a second until end.
func (l *line) begin(t *testing.T) {
	t.Cleanup(l.end)
	l.load.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for !t.Failed() {
			select {
			case <-tick.C:
				l.emit(t, 1)
			case <-l.done:
				return
			}
		}
	})
}

func (l *line) end() {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	l.load.Wait()
}

// awaitNoted waits until n more events have been handled.
func (l *line) awaitNoted(t *testing.T, n pulse.Position) {
	t.Helper()
	l.awaitCursor(t, subscription, n)
}

// awaitRelayed waits until n more events have been published.
func (l *line) awaitRelayed(t *testing.T, n pulse.Position) {
	t.Helper()
	l.awaitCursor(t, pulse.RelayName(destination), n)
}

func (l *line) awaitCursor(t *testing.T, name string, n pulse.Position) {
	t.Helper()
	at := l.state(t, name).Cursor.Position
	eventually(t, "progress of "+name, func() bool { return l.state(t, name).Cursor.Position >= at+n })
}

// awaitConnections waits until more than n connections have been made.
func (l *line) awaitConnections(t *testing.T, n int64) {
	t.Helper()
	eventually(t, "connecting again", func() bool { return l.connections.Load() > n })
}

// state is that of a subscription or of the relay.
func (l *line) state(t *testing.T, name string) (found pulse.SubscriptionState) {
	t.Helper()
	states, err := l.Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(states, func(s pulse.SubscriptionState) bool { return s.Name == name }); i >= 0 {
		found = states[i]
	}
	return found
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// complete ends the load and fails the test unless every change is noted once, those of a lesson in order, and is at the broker, where
// another client finds those of a lesson for the first time in order.
func (l *line) complete(t *testing.T) {
	t.Helper()
	l.end()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Drain(ctx); err != nil {
		t.Errorf("%v, at %d", err, l.state(t, subscription).Cursor.Position)
	}
	seen := map[string]int{}
	for e, err := range pulse.Load[noted](t.Context(), l.Bus, pulse.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Event.N != seen[e.Event.Lesson] {
			t.Fatalf("lesson %s: change %d is noted as number %d", e.Event.Lesson, e.Event.N, seen[e.Event.Lesson])
		}
		seen[e.Event.Lesson]++
	}
	if !maps.Equal(seen, l.counts) {
		t.Errorf("noted are %v, emitted %v", seen, l.counts)
	}
	t.Logf("%d changes of each lesson, %d messages twice at the broker, %d connections", l.counts["a"], l.again(t), l.connections.Load())
}

// again looks at the broker and returns how many messages are there once more.
func (l *line) again(t *testing.T) (again int) {
	t.Helper()
	seen := map[string]int{}
	for _, data := range l.messages(t) {
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
	if !maps.Equal(seen, l.counts) {
		t.Errorf("at the broker are %v, emitted %v", seen, l.counts)
	}
	return again
}
