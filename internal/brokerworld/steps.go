package brokerworld

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// Patience is how long a test waits for what must happen.
const Patience = 2 * time.Minute

// Eventually fails the test unless ok becomes true.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// Run runs a bus until the end of the test.
func Run(t testing.TB, bus *pulse.Bus) {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- bus.Run(ctx) }()
	t.Cleanup(func() {
		if t.Failed() {
			states, err := bus.Subscriptions(context.WithoutCancel(t.Context()))
			t.Logf("%+v, %v", states, err)
		}
		stop()
		if err := <-ran; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// Publish publishes envs at once, all with success.
func Publish(t testing.TB, p pulse.Publisher, envs []pulse.Envelope) {
	t.Helper()
	for i, r := range p.PublishBatch(t.Context(), envs) {
		if r.Outcome != pulse.Acked || r.Err != nil {
			t.Fatalf("envelope %d: %+v", i, r)
		}
	}
}

// PublishUntil publishes envs again and again, as a relay does, until all are there.
func PublishUntil(t testing.TB, p pulse.Publisher, envs []pulse.Envelope) {
	t.Helper()
	Eventually(t, "publishing", func() bool {
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

// Open opens a feed of a subscription, "mailer" when cfg names none, and closes it with the test.
func Open(t testing.TB, source pulse.Source, cfg pulse.FeedConfig) pulse.Feed {
	t.Helper()
	if cfg.Subscription == "" {
		cfg.Subscription = "mailer"
	}
	f, err := source.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Take fetches n messages.
func Take(t testing.TB, f pulse.Feed, n int) []pulse.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
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

// Nothing fails the test when a message comes.
func Nothing(t testing.TB, f pulse.Feed, wait time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if msgs, err := f.Fetch(ctx, 10); ctx.Err() == nil || len(msgs) > 0 {
		t.Fatalf("%v came, error %v", Positions(msgs), err)
	}
}

// Positions are those of messages.
func Positions(msgs []pulse.Message) []pulse.Position {
	var ps []pulse.Position
	for i := range msgs {
		ps = append(ps, msgs[i].Position)
	}
	return ps
}

// Receipts are those of messages.
func Receipts(msgs []pulse.Message) []uint64 {
	rs := make([]uint64, len(msgs))
	for i := range msgs {
		rs[i] = msgs[i].Receipt
	}
	return rs
}
