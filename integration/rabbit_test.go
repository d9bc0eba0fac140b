package integration_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/rs/zerolog"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// rabbits is the RabbitMQ server of all tests.
var rabbits rabbittest.Shared

// newRabbitLine is newLine to a RabbitMQ server, with a queue of another program at the exchange.
func newRabbitLine(t *testing.T) *line {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled)
	l := &line{counts: map[string]int{}, done: make(chan struct{})}
	srv, exchange := rabbits.Server(t), rabbits.Name()
	l.through(t, srv.Address())
	url := srv.URLFor(rabbittest.User, rabbittest.Password, l.proxy.Listen, "/")
	b, err := rabbitbroker.Connect(t.Context(), url, &rabbitbroker.Options{Exchange: exchange, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	ch, queue := foreignQueue(t, srv, exchange)
	l.stored = func(t *testing.T) int { return l.inQueue(t, ch, queue) }
	l.join(t, b.Publisher(), b.Source())
	return l
}

func (l *line) inQueue(t *testing.T, ch *amqp.Channel, queue string) (again int) {
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
	if !maps.Equal(seen, l.counts) {
		t.Errorf("in the queue are %v, emitted %v", seen, l.counts)
	}
	return again
}

// awaitRelayed waits until n more events have been published.
func (l *line) awaitRelayed(t *testing.T, n pulse.Position) {
	t.Helper()
	begin := l.relay(t).Cursor.Position
	eventually(t, "publishing of more events", func() bool { return l.relay(t).Cursor.Position >= begin+n })
}

// relay is the state of the relay.
func (l *line) relay(t *testing.T) pulse.SubscriptionState {
	t.Helper()
	states, err := l.Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(states, func(s pulse.SubscriptionState) bool { return s.Name == pulse.RelayName("broker") })
	return states[i]
}

// A long way to RabbitMQ with jitter.
func TestRabbitLatency(t *testing.T) {
	t.Parallel()
	l := newRabbitLine(t)
	l.begin(t)
	l.awaitNoted(t, 200)
	for _, stream := range []string{"upstream", "downstream"} {
		defer l.hurt(t, "latency", stream, `{"latency":100,"jitter":40}`)()
	}
	start := time.Now()
	l.awaitNoted(t, 1000)
	t.Logf("1,000 events in %v", time.Since(start))
	l.complete(t)
}

// Connections to RabbitMQ are reset again and again under load.
func TestRabbitResets(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := newRabbitLine(t)
	l.begin(t)
	l.awaitNoted(t, 200)
	for range 25 {
		stream := []string{"upstream", "downstream"}[random.IntN(2)]
		heal := l.hurt(t, "reset_peer", stream, fmt.Sprintf(`{"timeout":%d}`, random.IntN(20)))
		time.Sleep(time.Duration(20+random.IntN(100)) * time.Millisecond) // whatever goes on is cut
		heal()
		l.awaitRelayed(t, 8)
	}
	l.awaitNoted(t, 200)
	l.complete(t)
}

// Bytes to or from RabbitMQ vanish, and nobody closes the connection: it is noticed all the same.
func TestRabbitHalfOpen(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"upstream", "downstream"} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			l := newRabbitLine(t)
			l.begin(t)
			l.awaitNoted(t, 200)
			heal := l.hurt(t, "timeout", stream, `{"timeout":0}`)
			start := time.Now()
			eventually(t, "notice that nothing comes through", func() bool { return l.relay(t).PauseReason != "" })
			t.Logf("noticed after %v", time.Since(start))
			heal()
			l.awaitRelayed(t, 200)
			l.awaitNoted(t, 200)
			t.Logf("goes on after %v", time.Since(start))
			l.complete(t)
		})
	}
}
