package kafkabroker_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/kafkabroker"
	"github.com/edupulse-live/pulse/memstore"
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

// world is a bus whose events go to a cluster and from there to a subscription.
type world struct {
	*pulse.Bus
	cluster *kfake.Cluster
	broker  *kafkabroker.Broker
	done    chan struct{} // closed to end the load
	load    sync.WaitGroup
	counts  map[string]int // emitted changes of each lesson; of load
}

const (
	subscription = "notes"
	destination  = "kafka"
	topicName    = "pulse"
)

// newWorld makes a world that runs until the end of the test.
func newWorld(t *testing.T, c *kfake.Cluster, b *kafkabroker.Broker) *world {
	t.Helper()
	bus, err := pulse.New(memstore.New(nil), &pulse.Options{Source: "/school", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Bus: bus, cluster: c, broker: b, done: make(chan struct{}), counts: map[string]int{}}
	if err := bus.Publish(destination, b.Publisher(), pulse.Route("lesson.changed")); err != nil {
		t.Fatal(err)
	}
	note := func(ctx context.Context, tx pulse.Tx, c change) error {
		_, err := bus.In(tx).Emit(ctx, noted(c))
		return err
	}
	if err := bus.Subscribe(subscription, pulse.From(destination, b.Source()), pulse.Ordered(), pulse.Start(pulse.Beginning), pulse.OnTx(note)); err != nil {
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

// awaitRelayed waits until the relay has published n more positions.
func (w *world) awaitRelayed(t *testing.T, n pulse.Position) {
	t.Helper()
	at := w.relayed(t)
	eventually(t, "publishing of more events", func() bool { return w.relayed(t) >= at+n })
}

func (w *world) relayed(t *testing.T) pulse.Position {
	t.Helper()
	return w.state(t, pulse.RelayName(destination)).Cursor.Position
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
		t.Errorf("%v; the subscription is at %d of %d, its relay at %d", err, w.cursor(t), w.state(t, subscription).Head, w.relayed(t))
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

// allStored fails the test unless another client finds every change in the topic, those of a lesson for the first time in order, both when it reads
// what is committed and when it reads all. It returns how often one was there again among the committed.
func (w *world) allStored(t *testing.T) (again int) {
	t.Helper()
	for _, level := range []kgo.IsolationLevel{kgo.ReadUncommitted(), kgo.ReadCommitted()} {
		again = 0
		seen := map[string]int{}
		for _, r := range stored(t, w.cluster, level) {
			var e change
			if err := json.Unmarshal(r.Value, &e); err != nil {
				t.Fatal(err)
			}
			switch {
			case e.N > seen[e.Lesson]:
				t.Fatalf("lesson %s: change %d is in the topic before %d", e.Lesson, e.N, seen[e.Lesson])
			case e.N < seen[e.Lesson]:
				again++
			default:
				seen[e.Lesson]++
			}
		}
		if !maps.Equal(seen, w.counts) {
			t.Errorf("in the topic are %v, emitted %v", seen, w.counts)
		}
	}
	return again
}

// stored reads the topic with another client, partition by partition.
func stored(t testing.TB, c *kfake.Cluster, level kgo.IsolationLevel) (records []*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	probe, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	ends, err := kadm.NewClient(probe).ListEndOffsets(ctx, topicName)
	probe.Close()
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topicName: {o.Partition: kgo.NewOffset().AtStart()}}))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for next := int64(0); next < o.Offset; {
			fetches := client.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				next = r.Offset + 1
				if !r.Attrs.IsControl() {
					records = append(records, r)
				}
			})
		}
	})
	return records
}
