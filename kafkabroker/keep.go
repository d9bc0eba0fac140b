package kafkabroker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
)

const (
	lookEvery   = time.Second     // how often the feed looks whether the subscription is still its own
	commitAgain = time.Hour       // how often a place is committed that does not change: the cluster forgets old ones
	closeWait   = 2 * time.Second // for the last commit
)

// start takes the subscription over and begins to deliver.
func (f *Feed) start(ctx context.Context) error {
	b := f.broker
	t, err := b.ensureTopic(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	parts, self, err := f.takeOver(ctx, &t)
	if err != nil {
		return err
	}
	from := map[int32]kgo.Offset{}
	for p := range parts {
		from[int32(p)] = kgo.NewOffset().At(parts[p].next)
	}
	client, err := b.newClient(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{b.opts.Topic: from}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(partBytes),
	)
	if err != nil {
		return err
	}
	_, ended, _ := b.turn(f)
	if len(ended) != len(parts) || self.generation == 1 { // the group is new, as of a subscription that was dropped
		ended = make([]acked, len(parts))
	}
	keeping, halt := context.WithCancel(context.WithoutCancel(ctx))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.client, f.topic, f.self, f.parts, f.ended, f.halt = client, t, self, parts, ended, halt
	f.keeper.Go(func() { f.keep(keeping) })
	return nil
}

// takeOver finds where to begin in each partition, and makes the group remember that this feed does. What the group remembers of a topic that
// was made anew, or of records that are not there any more, counts for nothing.
func (f *Feed) takeOver(ctx context.Context, t *topic) (parts []part, self place, err error) {
	b := f.broker
	all, err := b.bounds(ctx, t)
	if err != nil {
		return nil, self, err
	}
	known, err := b.places(ctx, f.cfg.Subscription)
	if err != nil {
		return nil, self, err
	}
	self = place{feed: uuid.New(), topic: t.id, start: f.cfg.Start}
	for _, place := range known {
		if place.generation > 0 {
			self.start = place.start
		}
		self.generation = max(self.generation, place.generation)
	}
	self.generation++
	parts = make([]part, len(all))
	for p := range parts {
		at, ok := known[int32(p)]
		ok = ok && at.offset <= all[p].end && (at.generation == 0 || at.topic == t.id)
		if at.offset = max(at.offset, all[p].start); !ok {
			if at.offset, err = b.seek(ctx, t, int32(p), all[p], f.cfg.Start); err != nil {
				return nil, self, fmt.Errorf("partition %d: look for position %d: %w", p, f.cfg.Start, err)
			}
		}
		parts[p] = part{next: at.offset, committed: at.offset, open: map[int64]struct{}{}, acked: acked{}}
	}
	return parts, self, b.commit(ctx, f.cfg.Subscription, f.places(parts, self))
}

// places are what the group is to remember.
func (f *Feed) places(parts []part, self place) map[int32]place {
	all := make(map[int32]place, len(parts))
	for p := range parts {
		place := self
		place.offset = parts[p].place()
		all[int32(p)] = place
	}
	return all
}

// keep commits what is acknowledged, and looks whether the subscription is still the feed's, until ctx ends; then it commits the last time.
func (f *Feed) keep(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	saved := time.Now()
	save := func(ctx context.Context, always bool) {
		if err := f.save(ctx, always); err == nil {
			saved = time.Now()
		} else if ctx.Err() == nil {
			f.broker.opts.Log.Warn("kafkabroker: the place of a subscription is not committed, trying on", "subscription", f.cfg.Subscription, "error", err)
		}
	}
	for ctx.Err() == nil {
		select {
		case <-f.look:
			save(ctx, false)
		case <-tick.C:
			again := f.check(ctx)
			save(ctx, again || time.Since(saved) > commitAgain)
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
	defer cancel()
	save(last, false)
}

// save commits, if there is something new or always.
func (f *Feed) save(ctx context.Context, always bool) error {
	f.mu.Lock()
	places := f.places(f.parts, f.self)
	ended := f.err != nil
	for p := range f.parts {
		at := places[int32(p)].offset
		if !always && at == f.parts[p].committed {
			delete(places, int32(p))
		}
		for offset := range f.parts[p].acked {
			if offset < at {
				delete(f.parts[p].acked, offset)
			}
		}
	}
	f.mu.Unlock()
	if len(places) == 0 || ended {
		return nil
	}
	if err := f.broker.commit(ctx, f.cfg.Subscription, places); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, place := range places {
		f.parts[p].committed = place.offset
	}
	return nil
}

// check looks whether the topic is the same and the subscription still the feed's. It reports whether the place has to be committed again.
func (f *Feed) check(ctx context.Context) (again bool) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	t, err := f.broker.look(ctx)
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kgo.ErrClientClosed):
		f.fail(err)
		return false
	case err != nil:
		return false
	case t.id != f.topic.id:
		f.fail(fmt.Errorf("%w: the topic %s was made anew: open again", pulse.ErrBroker, f.broker.opts.Topic))
		return false
	case len(t.leaders) != len(f.topic.leaders):
		f.fail(fmt.Errorf("%w: the topic %s has %d partitions and had %d: open again", pulse.ErrBroker, f.broker.opts.Topic, len(t.leaders), len(f.topic.leaders)))
		return false
	}
	places, err := f.broker.places(ctx, f.cfg.Subscription)
	if err != nil {
		return false
	}
	if len(places) == 0 {
		f.fail(fmt.Errorf("%w: the consumer group %s is gone: open again", pulse.ErrBroker, f.broker.groupName(f.cfg.Subscription)))
		return false
	}
	for _, other := range places {
		switch {
		case other.feed == f.self.feed:
		case other.generation > 0 && f.self.newer(&other):
			f.fail(fmt.Errorf("%w: another feed has taken over: open again", pulse.ErrBroker))
			return false
		default: // a late commit of the one before
			again = true
		}
	}
	return again
}
