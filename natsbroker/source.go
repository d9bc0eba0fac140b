package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
)

// Source reads the stream of a Broker.
type Source struct{ broker *Broker }

var _ pulse.Source = (*Source)(nil)

// Source returns a source of what is published to the stream.
func (b *Broker) Source() *Source { return &Source{broker: b} }

// Open starts reading for a subscription; see pulse.Source. Of the feeds of one subscription that are opened here the first gets all
// messages until it is closed; one opened through another Broker takes over from all others.
func (s *Source) Open(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
	if err := pulse.ValidateName(cfg.Subscription); err != nil {
		return nil, fmt.Errorf("natsbroker: open a feed: subscription: %w", err)
	}
	if cfg.Window < 1 {
		cfg.Window = defaultWindow
	}
	f := newFeed(s.broker, cfg)
	if !s.broker.join(f) {
		if err := ctx.Err(); err != nil {
			s.broker.leave(f, nil)
			return nil, failed("open a feed", err)
		}
		return f, nil // another one is active
	}
	if err := f.start(ctx); err != nil {
		s.broker.leave(f, nil)
		return nil, failed("open a feed of "+cfg.Subscription, err)
	}
	return f, nil
}

// seek finds the first sequence number to be read by who wants start and what follows. No message before it has a position that is
// wanted; some behind it may have one that is not.
func (b *Broker) seek(ctx context.Context, state jetstream.StreamState, start pulse.Position) (uint64, error) {
	if start <= pulse.Beginning || state.Msgs == 0 {
		return max(state.FirstSeq, 1), nil
	}
	low, high := state.FirstSeq, state.LastSeq+1
	for low < high {
		middle := low + (high-low)/2
		seq, position, err := b.highFrom(ctx, middle, high)
		if err != nil {
			return 0, err
		}
		if seq < high && position < start {
			low = seq + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// highFrom returns the highest position up to the first message of ours from seq on, and its sequence number, which is end or more
// when there is none before end.
func (b *Broker) highFrom(ctx context.Context, seq, end uint64) (uint64, pulse.Position, error) {
	for seq < end {
		m, err := b.message(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) { // those from here on were removed
			return end, 0, nil
		}
		if err != nil {
			return 0, 0, err
		}
		if c, ok := highOf(m.Header); ok {
			return m.Sequence, c.Position, nil
		}
		seq = m.Sequence + 1
	}
	return seq, 0, nil
}

// filters are the subjects of names; nil for all, and when the server would not take them because they overlap.
func (b *Broker) filters(names []string) []string {
	subjects := make([]string, len(names))
	for i, name := range names {
		for _, other := range names[:i] {
			if overlap(name, other) {
				return nil
			}
		}
		subjects[i] = b.opts.Prefix + "." + name
	}
	return subjects
}

// overlap reports whether there may be a name that both patterns select.
func overlap(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		if as[i] == ">" || bs[i] == ">" {
			return true
		}
		if as[i] != bs[i] && as[i] != "*" && bs[i] != "*" {
			return false
		}
	}
	return len(as) == len(bs)
}

// slot is what one process knows of a subscription. It is guarded by Broker.mu.
type slot struct {
	feeds   []*Feed // open, in the order in which they were opened
	changed chan struct{}
	ended   *progress // where the last feed ended; nil when none did
}

// progress is how far a feed came.
type progress struct {
	stream    time.Time       // when the stream was made: sequence numbers of another mean nothing
	delivered uint64          // the last sequence number delivered
	at        uint64          // when its message was stored, in nanoseconds of the server: in a stream restored from an older copy it is another
	open      map[uint64]bool // those not acknowledged
}

// next is the first sequence number to be delivered.
func (p *progress) next() uint64 {
	next := p.delivered + 1
	for seq := range p.open {
		next = min(next, seq)
	}
	return next
}

// acked tells whether a message was acknowledged to the feed that ended.
func (p *progress) acked(seq uint64) bool { return p != nil && seq <= p.delivered && !p.open[seq] }

// join adds a feed to its subscription and reports whether it may deliver.
func (b *Broker) join(f *Feed) (active bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.slots[f.cfg.Subscription]
	if s == nil {
		s = &slot{changed: make(chan struct{})}
		b.slots[f.cfg.Subscription] = s
	}
	f.slot = s
	s.feeds = append(s.feeds, f)
	return s.feeds[0] == f
}

// leave takes a feed out, which ended so.
func (b *Broker) leave(f *Feed, ended *progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := f.slot
	for i, other := range s.feeds {
		if other == f {
			s.feeds = append(s.feeds[:i:i], s.feeds[i+1:]...)
			break
		}
	}
	if ended != nil {
		s.ended = ended
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// turn reports whether a feed may deliver, and how the last one ended, or else the channel that is closed when that
// may have changed.
func (b *Broker) turn(f *Feed) (active bool, ended *progress, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f.slot.feeds[0] == f, f.slot.ended, f.slot.changed
}
