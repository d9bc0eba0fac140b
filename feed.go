package pulse

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// From feeds the subscription from a broker: source reads what the relay of destination publishes, see Publish. Both use the
// same store, and the log decides what the subscription gets and in which order: what the broker does not bring, because it
// was lost, has expired or was refused, is read from the log.
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

// intake is what a session reads at once, in the order of the log and without a gap.
type intake struct {
	envs     []Envelope
	receipts []uint64 // of the messages that brought them, 0 for an envelope from the log; nil when all are
	late     []uint64 // receipts of messages that brought nothing new
	next     Position // where the log goes on; 0 when only messages came late
}

// idle is how long a feed may bring nothing until the log is asked for what the relay has passed.
const idle = 250 * time.Millisecond

// openFeed opens the source for a session that has handled everything through a position. What a
// former one left unacknowledged comes first.
func (r *runner) openFeed(ctx context.Context, after Position) (Feed, error) {
	feed, err := r.sub.source.Open(ctx, FeedConfig{
		Subscription: r.sub.name, Names: r.sub.patterns(), Start: after + 1, Window: 2 * window, Known: r.bus.published.find,
	})
	if err != nil {
		return nil, Unavailable(err)
	}
	return feed, nil
}

// readFeed reads what the broker brings until the feed fails.
func (s *session) readFeed(ctx context.Context, after Position) error {
	for ctx.Err() == nil {
		wait := idle
		if s.draining.Load() > 0 {
			wait = pollInterval
		}
		fetching, cancel := context.WithTimeout(ctx, wait)
		msgs, err := s.feed.Fetch(fetching, pageLimit)
		waited := fetching.Err() != nil
		cancel()
		switch {
		case err == nil:
			after, err = s.inOrder(ctx, after, msgs)
		case waited:
			after, err = s.readPassed(ctx, after)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inOrder hands on what came, in the order of the log and with what is missing in between. It returns how far that is.
func (s *session) inOrder(ctx context.Context, after Position, msgs []Message) (Position, error) {
	slices.SortFunc(msgs, func(a, b Message) int { return cmp.Compare(a.Position, b.Position) })
	if err := s.verifyMessage(ctx, after, &msgs[len(msgs)-1].Envelope); err != nil {
		return after, err
	}
	in := intake{envs: make([]Envelope, 0, len(msgs)), receipts: make([]uint64, 0, len(msgs))}
	for i := range msgs {
		switch m := &msgs[i]; {
		case m.Position <= after:
			in.late = append(in.late, m.Receipt)
		case m.Position == after+1:
			in.envs, in.receipts = append(in.envs, m.Envelope), append(in.receipts, m.Receipt)
			after, in.next = m.Position, m.Position
		default:
			s.hand(ctx, in)
			return s.fillIn(ctx, after, msgs[i:])
		}
	}
	s.hand(ctx, in)
	return after, nil
}

// verifyMessage makes sure that the log knows a message that came: the last of several is enough, as everything behind a place
// where two logs part is different.
func (s *session) verifyMessage(ctx context.Context, after Position, env *Envelope) error {
	if env.Position <= after {
		return nil
	}
	if _, ok := s.bus.published.find(Cursor{Position: env.Position, Commitment: env.Commitment}); ok {
		return nil
	}
	page, err := s.ports.store.Read(ctx, Query{After: env.Position - 1, Through: env.Position})
	if err != nil {
		return err
	}
	if len(page.Envelopes) == 0 || page.Envelopes[0].Commitment != env.Commitment {
		return fmt.Errorf("%w: the message at position %d is not in this log: the log was restored or replaced, or another log publishes there", ErrDiverged, env.Position)
	}
	return nil
}

// fillIn hands on what the log has through the last of msgs, which all lie after a position. What they did not bring is nothing for the
// subscription, or late, or will never come.
func (s *session) fillIn(ctx context.Context, after Position, msgs []Message) (Position, error) {
	var late []uint64
	brought := make(map[Position]uint64, len(msgs))
	for i := range msgs {
		if _, twice := brought[msgs[i].Position]; twice {
			late = append(late, msgs[i].Receipt)
			continue
		}
		brought[msgs[i].Position] = msgs[i].Receipt
	}
	after, err := s.readLog(ctx, after, msgs[len(msgs)-1].Position, brought)
	for _, receipt := range brought {
		late = append(late, receipt) // of no event that is for this subscription
	}
	s.hand(ctx, intake{late: late})
	return after, err
}

// readPassed reads from the log what the relay has passed: that it is not coming from the broker by now means that it will not, or that
// it is nothing for the subscription.
func (s *session) readPassed(ctx context.Context, after Position) (Position, error) {
	if s.bus.head.now() <= after {
		return after, nil
	}
	states, err := s.ports.subscriptions.States(ctx)
	if err != nil {
		return after, err
	}
	for _, st := range states {
		if st.Name == RelayName(s.sub.from) {
			return s.readLog(ctx, after, st.Cursor.Position, nil)
		}
	}
	if !s.unheard {
		s.unheard = true
		s.bus.log.Warn("pulse: a subscription waits for a destination that was never published to: run its relay, or name another one by From",
			"subscription", s.sub.name, "destination", s.sub.from)
	}
	return after, nil
}

// carries reports whether the destination gets events of a name, as far as is known here: the relay may run elsewhere.
func (s *session) carries(name string) bool {
	s.bus.mu.Lock()
	relay := s.bus.runners[RelayName(s.sub.from)]
	s.bus.mu.Unlock()
	return relay == nil || len(relay.sub.routes) == 0 || relay.sub.route(name) != nil
}
