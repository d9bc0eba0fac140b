//go:build unix

package guarantee

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// aroundBroker is around, for an operation of the broker.
func (c *cancelling) aroundBroker(do func() error) error {
	before := c.fired()
	err := c.around(do)
	if !before && c.fired() {
		c.atBroker.Store(true)
	}
	return err
}

// cancellingPublisher counts what is asked of a broker as operations.
type cancellingPublisher struct {
	pulse.Publisher
	*cancelling
}

func (p *cancellingPublisher) PublishBatch(ctx context.Context, envs []pulse.Envelope) (results []pulse.Result) {
	_ = p.aroundBroker(func() error { results = p.Publisher.PublishBatch(ctx, envs); return nil })
	return results
}

func (p *cancellingPublisher) Last(ctx context.Context) (last pulse.Cursor, ok bool, err error) {
	err = p.aroundBroker(func() error { last, ok, err = p.Publisher.Last(ctx); return err })
	return last, ok, err
}

// cancellingSource is the same for what comes from the broker.
type cancellingSource struct {
	pulse.Source
	*cancelling
}

func (s *cancellingSource) Open(ctx context.Context, cfg pulse.FeedConfig) (f pulse.Feed, err error) {
	err = s.aroundBroker(func() error { f, err = s.Source.Open(ctx, cfg); return err })
	if err != nil {
		return nil, err
	}
	return &cancellingFeed{f, s.cancelling}, nil
}

type cancellingFeed struct {
	pulse.Feed
	*cancelling
}

func (f *cancellingFeed) Fetch(ctx context.Context, max int) (msgs []pulse.Message, err error) {
	err = f.aroundBroker(func() error { msgs, err = f.Feed.Fetch(ctx, max); return err })
	return msgs, err
}

func (f *cancellingFeed) Ack(ctx context.Context, receipts []uint64) error {
	return f.aroundBroker(func() error { return f.Feed.Ack(ctx, receipts) })
}

// Run and Drain are cancelled at each operation of the store and of the broker, one after the other: nothing is lost on the way to the
// broker and back, no effect comes twice, no attempt is spent.
func TestG16_CancelledRunWithABrokerLosesNothing(t *testing.T) {
	t.Parallel()
	eachSystem(t, func(t *testing.T, k kind, system string) {
		for _, sort := range []string{"single", "ordered-batch"} {
			t.Run(sort, func(t *testing.T) {
				t.Parallel()
				b := newOutside(t, system)
				w := open(t, newPlace(t, k), "")
				emitted, runs, fired, atBroker := 0, 0, 0, 0
				for n := 1; n <= scaled(40, 14); n++ {
					for i, when := range moments() {
						w.emit(t, numbered(emitted+6, relayKeys)[emitted:]...)
						emitted += 6
						ctx, c, cw := w.cancelAt(t, n, when)
						cw.subscribeCancelling(t, b, c, sort)
						if err := cw.runOrDrain(ctx, i%2 == 0); err != nil && !errors.Is(err, context.Canceled) {
							t.Errorf("operation %d, %s: %v", n, when, err)
						}
						runs++
						if c.fired() {
							fired++
						}
						if c.atBroker.Load() {
							atBroker++
						}
						if rows := append(w.deliveries(t, subscriptionName), w.deliveries(t, pulse.RelayName(destination))...); len(rows) > 0 {
							t.Errorf("operation %d, %s: left %+v", n, when, rows)
						}
						if err := cw.bus.Close(); err != nil {
							t.Error(err)
						}
					}
				}
				w.publish(t, b, "")
				w.subscribe(t, subscriptionName, append(w.effectHandler(sort), pulse.From(destination, b.Source()))...)
				w.drain(t)
				exactly(t, "effect of lesson", w.effects(t), emitted, 1)
				t.Logf("%d runs, %d cancelled at an operation, %d of these the broker's, %d events: %+v", runs, fired, atBroker, emitted, w.compare(t, stranger(t, b)))
				atLeast(t, "runs cancelled at an operation", fired, runs/3)
				atLeast(t, "runs cancelled at an operation of the broker", atBroker, runs/15)
			})
		}
	})
}

// subscribeCancelling adds a relay and what it feeds, through which c cancels.
func (w *world) subscribeCancelling(t *testing.T, b outside, c *cancelling, sort string) {
	t.Helper()
	w.publishTo(t, &cancellingPublisher{b.Publisher(), c})
	from := pulse.From(destination, &cancellingSource{b.Source(), c})
	w.subscribe(t, subscriptionName, append(w.effectHandler(sort), attempts(1), from)...)
}

// The relay is cancelled while the broker does not answer, and longer than the drain timeout: what it had in hand is published by the next
// one, with no attempt spent.
func TestG16_InterruptedPublishingLosesNothing(t *testing.T) {
	t.Parallel()
	eachSystem(t, func(t *testing.T, k kind, system string) {
		b, p := newOutside(t, system), newPlace(t, k)
		emitted := 0
		session := func(publisher pulse.Publisher, step func(w *world)) {
			t.Helper()
			w, err := openWorld(t.Context(), p, "", &pulse.Options{Logger: quiet(t), DrainTimeout: 5 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer w.shut(t)
			w.publishTo(t, publisher)
			w.emit(t, numbered(emitted+30, relayKeys)[emitted:]...)
			emitted += 30
			step(w)
			if rows := w.deliveries(t, pulse.RelayName(destination)); len(rows) > 0 {
				t.Errorf("left: %+v", rows)
			}
		}
		for range scaled(6, 3) {
			mute := &silent{Publisher: b.Publisher(), called: make(chan struct{})}
			session(mute, func(w *world) {
				stop := w.run(t)
				<-mute.called
				stop()
				if s := w.state(t, pulse.RelayName(destination)); int(s.Cursor.Position) > emitted-30 {
					t.Errorf("the relay has saved position %d, and published %d", s.Cursor.Position, emitted-30)
				}
			})
			session(b.Publisher(), func(w *world) { w.drain(t) })
		}
		w := open(t, p, "")
		if found := w.compare(t, stranger(t, b)); found.distinct != emitted {
			t.Errorf("%+v, want %d events", found, emitted)
		}
	})
}
