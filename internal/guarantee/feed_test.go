//go:build unix

package guarantee

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// feeds are what subscriptions are fed from: the log, or a broker to which the log is relayed.
func feeds() []string { return []string{"log", "broker"} }

// eachFeed runs a test for each sort of subscription, fed from the log and from a broker.
func eachFeed(t *testing.T, sorts []string, fn func(t *testing.T, sort, feed string)) {
	for _, sort := range sorts {
		for _, feed := range feeds() {
			t.Run(sort+"/"+feed, func(t *testing.T) {
				t.Parallel()
				fn(t, sort, feed)
			})
		}
	}
}

// eachKindAndFeed is each, fed from the log and from a broker.
func eachKindAndFeed(t *testing.T, fn func(t *testing.T, k kind, feed string)) {
	each(t, func(t *testing.T, k kind) {
		eachFeed(t, []string{"fed"}, func(t *testing.T, _, feed string) { fn(t, k, feed) })
	})
}

// eachDurableAndHost is eachDurable, fed from the log (host is "" then), from a broker beside the processes, and from one inside them.
func eachDurableAndHost(t *testing.T, fn func(t *testing.T, k kind, host string)) {
	eachDurable(t, func(t *testing.T, k kind) {
		for _, host := range append(hosts(), "") {
			t.Run("fed "+host, func(t *testing.T) {
				t.Parallel()
				fn(t, k, host)
			})
		}
	})
}

// hosted is what children need that use a broker.
func hosted(t testing.TB, host string) childSpec {
	t.Helper()
	dir := t.TempDir()
	if host == "embedded" {
		return childSpec{Broker: address(nil, dir), TTL: 200 * time.Millisecond}
	}
	return childSpec{Broker: address(newBroker(t, dir), dir), TTL: 200 * time.Millisecond}
}

// points parses failpoints.
func points(t testing.TB, list string) *failpoint.Points {
	t.Helper()
	p, err := failpoint.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fed makes the option that feeds a subscription from the log or from a broker of its own, and what watches the latter.
func (w *world) fed(t testing.TB, feed string) ([]pulse.SubscribeOption, *witness) {
	t.Helper()
	if feed == "log" {
		return nil, nil
	}
	b := newBroker(t, t.TempDir())
	w.publish(t, b, "")
	witness := &witness{Source: b.Source()}
	t.Cleanup(func() { witness.report(t) })
	return []pulse.SubscribeOption{pulse.From(destination, witness)}, witness
}

// witness is a source that sees what is fetched and acknowledged.
type witness struct {
	pulse.Source
	check func(ps []pulse.Position) error // called before messages are acknowledged; nil for nothing

	mu          sync.Mutex
	fetched     int
	redelivered int
	acked       map[pulse.Position]bool
	errs        []error
}

func (w *witness) Open(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
	f, err := w.Source.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &witnessed{Feed: f, witness: w, open: map[uint64]pulse.Position{}}, nil
}

// report fails the test with what was wrong, or when the broker brought nothing.
func (w *witness) report(t testing.TB) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, err := range w.errs[:min(5, len(w.errs))] {
		t.Error(err)
	}
	if !t.Failed() && (w.fetched == 0 || len(w.acked) == 0) {
		t.Errorf("the broker brought %d messages, of which %d were acknowledged", w.fetched, len(w.acked))
	}
}

// witnessed is a feed of a witness.
type witnessed struct {
	pulse.Feed
	*witness
	open map[uint64]pulse.Position // by receipt; guarded by witness.mu
}

func (f *witnessed) Fetch(ctx context.Context, max int) ([]pulse.Message, error) {
	msgs, err := f.Feed.Fetch(ctx, max)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range msgs {
		f.open[msgs[i].Receipt] = msgs[i].Position
		f.fetched++
		if msgs[i].Redelivered {
			f.redelivered++
		}
	}
	return msgs, err
}

func (f *witnessed) Ack(ctx context.Context, msgs []pulse.Message) error {
	f.mu.Lock()
	var ps []pulse.Position
	for _, m := range msgs {
		ps = append(ps, f.open[m.Receipt])
	}
	f.mu.Unlock()
	var err error
	if f.check != nil {
		err = f.check(ps)
	}
	f.mu.Lock()
	if f.acked == nil {
		f.acked = map[pulse.Position]bool{}
	}
	for _, p := range ps {
		f.acked[p] = true
	}
	if err != nil {
		f.errs = append(f.errs, fmt.Errorf("acknowledged too early: %w", err))
	}
	f.mu.Unlock()
	return f.Feed.Ack(ctx, msgs)
}
