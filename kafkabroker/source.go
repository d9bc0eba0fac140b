package kafkabroker

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/edupulse-live/pulse"
)

// Source reads the topic of a Broker.
type Source struct{ broker *Broker }

var _ pulse.Source = (*Source)(nil)

// Source returns a source of what is published to the topic.
func (b *Broker) Source() *Source { return &Source{broker: b} }

// Open starts reading for a subscription; see pulse.Source. Of the feeds of one subscription that are opened here the first gets all
// messages until it is closed; one opened through another Broker takes over from all others, which learn of it within a second.
func (s *Source) Open(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
	if err := pulse.ValidateName(cfg.Subscription); err != nil {
		return nil, fmt.Errorf("kafkabroker: open a feed: subscription: %w", err)
	}
	if cfg.Window < 1 {
		cfg.Window = defaultWindow
	}
	f := newFeed(s.broker, cfg)
	if !s.broker.join(f) {
		if err := ctx.Err(); err != nil {
			s.broker.leave(f, nil)
			return nil, s.broker.failed("open a feed", err)
		}
		return f, nil // another one is active
	}
	if err := f.start(ctx); err != nil {
		s.broker.leave(f, nil)
		return nil, s.broker.failed("open a feed of "+cfg.Subscription, err)
	}
	return f, nil
}

// groupName is the consumer group of a subscription.
func (b *Broker) groupName(subscription string) string { return b.opts.Topic + "." + subscription }

// place is what a consumer group remembers of one partition.
type place struct {
	offset     int64 // the first that is not acknowledged
	generation int64 // counts the feeds; 0 when there was none
	feed       uuid.UUID
	topic      kadm.TopicID
	start      pulse.Position // records of positions before it are not for the subscription
}

// The metadata of a commit: the version of this text, the generation, the feed, the id of the topic and the first position.
func (p *place) String() string {
	return fmt.Sprintf("1 %d %s %x %d", p.generation, p.feed, p.topic[:], p.start)
}

// readMetadata reads it. What is another's says nothing.
func (p *place) readMetadata(text string) {
	fields := strings.Fields(text)
	if len(fields) != 5 || fields[0] != "1" {
		return
	}
	generation, err := strconv.ParseInt(fields[1], 10, 64)
	feed, err2 := uuid.Parse(fields[2])
	topic, err3 := hex.DecodeString(fields[3])
	start, err4 := strconv.ParseInt(fields[4], 10, 64)
	if errors.Join(err, err2, err3, err4) != nil || len(topic) != len(p.topic) {
		return
	}
	p.generation, p.feed, p.start = generation, feed, pulse.Position(start)
	copy(p.topic[:], topic)
}

// newer reports whether a feed that began as p was replaced by the one that began as other.
func (p *place) newer(other *place) bool {
	if p.generation != other.generation {
		return other.generation > p.generation
	}
	return strings.Compare(other.feed.String(), p.feed.String()) > 0
}

// places asks what the group of a subscription remembers, by partition. Of a group that is not there it is nothing.
func (b *Broker) places(ctx context.Context, subscription string) (map[int32]place, error) {
	offsets, err := b.admin().FetchOffsetsForTopics(ctx, b.groupName(subscription), b.opts.Topic)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := map[int32]place{}
	for p, o := range offsets[b.opts.Topic] {
		switch {
		case errors.Is(o.Err, kerr.UnknownTopicOrPartition), errors.Is(o.Err, kerr.UnknownTopicID):
			continue
		case o.Err != nil:
			return nil, o.Err
		case o.At < 0:
			continue
		}
		place := place{offset: o.At}
		place.readMetadata(o.Metadata)
		found[p] = place
	}
	return found, nil
}

// commit makes the group of a subscription remember places, by partition.
func (b *Broker) commit(ctx context.Context, subscription string, places map[int32]place) error {
	var offsets kadm.Offsets
	for p, place := range places {
		offsets.Add(kadm.Offset{Topic: b.opts.Topic, Partition: p, At: place.offset, LeaderEpoch: -1, Metadata: place.String()})
	}
	return b.admin().CommitAllOffsets(ctx, b.groupName(subscription), offsets)
}

// seek finds the first offset of a partition to be read by who wants start and what follows. No record before it has a position that is
// wanted; some behind it may have one that is not.
func (b *Broker) seek(ctx context.Context, t *topic, partition int32, all bounds, start pulse.Position) (int64, error) {
	if start <= pulse.Beginning {
		return all.start, nil
	}
	low, high := all.start, all.end
	for low < high {
		middle := low + (high-low)/2
		r, err := b.firstFrom(ctx, t, partition, middle, high)
		if err != nil {
			return 0, err
		}
		for r != nil && r.Offset < high {
			c, ok := highOf(r)
			if ok && c.Position < start {
				low = r.Offset + 1
				break
			}
			if ok {
				high = middle
				break
			}
			if r, err = b.firstFrom(ctx, t, partition, r.Offset+1, high); err != nil { // another's
				return 0, err
			}
		}
		if r == nil || r.Offset >= high {
			high = middle
		}
	}
	return low, nil
}

// slot is what one process knows of a subscription. It is guarded by Broker.mu.
type slot struct {
	feeds   []*Feed // open, in the order in which they were opened
	changed chan struct{}
	ended   []acked // by partition, of the last feed that ended; nil when none did
}

// acked are the records of a partition that were acknowledged behind one that was not: their events by offset.
type acked map[int64]uuid.UUID

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
func (b *Broker) leave(f *Feed, ended []acked) {
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

// turn reports whether a feed may deliver, and how the last one ended, or else the channel that is closed when that may have changed.
func (b *Broker) turn(f *Feed) (active bool, ended []acked, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f.slot.feeds[0] == f, f.slot.ended, f.slot.changed
}
