package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/natsbroker"
)

const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait far more than they compute
		panic(err)
	}
	os.Exit(rabbits.Main(m).Run())
}

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

// line is the way from a bus to a server through a network that can be hurt.
type line struct {
	*pulse.Bus
	proxy  *toxiproxy.Proxy
	server *server.Server                 // nil for RabbitMQ
	stored func(t *testing.T) (again int) // what another client finds in the stream or queue
	tally                                 // of connections
	counts map[string]int                 // emitted changes of each lesson
	done   chan struct{}                  // closed to end the load
	load   sync.WaitGroup
}

func newLine(t *testing.T) *line {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled)
	l := &line{counts: map[string]int{}, done: make(chan struct{}), server: newNATS(t)}
	l.through(t, l.server.Addr().String())
	l.stored = l.inStream
	b, err := natsbroker.Connect(t.Context(), "nats://"+l.proxy.Listen, &natsbroker.Options{Log: slog.New(slog.NewTextHandler(&l.tally, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	l.join(t, b.Publisher(), b.Source())
	return l
}

// newNATS starts a server with JetStream.
func newNATS(t *testing.T) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not start")
	}
	return srv
}

// through makes the network in front of a server.
func (l *line) through(t *testing.T, address string) {
	t.Helper()
	l.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "broker", "127.0.0.1:0", address)
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.proxy.Stop)
}

// join makes the bus at the other end, and runs it.
func (l *line) join(t *testing.T, p pulse.Publisher, source pulse.Source) {
	t.Helper()
	var err error
	l.Bus, err = pulse.New(memstore.New(nil), &pulse.Options{Source: "/school", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Publish("broker", p, pulse.Route("lesson.changed")); err != nil {
		t.Fatal(err)
	}
	note := func(ctx context.Context, tx pulse.Tx, c change) error {
		_, err := l.In(tx).Emit(ctx, noted(c))
		return err
	}
	if err := l.Subscribe("notes", pulse.From("broker", source), pulse.Ordered(), pulse.Start(pulse.Beginning), pulse.OnTx(note)); err != nil {
		t.Fatal(err)
	}
	l.run(t)
}

// tally counts what natsbroker logs of connections.
type tally struct{ lost, again atomic.Int64 }

func (c *tally) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("the connection is lost")) {
		c.lost.Add(1)
	}
	if bytes.Contains(b, []byte("connected again")) {
		c.again.Add(1)
	}
	return len(b), nil
}

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

// emit emits the next n changes of each of eight lessons.
func (l *line) emit(t *testing.T, n int) {
	for range n {
		var evs []pulse.Event
		for _, lesson := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			evs = append(evs, change{lesson, l.counts[lesson], strings.Repeat("x", 400)})
			l.counts[lesson]++
		}
		if _, err := l.EmitAll(context.WithoutCancel(t.Context()), evs); err != nil {
			t.Errorf("emit: %v", err)
		}
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
	at := l.cursor(t)
	eventually(t, "handling of more events", func() bool { return l.cursor(t) >= at+n })
}

// awaitLost waits until the connection has been lost n times.
func (l *line) awaitLost(t *testing.T, n int64) {
	t.Helper()
	eventually(t, "loss of the connection", func() bool { return l.lost.Load() >= n })
}

func (l *line) cursor(t *testing.T) pulse.Position {
	t.Helper()
	states, err := l.Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Name == "notes" {
			return s.Cursor.Position
		}
	}
	return 0
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// complete ends the load and fails the test unless every change is noted once, those of a lesson in order, and is in the stream, where
// another client finds those of a lesson for the first time in order.
func (l *line) complete(t *testing.T) {
	t.Helper()
	l.end()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Drain(ctx); err != nil {
		t.Errorf("%v, at %d", err, l.cursor(t))
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
	again := l.stored(t)
	t.Logf("%d changes of each lesson, %d messages twice in the stream, connection lost %d times", l.counts["a"], again, l.lost.Load())
}

func (l *line) inStream(t *testing.T) (again int) {
	t.Helper()
	nc, err := nats.Connect(l.server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for left := int(s.CachedInfo().State.Msgs); left > 0; {
		batch, err := c.Fetch(min(left, 1000), jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatal(err)
		}
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
		if err := batch.Error(); err != nil {
			t.Fatalf("%d messages before the end: %v", left, err)
		}
	}
	if !maps.Equal(seen, l.counts) {
		t.Errorf("in the stream are %v, emitted %v", seen, l.counts)
	}
	return again
}

// A long way with jitter.
func TestNetworkLatency(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.begin(t)
	l.awaitNoted(t, 200)
	for _, stream := range []string{"upstream", "downstream"} {
		defer l.hurt(t, "latency", stream, `{"latency":60,"jitter":40}`)()
	}
	start := time.Now()
	l.awaitNoted(t, 2000)
	t.Logf("2,000 events in %v", time.Since(start))
	l.complete(t)
	if n := l.lost.Load(); n > 0 {
		t.Errorf("the connection was lost %d times", n)
	}
}

// Connections are reset again and again under load: on two lines, 25 times each.
func TestNetworkResets(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			resets(t, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func resets(t *testing.T, random *rand.Rand) {
	l := newLine(t)
	l.begin(t)
	l.awaitNoted(t, 200)
	for i := range 25 {
		eventually(t, "connecting again", func() bool { return l.again.Load() >= l.lost.Load() })
		stream := []string{"upstream", "downstream"}[random.IntN(2)]
		before := l.lost.Load()
		heal := l.hurt(t, "reset_peer", stream, fmt.Sprintf(`{"timeout":%d}`, random.IntN(20)))
		l.awaitLost(t, before+1)
		heal()
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond) // the next one comes at random, in the middle of whatever goes on
		if i%5 == 4 {
			l.awaitNoted(t, 50)
		}
	}
	l.awaitNoted(t, 200)
	l.complete(t)
}

// Bytes vanish in one direction, and nobody closes the connection: it is noticed all the same.
func TestNetworkHalfOpen(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"upstream", "downstream"} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			l := newLine(t)
			l.begin(t)
			l.awaitNoted(t, 200)
			start := time.Now()
			heal := l.hurt(t, "timeout", stream, `{"timeout":0}`)
			l.awaitLost(t, 1)
			t.Logf("noticed after %v", time.Since(start))
			heal()
			l.awaitNoted(t, 200)
			t.Logf("goes on after %v", time.Since(start))
			l.complete(t)
		})
	}
}

// A narrow line, over which a backlog takes longer than one call waits for its answers.
func TestNetworkBandwidth(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.emit(t, 10)
	l.awaitNoted(t, 80)
	for _, stream := range []string{"upstream", "downstream"} {
		defer l.hurt(t, "bandwidth", stream, `{"rate":200}`)()
	}
	start := time.Now()
	l.emit(t, 300)
	l.complete(t)
	t.Logf("2,400 events in %v", time.Since(start))
}
