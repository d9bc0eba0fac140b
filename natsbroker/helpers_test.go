package natsbroker_test

import (
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/brokerworld"
	"github.com/edupulse-live/pulse/natsbroker"
)

const (
	patience = brokerworld.Patience
	token    = "chalk"
)

// The steps of tests that are the same for all brokers.
var (
	eventually   = brokerworld.Eventually
	publish      = brokerworld.Publish
	publishUntil = brokerworld.PublishUntil
	take         = brokerworld.Take
	nothing      = brokerworld.Nothing
	positions    = brokerworld.Positions
	receipts     = brokerworld.Receipts
)

// listening runs an embedded server that others can connect to.
func listening(t testing.TB, dir string) *natsbroker.Broker {
	t.Helper()
	return embed(t, dir, natsbroker.Options{Listen: "127.0.0.1:0", Auth: natsbroker.Auth{Token: token}})
}

// connect connects to a server for a test.
func connect(t testing.TB, url string, o natsbroker.Options) *natsbroker.Broker {
	t.Helper()
	o.Log, o.Auth.Token = slog.New(slog.DiscardHandler), token
	b, err := natsbroker.Connect(t.Context(), url, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// admin is another client's view of the stream.
func admin(t testing.TB, b *natsbroker.Broker) (jetstream.JetStream, *nats.Conn) {
	t.Helper()
	nc, err := nats.Connect("", natsbroker.InProcess(b), nats.Token(token))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js, nc
}

func outcomes(results []pulse.Result) (acked, unknown, rejected int) {
	for _, r := range results {
		switch r.Outcome {
		case pulse.Acked:
			acked++
		case pulse.Unknown:
			unknown++
		case pulse.Rejected:
			rejected++
		}
	}
	return acked, unknown, rejected
}

// open opens a feed of a subscription, closed with the test.
func open(t testing.TB, b *natsbroker.Broker, cfg pulse.FeedConfig) pulse.Feed {
	t.Helper()
	return brokerworld.Open(t, b.Source(), cfg)
}

// first is the position of the oldest message.
func first(t testing.TB, b *natsbroker.Broker) pulse.Position {
	t.Helper()
	f := open(t, b, pulse.FeedConfig{Subscription: "first"})
	defer f.Close()
	return take(t, f, 1)[0].Position
}

// expect fails the test unless the messages come at positions, and acknowledges them.
func expect(t testing.TB, f pulse.Feed, want ...pulse.Position) {
	t.Helper()
	msgs := take(t, f, len(want))
	if got := positions(msgs); !slices.Equal(got, want) {
		t.Fatalf("%v came, want %v", got, want)
	}
	if err := f.Ack(t.Context(), receipts(msgs)); err != nil {
		t.Fatal(err)
	}
}

// through are the positions from first to last.
func through(first, last pulse.Position) []pulse.Position {
	var ps []pulse.Position
	for p := first; p <= last; p++ {
		ps = append(ps, p)
	}
	return ps
}

// stored fails the test unless the stream has exactly the positions, in this order.
func stored(t testing.TB, b *natsbroker.Broker, want ...pulse.Position) {
	t.Helper()
	f, err := b.Source().Open(t.Context(), pulse.FeedConfig{Subscription: "stored", Start: pulse.Beginning, Window: len(want) + 1})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := positions(take(t, f, len(want))); !slices.Equal(got, want) {
		t.Errorf("the stream has %v, want %v", got, want)
	}
	nothing(t, f, 50*time.Millisecond)
}

// proxy is a connection between client and server that can be hurt.
type proxy struct {
	net.Listener
	to        string
	muteUp    atomic.Bool // swallow what the client sends
	muteDown  atomic.Bool // swallow what the server sends
	shut      atomic.Bool // take no connections
	mu        sync.Mutex
	conns     []net.Conn
	connected sync.WaitGroup
}

func newProxy(t testing.TB, url string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: strings.TrimPrefix(url, "nats://")}
	p.connected.Go(p.serve)
	t.Cleanup(func() {
		p.Close()
		p.cut()
		p.connected.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.Addr().String() }

func (p *proxy) serve() {
	for {
		client, err := p.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil || p.shut.Load() {
			client.Close()
			if err == nil {
				server.Close()
			}
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.connected.Go(func() { pump(server, client, &p.muteUp) })
		p.connected.Go(func() { pump(client, server, &p.muteDown) })
	}
}

func pump(to, from net.Conn, mute *atomic.Bool) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && !mute.Load() {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				from.Close()
			}
			return
		}
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}
