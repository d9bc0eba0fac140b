package membroker

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/edupulse-live/pulse"
)

// Source reads one destination of a Broker.
type Source struct {
	broker      *Broker
	destination string
}

var _ pulse.Source = (*Source)(nil)

// Source returns a source of the messages of a destination, which need not exist before.
func (b *Broker) Source(destination string) *Source {
	return &Source{broker: b, destination: destination}
}

// consumer is what the broker keeps of one subscription of a stream: which messages it has still to get. What was delivered
// and not acknowledged is with the feeds.
type consumer struct {
	start pulse.Position // messages of positions before it are not delivered
	next  uint64         // the first message never looked at
	again []uint64       // given back, to be delivered again, in order
	feeds []*Feed        // open, in the order in which they were opened: the first gets all messages until it is closed
	gone  bool           // wiped
}

// Open starts reading for a subscription; see pulse.Source. Of several open feeds of one subscription the first gets all
// messages until it is closed.
func (s *Source) Open(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
	b := s.broker
	if cfg.Subscription == "" {
		return nil, fmt.Errorf("membroker: open a feed: the subscription needs a name: %w", pulse.ErrInvalid)
	}
	if err := b.enter(ctx, "open "+cfg.Subscription); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	st := b.stream(s.destination)
	c := st.consumers[cfg.Subscription]
	if c == nil {
		c = &consumer{start: cfg.Start, next: 1}
		st.consumers[cfg.Subscription] = c
	}
	cfg.Names = slices.Clone(cfg.Names)
	f := &Feed{broker: b, cfg: cfg, stream: st, consumer: c, receipts: make(map[uint64]uint64)}
	c.feeds = append(c.feeds, f)
	return f, nil
}

// truncate forgets the messages after last. The caller holds the broker's lock.
func (c *consumer) truncate(last uint64) {
	c.next = min(c.next, last+1)
	c.again = slices.DeleteFunc(c.again, func(sequence uint64) bool { return sequence > last })
	for _, f := range c.feeds {
		maps.DeleteFunc(f.receipts, func(_, sequence uint64) bool { return sequence > last })
	}
}
