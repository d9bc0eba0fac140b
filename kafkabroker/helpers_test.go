package kafkabroker_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/kafkabroker"
)

const patience = 60 * time.Second

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

// eventually fails the test unless ok becomes true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// events returns n envelopes from a position on, of some keys.
func events(first pulse.Position, n int) []pulse.Envelope {
	envs := make([]pulse.Envelope, n)
	for i := range envs {
		envs[i] = brokertest.Envelope(first+pulse.Position(i), func(e *pulse.Envelope) { e.Key = string(rune('a' + i%7)) })
	}
	return envs
}

// publish publishes envs at once, all with success.
func publish(t testing.TB, p pulse.Publisher, envs []pulse.Envelope) {
	t.Helper()
	for i, r := range p.PublishBatch(t.Context(), envs) {
		if r.Outcome != pulse.Acked || r.Err != nil {
			t.Fatalf("envelope %d: %+v", i, r)
		}
	}
}

// publishUntil publishes envs again and again, as a relay does, until all are there.
func publishUntil(t testing.TB, p pulse.Publisher, envs []pulse.Envelope) {
	t.Helper()
	eventually(t, "publishing", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		results := p.PublishBatch(ctx, envs)
		n := slices.IndexFunc(results, func(r pulse.Result) bool { return r.Outcome != pulse.Acked })
		if n < 0 {
			return true
		}
		envs = envs[n:]
		return false
	})
}

// open opens a feed of a subscription, closed with the test.
func open(t testing.TB, b *kafkabroker.Broker, cfg pulse.FeedConfig) pulse.Feed {
	t.Helper()
	if cfg.Subscription == "" {
		cfg.Subscription = "mailer"
	}
	f, err := b.Source().Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// take fetches n messages.
func take(t testing.TB, f pulse.Feed, n int) []pulse.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []pulse.Message
	for len(all) < n {
		msgs, err := f.Fetch(ctx, n-len(all))
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(all), n, err)
		}
		all = append(all, msgs...)
	}
	return all
}

// nothing fails the test when a message comes.
func nothing(t testing.TB, f pulse.Feed, wait time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if msgs, err := f.Fetch(ctx, 10); ctx.Err() == nil || len(msgs) > 0 {
		t.Fatalf("%v came, error %v", positions(msgs), err)
	}
}

func ack(t testing.TB, f pulse.Feed, msgs ...pulse.Message) {
	t.Helper()
	rs := make([]uint64, len(msgs))
	for i := range msgs {
		rs[i] = msgs[i].Receipt
	}
	if err := f.Ack(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
}

func positions(msgs []pulse.Message) []pulse.Position {
	var ps []pulse.Position
	for i := range msgs {
		ps = append(ps, msgs[i].Position)
	}
	return ps
}
