package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/edupulse-live/pulse/internal/brokerworld"
)

const (
	patience    = brokerworld.Patience
	destination = "broker"
	often       = 20 * time.Millisecond // the pause between changes under load: there are some 400 events in a second
)

var quiet = slog.New(slog.DiscardHandler)

// line is the way from a bus to a broker, and from there to a subscription, through a network that can be hurt.
type line struct {
	*brokerworld.World
	proxy    *toxiproxy.Proxy
	messages func(t *testing.T) [][]byte // the payloads another client finds at the broker, in its order
	connections
}

// newLine makes a line to a broker, and runs it.
func newLine(t *testing.T, open opener) *line {
	t.Helper()
	l := &line{}
	publisher, source := open(t, l)
	l.World = brokerworld.New(t, destination, publisher, source)
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

// awaitConnections waits until more than n connections have been made.
func (l *line) awaitConnections(t *testing.T, n int64) {
	t.Helper()
	brokerworld.Eventually(t, "connecting again", func() bool { return l.connections.Load() > n })
}

// complete ends the load and fails the test unless every change is noted once, those of a lesson in order, and is at the broker, where
// another client finds those of a lesson for the first time in order.
func (l *line) complete(t *testing.T) {
	t.Helper()
	l.AllNoted(t, 20)
	again := l.AllStored(t, slices.Values(l.messages(t)))
	t.Logf("%d changes of each lesson, %d messages twice at the broker, %d connections", l.Emitted(), again, l.connections.Load())
}
