package membroker

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/edupulse-live/pulse"
)

// Feed is an open Source.
type Feed struct {
	broker *Broker
	cfg    pulse.FeedConfig // constant

	// guarded by broker.mu
	stream   *stream
	consumer *consumer
	receipts map[uint64]uint64 // receipt -> sequence, of messages delivered here and not acknowledged
	last     uint64            // receipt given
	closed   bool
}

// Fetch waits for messages and returns up to max; see pulse.Feed.
func (f *Feed) Fetch(ctx context.Context, max int) ([]pulse.Message, error) {
	if max < 1 {
		return nil, fmt.Errorf("membroker: fetch %d messages: ask for one at least: %w", max, pulse.ErrInvalid)
	}
	for {
		msgs, changed, err := f.take(ctx, max)
		if err != nil || len(msgs) > 0 {
			return msgs, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("membroker: fetch: %w: %w", pulse.ErrBroker, ctx.Err())
		}
	}
}

// take returns what can be delivered now, or the channel that is closed when there may be more.
func (f *Feed) take(ctx context.Context, max int) ([]pulse.Message, <-chan struct{}, error) {
	b := f.broker
	if err := b.enter(ctx, "fetch"); err != nil {
		return nil, nil, err
	}
	defer b.mu.Unlock()
	if err := f.usable("fetch"); err != nil {
		return nil, nil, err
	}
	if f.cfg.Window > 0 {
		max = min(max, f.cfg.Window-len(f.receipts))
	}
	var msgs []pulse.Message
	for len(msgs) < max && f.consumer.feeds[0] == f {
		m := f.following()
		if m == nil {
			break
		}
		msgs = append(msgs, f.deliver(m))
	}
	return msgs, b.changed, nil
}

// following returns the next message for the subscription, nil when there is none yet. The caller holds the lock.
func (f *Feed) following() *message {
	c := f.consumer
	for len(c.again) > 0 {
		m := &f.stream.messages[c.again[0]-1]
		c.again = c.again[1:]
		if !m.expired {
			return m
		}
	}
	for c.next <= f.stream.last() {
		m := &f.stream.messages[c.next-1]
		c.next++
		if !m.expired && m.env.Position >= c.start && f.wants(m.env.Name) {
			return m
		}
	}
	return nil
}

func (f *Feed) wants(name string) bool {
	return f.cfg.Names == nil || slices.ContainsFunc(f.cfg.Names, func(pattern string) bool {
		return pulse.MatchName(pattern, name)
	})
}

// deliver gives the caller a message. The caller holds the lock.
func (f *Feed) deliver(m *message) pulse.Message {
	f.last++
	f.receipts[f.last] = m.sequence
	return pulse.Message{Envelope: copyEnvelope(&m.env), Receipt: f.last}
}

// Ack acknowledges exactly the messages with these receipts; see pulse.Feed. Acknowledging twice, or what was given back
// meanwhile, does nothing.
func (f *Feed) Ack(ctx context.Context, receipts []uint64) error {
	b := f.broker
	if err := b.enter(ctx, "ack"); err != nil {
		return err
	}
	defer b.mu.Unlock()
	if err := f.usable("ack"); err != nil {
		return err
	}
	for _, receipt := range receipts {
		if receipt == 0 || receipt > f.last {
			return fmt.Errorf("membroker: ack: receipt %d was not given by this feed: %w", receipt, pulse.ErrInvalid)
		}
		delete(f.receipts, receipt)
	}
	b.wake()
	return nil
}

// Close gives unacknowledged messages back.
func (f *Feed) Close() error {
	f.broker.mu.Lock()
	defer f.broker.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.giveBack()
	f.consumer.feeds = slices.DeleteFunc(f.consumer.feeds, func(other *Feed) bool { return other == f })
	f.broker.wake()
	return nil
}

// giveBack makes all messages that were delivered here and not acknowledged come again. The caller holds the lock.
func (f *Feed) giveBack() {
	c := f.consumer
	c.again = slices.AppendSeq(c.again, maps.Values(f.receipts))
	slices.Sort(c.again)
	clear(f.receipts)
}

// usable is nil while the feed can be used. The caller holds the lock.
func (f *Feed) usable(op string) error {
	switch {
	case f.closed:
		return fmt.Errorf("membroker: %s: the feed is closed: %w", op, pulse.ErrClosed)
	case f.consumer.gone:
		return fmt.Errorf("membroker: %s: the broker does not know the subscription any more: open it again: %w", op, pulse.ErrBroker)
	}
	return nil
}
