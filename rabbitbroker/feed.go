package rabbitbroker

import (
	"context"
	"fmt"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

// Feed is an open Source.
type Feed struct {
	broker *Broker
	link   *link
	cfg    pulse.FeedConfig // constant
	first  pulse.Position   // messages of positions before it are not delivered

	wake    chan struct{} // has room for one
	helpers sync.WaitGroup
	reader  cloudevents.HeaderReader

	mu      sync.Mutex
	arrived []amqp.Delivery
	open    map[uint64]struct{} // delivery tags that are not acknowledged
	oldest  uint64              // no tag before it is open
	last    uint64              // the last tag that came
	err     error               // why there will be no more
	closed  bool
}

func newFeed(b *Broker, l *link, cfg pulse.FeedConfig, first pulse.Position, deliveries <-chan amqp.Delivery, cancelled <-chan string) *Feed {
	cfg.Names = slices.Clone(cfg.Names)
	f := &Feed{broker: b, link: l, cfg: cfg, first: first, wake: make(chan struct{}, 1), open: make(map[uint64]struct{}), oldest: 1}
	b.mu.Lock()
	b.feeds[f] = struct{}{}
	b.mu.Unlock()
	f.helpers.Go(func() { f.receive(deliveries, cancelled) })
	return f
}

// receive takes what the server delivers until it ends.
func (f *Feed) receive(deliveries <-chan amqp.Delivery, cancelled <-chan string) {
	for d := range deliveries {
		f.mu.Lock()
		f.arrived = append(f.arrived, d)
		f.open[d.DeliveryTag] = struct{}{}
		f.last = d.DeliveryTag
		f.mu.Unlock()
		f.signal()
	}
	err := f.link.why()
	if err == nil {
		err = errLost
	}
	select {
	case _, ok := <-cancelled:
		if ok {
			err = fmt.Errorf("%w: the queue %s is gone or has lost its leader: open again", pulse.ErrBroker, f.broker.queue(f.cfg.Subscription))
		}
	default:
	}
	f.fail(err)
}

// Fetch waits for messages and returns up to max; see pulse.Feed. After an error that is not of ctx, open a new Feed: when the
// connection was lost, or the queue or the exchange is gone.
func (f *Feed) Fetch(ctx context.Context, max int) ([]pulse.Message, error) {
	if max < 1 {
		return nil, fmt.Errorf("rabbitbroker: fetch %d messages: ask for one at least: %w", max, pulse.ErrInvalid)
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, failed("fetch", err)
		}
		msgs, err := f.take(max)
		if err != nil || len(msgs) > 0 {
			return msgs, err
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
		}
	}
}

// fail makes every further Fetch return err.
func (f *Feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	f.signal()
}

// signal makes a Fetch that waits look again.
func (f *Feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// usable is nil while the feed can be used.
func (f *Feed) usable(op string) error {
	switch {
	case f.closed:
		return fmt.Errorf("rabbitbroker: %s: the feed is closed: %w", op, pulse.ErrClosed)
	case f.err != nil:
		return failed(op, f.err)
	}
	return nil
}

// take returns what has arrived, and acknowledges what is not wanted.
func (f *Feed) take(max int) ([]pulse.Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usable("fetch"); err != nil {
		return nil, err
	}
	var msgs []pulse.Message
	var unwanted []uint64
	n := 0
	for ; n < len(f.arrived) && len(msgs) < max; n++ {
		d := &f.arrived[n]
		env, ok := f.accept(d)
		if !ok {
			unwanted = append(unwanted, d.DeliveryTag)
			continue
		}
		if msgs == nil {
			msgs = make([]pulse.Message, 0, min(max, len(f.arrived)))
		}
		msgs = append(msgs, pulse.Message{Envelope: env, Receipt: d.DeliveryTag})
	}
	clear(f.arrived[:n])
	f.arrived = f.arrived[n:]
	if err := f.ack(unwanted); err != nil {
		f.err = err
		return msgs, nil // the next one says it
	}
	return msgs, nil
}

// accept reads a message, and reports whether it is to be delivered.
func (f *Feed) accept(d *amqp.Delivery) (pulse.Envelope, bool) {
	env, err := f.read(d)
	if err != nil {
		f.broker.opts.Log.Error("rabbitbroker: a message that is no event is skipped", "subscription", f.cfg.Subscription, "routing key", d.RoutingKey, "message id", d.MessageId, "error", err)
		return env, false
	}
	return env, env.Position >= f.first && f.wants(env.Name)
}

// read is the event of a message.
func (f *Feed) read(d *amqp.Delivery) (pulse.Envelope, error) {
	if f.cfg.Known != nil {
		if place, ok := placeOf(d.Headers); ok {
			if env, ok := f.cfg.Known(place); ok {
				return env, nil
			}
		}
	}
	for name, value := range d.Headers {
		f.reader.SetProperty(name, value)
	}
	if d.ContentType != "" {
		f.reader.Set("content-type", d.ContentType)
	}
	return f.reader.Envelope(d.Body)
}

func (f *Feed) wants(name string) bool {
	return f.cfg.Names == nil || slices.ContainsFunc(f.cfg.Names, func(pattern string) bool { return pulse.MatchName(pattern, name) })
}

// Ack acknowledges exactly the messages with these receipts; see pulse.Feed. Acknowledging twice does nothing.
func (f *Feed) Ack(ctx context.Context, receipts []uint64) error {
	if err := ctx.Err(); err != nil {
		return failed("ack", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usable("ack"); err != nil {
		return err
	}
	for _, receipt := range receipts {
		if receipt == 0 || receipt > f.last {
			return fmt.Errorf("rabbitbroker: ack: receipt %d was not given by this feed: %w", receipt, pulse.ErrInvalid)
		}
	}
	if err := f.ack(receipts); err != nil {
		f.err = err
		return failed("ack", err)
	}
	return nil
}

// ack acknowledges messages: all before which nothing is open at once, the others one by one. The caller holds f.mu.
func (f *Feed) ack(tags []uint64) error {
	open := make(map[uint64]struct{}, len(tags))
	for _, tag := range tags {
		if _, ok := f.open[tag]; ok {
			open[tag] = struct{}{}
			delete(f.open, tag)
		}
	}
	through := uint64(0)
	for ; f.oldest <= f.last; f.oldest++ {
		if _, is := f.open[f.oldest]; is {
			break
		}
		if _, is := open[f.oldest]; is {
			through = f.oldest
			delete(open, f.oldest)
		}
	}
	if through > 0 {
		if err := f.link.ch.Ack(through, true); err != nil {
			return err
		}
	}
	for tag := range open {
		if err := f.link.ch.Ack(tag, false); err != nil {
			return err
		}
	}
	return nil
}

// Close gives unacknowledged messages back.
func (f *Feed) Close() error {
	f.mu.Lock()
	closed := f.closed
	f.closed = true
	f.mu.Unlock()
	if closed {
		return nil
	}
	f.signal()
	f.link.close()
	f.helpers.Wait()
	f.broker.mu.Lock()
	defer f.broker.mu.Unlock()
	delete(f.broker.feeds, f)
	return nil
}
