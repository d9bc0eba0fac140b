//go:build unix

package guarantee

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// feed is what a subscription is fed from: the log, or a broker to which the log is relayed.
type feed struct {
	name    string
	used    *atomic.Int64 // subscriptions with a witness
	brought *atomic.Int64 // messages these got; the rest may have come from the log
}

const (
	fromLog = "log"
)

// open is a new broker to be fed from, nil for the log.
func (f *feed) open(t testing.TB) outside {
	t.Helper()
	if f.name == fromLog {
		return nil
	}
	return newOutside(t, f.name)
}

// eachFeed runs a test for each sort of subscription, fed from the log and from a broker.
func eachFeed(t *testing.T, sorts []string, fn func(t *testing.T, sort string, feed feed)) {
	f := feed{used: new(atomic.Int64), brought: new(atomic.Int64)}
	t.Cleanup(func() {
		if f.used.Load() > 0 {
			atLeast(t, "messages brought by the broker", int(f.brought.Load()), 1)
		}
	})
	for _, sort := range sorts {
		for _, f.name = range append(systems(), fromLog) {
			t.Run(sort+"/"+f.name, func(t *testing.T) {
				from := f
				t.Parallel()
				fn(t, sort, from)
			})
		}
	}
}

// eachKindAndFeed is each, fed from the log and from a broker.
func eachKindAndFeed(t *testing.T, fn func(t *testing.T, k kind, feed feed)) {
	each(t, func(t *testing.T, k kind) {
		eachFeed(t, []string{"fed"}, func(t *testing.T, _ string, feed feed) { fn(t, k, feed) })
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
func (w *world) fed(t testing.TB, feed feed) ([]pulse.SubscribeOption, *witness) {
	t.Helper()
	if feed.name == fromLog {
		return nil, nil
	}
	b := feed.open(t)
	w.publish(t, b, "")
	witness := &witness{Source: b.Source(), brought: feed.brought}
	feed.used.Add(1)
	t.Cleanup(func() { witness.report(t) })
	return []pulse.SubscribeOption{pulse.From(destination, witness)}, witness
}

// witness is a source that sees what is fetched and acknowledged.
type witness struct {
	pulse.Source
	check func(ps []pulse.Position) error // called before messages are acknowledged; nil for nothing

	brought *atomic.Int64

	mu   sync.Mutex
	errs []error
}

func (w *witness) Open(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
	f, err := w.Source.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &witnessed{Feed: f, witness: w, open: map[uint64]pulse.Position{}}, nil
}

// report fails the test with what was wrong.
func (w *witness) report(t testing.TB) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, err := range w.errs[:min(5, len(w.errs))] {
		t.Error(err)
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
		f.brought.Add(1)
	}
	return msgs, err
}

func (f *witnessed) Ack(ctx context.Context, receipts []uint64) error {
	f.mu.Lock()
	var ps []pulse.Position
	for _, receipt := range receipts {
		ps = append(ps, f.open[receipt])
	}
	f.mu.Unlock()
	var err error
	if f.check != nil {
		err = f.check(ps)
	}
	if err != nil {
		f.mu.Lock()
		f.errs = append(f.errs, fmt.Errorf("acknowledged too early: %w", err))
		f.mu.Unlock()
	}
	return f.Feed.Ack(ctx, receipts)
}
