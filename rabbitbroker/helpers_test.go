package rabbitbroker_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/internal/brokerworld"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

const patience = brokerworld.Patience

// The steps of tests that are the same for all brokers.
var (
	eventually   = brokerworld.Eventually
	publish      = brokerworld.Publish
	publishUntil = brokerworld.PublishUntil
	take         = brokerworld.Take
	nothing      = brokerworld.Nothing
)

// events returns n envelopes from a position on.
func events(from pulse.Position, n int, edits ...func(*pulse.Envelope)) []pulse.Envelope {
	envs := make([]pulse.Envelope, n)
	for i := range envs {
		envs[i] = brokertest.Envelope(from+pulse.Position(i), edits...)
	}
	return envs
}

// refusedWith fails the test unless the first of envs is not published, with an error that says all parts, and neither is one behind it.
func refusedWith(t testing.TB, p pulse.Publisher, envs []pulse.Envelope, outcome pulse.Outcome, parts ...string) {
	t.Helper()
	results := p.PublishBatch(t.Context(), envs)
	if results[0].Outcome != outcome {
		t.Errorf("the outcome is %d, want %d: %v", results[0].Outcome, outcome, results[0].Err)
	}
	for i, r := range results {
		if r.Outcome == pulse.Acked {
			t.Errorf("event %d is published", i)
		}
	}
	for _, part := range parts {
		if text := fmt.Sprint(results[0].Err); !strings.Contains(text, part) {
			t.Errorf("%q is missing in: %s", part, text)
		}
	}
}

// open opens a feed of a subscription, closed with the test.
func open(t testing.TB, b *rabbitbroker.Broker, cfg pulse.FeedConfig) pulse.Feed {
	t.Helper()
	return brokerworld.Open(t, b.Source(), cfg)
}

// client is a plain AMQP client's channel, closed with the test.
func client(t testing.TB, url string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// queue makes a durable queue of another program, bound to an exchange.
func queue(t testing.TB, ch *amqp.Channel, exchange, key string, args amqp.Table) string {
	t.Helper()
	if args == nil {
		args = amqp.Table{"x-queue-type": "quorum"}
	}
	q, err := ch.QueueDeclare(exchange+".foreign", true, false, false, false, args)
	if err == nil {
		err = ch.QueueBind(q.Name, key, exchange, false, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return q.Name
}

// network is a way to a server that can be cut.
type network struct {
	net.Listener
	target string
	ways   sync.WaitGroup
	came   atomic.Int64 // connections

	mu    sync.Mutex // held, it lets no further connection through
	conns []net.Conn
}

func newNetwork(t testing.TB, target string) *network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{Listener: l, target: target}
	n.ways.Go(n.serve)
	t.Cleanup(func() { l.Close(); n.cut(); n.ways.Wait() })
	return n
}

func (n *network) serve() {
	for {
		from, err := n.Accept()
		if err != nil {
			return
		}
		n.came.Add(1)
		to, err := net.Dial("tcp", n.target)
		if err != nil {
			from.Close()
			continue
		}
		n.mu.Lock()
		n.conns = append(n.conns, from, to)
		n.mu.Unlock()
		for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
			n.ways.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				way[0].Close()
				way[1].Close()
			})
		}
	}
}

// cut resets all connections, and returns how many these were.
func (n *network) cut() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	cut := len(n.conns) / 2
	n.conns = nil
	return cut
}

// randomly waits a random time up to most.
func randomly(most time.Duration) { time.Sleep(rand.N(most)) }
