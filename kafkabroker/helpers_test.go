package kafkabroker_test

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/internal/brokerworld"
	"github.com/edupulse-live/pulse/kafkabroker"
)

const patience = brokerworld.Patience

// The steps of tests that are the same for all brokers.
var (
	eventually   = brokerworld.Eventually
	publish      = brokerworld.Publish
	publishUntil = brokerworld.PublishUntil
	take         = brokerworld.Take
	nothing      = brokerworld.Nothing
	positions    = brokerworld.Positions
)

var quiet = slog.New(slog.DiscardHandler)

// cluster runs servers for a test.
func cluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(slices.Concat([]kfake.Opt{kfake.NumBrokers(1)}, opts)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// addresses are where clients connect.
func addresses(c *kfake.Cluster) string { return strings.Join(c.ListenAddrs(), ",") }

// connect connects to a cluster for a test.
func connect(t testing.TB, servers string, o kafkabroker.Options) *kafkabroker.Broker {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet
	}
	b, err := kafkabroker.Connect(t.Context(), servers, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// publisher is one that is closed with the test.
func publisher(t testing.TB, b *kafkabroker.Broker) *kafkabroker.Publisher {
	t.Helper()
	return b.Publisher()
}

// events returns n envelopes from a position on, of some keys.
func events(first pulse.Position, n int) []pulse.Envelope {
	envs := make([]pulse.Envelope, n)
	for i := range envs {
		envs[i] = brokertest.Envelope(first+pulse.Position(i), func(e *pulse.Envelope) { e.Key = string(rune('a' + i%7)) })
	}
	return envs
}

// open opens a feed of a subscription, closed with the test.
func open(t testing.TB, b *kafkabroker.Broker, cfg pulse.FeedConfig) pulse.Feed {
	t.Helper()
	return brokerworld.Open(t, b.Source(), cfg)
}

func ack(t testing.TB, f pulse.Feed, msgs ...pulse.Message) {
	t.Helper()
	if err := f.Ack(t.Context(), brokerworld.Receipts(msgs)); err != nil {
		t.Fatal(err)
	}
}
