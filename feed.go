package pulse

import (
	"context"
	"fmt"
)

// From feeds the subscription from a broker instead of the log: source reads what the relay of destination publishes, see
// Publish. Both use the same store, so that the subscription can take from the log what the broker has no more.
func From(destination string, source Source) SubscribeOption {
	return func(s *subscription) error {
		if source == nil {
			return fmt.Errorf("%w: the source of %q is nil", ErrInvalid, destination)
		}
		if err := ValidateName(destination); err != nil {
			return fmt.Errorf("from destination %q: %w", destination, err)
		}
		s.from, s.source = destination, source
		return nil
	}
}

// intake is what a session reads at once: a page of the log, or messages of a broker.
type intake struct {
	envs     []Envelope
	receipts []uint64 // of the messages, one for each envelope; nil from the log
	next     Position // where the log goes on; 0 from a broker
}

// openFeed opens the source for a session that has handled everything through a position.
func (r *runner) openFeed(ctx context.Context, after Position) (Feed, error) {
	feed, err := r.sub.source.Open(ctx, FeedConfig{
		Subscription: r.sub.name, Names: r.sub.patterns(), Start: after + 1, Ordered: r.sub.ordered, Window: window,
	})
	if err != nil {
		return nil, Unavailable(err)
	}
	return feed, nil
}

// readFeed hands on what the broker has until the feed fails.
func (s *session) readFeed(ctx context.Context) error {
	for ctx.Err() == nil {
		msgs, err := s.feed.Fetch(ctx, pageLimit)
		if err != nil {
			return err
		}
		in := intake{envs: make([]Envelope, len(msgs)), receipts: make([]uint64, len(msgs))}
		for i := range msgs {
			in.envs[i], in.receipts[i] = msgs[i].Envelope, msgs[i].Receipt
		}
		s.hand(ctx, in)
	}
	return nil
}

// arrivedFromBroker takes messages. One that was handled before, or is being handled, is only acknowledged.
func (s *session) arrivedFromBroker(in intake) {
	for i := range in.envs {
		env, receipt := &in.envs[i], in.receipts[i]
		p := env.Position
		e := s.inFlight[p]
		_, row := s.passed[p]
		switch {
		case e != nil && !e.done:
			e.receipts = append(e.receipts, receipt)
		case p <= s.floor || e != nil || row || s.rows[p] != nil:
			s.acks = append(s.acks, Message{Receipt: receipt})
		default:
			e = &entry{position: p, commitment: env.Commitment, size: env.Size(), receipts: []uint64{receipt}}
			s.unacked.add(e)
			s.inFlight[p] = e
			s.enqueue(newItem(env, e))
		}
	}
	s.moved()
}

// skipUnrouted lets the cursor of a subscription that reads from a broker pass the events it does not handle, of which
// the broker tells it nothing: when it has nothing else to do.
func (s *session) skipUnrouted() {
	if s.feed == nil || s.saving || s.unsaved() || len(s.unacked.entries) > 0 || s.floor >= s.bus.head.now() {
		return
	}
	s.saving = true
	s.saves <- saveJob{skip: true, progress: Progress{Cursor: s.cursor}}
}

// firstUnhandled finds how far after floor, and no further than vouched, the log has nothing for the subscription.
func (s *session) firstUnhandled(ctx context.Context, floor, vouched Position) (Position, error) {
	if floor >= vouched {
		return floor, nil
	}
	page, err := s.ports.store.Read(ctx, Query{Names: s.sub.patterns(), After: floor, Through: vouched, Limit: 1})
	if err != nil || len(page.Envelopes) > 0 {
		return floor, err
	}
	return page.Next, nil
}

// saveJob is what the loop hands the saver.
type saveJob struct {
	progress Progress
	acks     []Message // to acknowledge once it is saved
	skip     bool      // nothing happened, but the relay may vouch for more, and there may be nothing to handle further on
}

// saved is the saver's answer.
type saved struct {
	floor Position // the cursor in the store
	err   error
}

// published is how far the subscription's relay vouches for: every event up to there is at the broker, and no dead letter or
// its follower. The cursor of a subscription that reads from the broker goes no further, so that none of
// them, published late, is taken for one that was handled before.
func (s *session) published(ctx context.Context) (Position, error) {
	relay := RelayName(s.sub.from)
	states, err := s.ports.subscriptions.States(ctx)
	if err != nil {
		return 0, err
	}
	for _, st := range states {
		if st.Name != relay {
			continue
		}
		rows, err := s.ports.deliveries.List(ctx, DeliveryQuery{Subscription: relay, Limit: 1})
		if err != nil || len(rows) == 0 {
			return st.Cursor.Position, err
		}
		return min(st.Cursor.Position, rows[0].Position-1), nil
	}
	return 0, nil
}

// saveAndAck saves progress and then acknowledges messages at the broker. It returns the cursor as saved: never behind
// floor, the one saved before.
func (s *session) saveAndAck(ctx context.Context, j saveJob, floor Position) (Position, error) {
	p := j.progress
	if s.feed == nil {
		return p.Cursor.Position, s.ports.deliveries.Advance(ctx, s.lease, p)
	}
	if j.skip || p.Cursor.Position > s.vouched {
		var err error
		if s.vouched, err = s.published(ctx); err != nil {
			return 0, err
		}
	}
	if p.Cursor.Position > s.vouched {
		p.Cursor = Cursor{Epoch: s.epoch, Position: max(s.vouched, floor)}
	}
	if j.skip {
		next, err := s.firstUnhandled(ctx, max(p.Cursor.Position, floor), s.vouched)
		if err != nil || next == floor {
			return floor, err
		}
		if next > p.Cursor.Position {
			p.Cursor = Cursor{Epoch: s.epoch, Position: next}
		}
	}
	if err := s.ports.deliveries.Advance(ctx, s.lease, p); err != nil {
		return 0, err
	}
	if err := s.feed.Ack(ctx, j.acks); err != nil {
		s.bus.log.Warn("pulse: messages were not acknowledged and will come again", "subscription", s.sub.name, "messages", len(j.acks), "error", err)
	}
	return p.Cursor.Position, nil
}
