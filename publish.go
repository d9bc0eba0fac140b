package pulse

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
)

// A relay is a subscription whose handler is a publisher: ordered, one batch in flight, its rejected messages kept as
// dead letters. Its name in the store begins with relayPrefix, which no subscription's can.
const relayPrefix = "relay/"

// RelayName is the name under which the relay of a destination is kept in the store: among Subscriptions, for
// Pause and Resume, and for its dead letters.
func RelayName(destination string) string { return relayPrefix + destination }

// PublishOption configures a destination.
type PublishOption func(*subscription) error

// Route publishes the events whose name matches pattern. Without a route all are published.
func Route(pattern string) PublishOption {
	return func(s *subscription) error {
		if err := ValidatePattern(pattern); err != nil {
			return err
		}
		s.routes = append(s.routes, route{pattern: pattern})
		return nil
	}
}

// SkipRejected lets the events of a key go on when the destination refused one of them for good, which stays as a dead
// letter. Without it they wait until that is settled.
func SkipRejected() PublishOption {
	return func(s *subscription) error { s.skipFailed = true; return nil }
}

// Publish adds a destination: Run publishes the events of the log there, from the first one on, each at least once, the
// events of one key in order. The name is stored and finds the place again after a restart. While the destination is
// down events wait in the log; Emit does not notice.
func (b *Bus) Publish(name string, p Publisher, opts ...PublishOption) error {
	if p == nil {
		return fmt.Errorf("publish to %q: %w: the publisher is nil", name, ErrInvalid)
	}
	if err := ValidateName(name); err != nil {
		return fmt.Errorf("publish to %q: %w", name, err)
	}
	can := p.Capabilities()
	if can.MaxBytes > 0 && can.MaxBytes < b.limit {
		return fmt.Errorf("publish to %q: %w: it takes messages of %d bytes, the log events of up to %d: raise its limit, or lower the log's", name, ErrInvalid, can.MaxBytes, b.limit)
	}
	s := &subscription{
		name:        RelayName(name),
		publisher:   p,
		start:       Beginning,
		ordered:     true,
		retry:       RetryPolicy{}.withDefaults(),
		concurrency: 1,
		timeout:     storeTimeout,
		pauseAfter:  math.MaxInt, // who refuses one event takes others; who takes none is unavailable
		pauseFirst:  downFirst,
		pauseMax:    downMost,
	}
	if err := apply(opts, s); err != nil {
		return fmt.Errorf("publish to %q: %w", name, err)
	}
	if err := b.register(s); err != nil {
		return fmt.Errorf("publish to %q: %w", name, err)
	}
	return nil
}

// publish hands items to the destination.
func (s *session) publish(ctx context.Context, items []*item) []result {
	envs := make([]Envelope, len(items))
	for i, it := range items {
		envs[i] = it.env
	}
	s.bus.published.keep(envs)
	publishing, cancel := context.WithTimeout(ctx, s.sub.timeout)
	defer cancel()
	return answered(items, s.ask(publishing, envs), ctx.Err() != nil)
}

// ask has the publisher publish and returns an answer for each event: Unknown where the publisher breaks its contract and gives none, or
// panics.
func (r *runner) ask(ctx context.Context, envs []Envelope) (answers []Result) {
	defer func() {
		why := fmt.Errorf("%w: the publisher gave %d answers for %d events", ErrBroker, len(answers), len(envs))
		if p := recover(); p != nil {
			why = fmt.Errorf("%w: the publisher panicked: %v", ErrBroker, p)
			r.bus.log.Error("pulse: a publisher panicked", "relay", r.sub.name, "panic", p, "stack", string(debug.Stack()))
		}
		for len(answers) < len(envs) {
			answers = append(answers, Result{Err: why})
		}
	}()
	return r.sub.publisher.PublishBatch(ctx, envs)
}

// answered is what a publisher's answers say about deliveries. Behind one that has to be published again nothing is settled, also
// when the publisher breaks its contract.
func answered(items []*item, answers []Result, interrupted bool) []result {
	results := make([]result, len(items))
	settled := true
	for i, it := range items {
		results[i].item = it
		switch r := answers[i]; {
		case settled && r.Outcome == Acked:
		case settled && r.Outcome == Rejected:
			results[i].err = fmt.Errorf("%w: %w", Park("the destination refuses it"), r.Err)
		case settled && r.Outcome == Withheld:
			results[i].again = true
		case interrupted:
			settled, results[i].aborted = false, true
		default:
			settled, results[i].err = false, Unavailable(r.Err)
		}
	}
	return results
}

// heal compares the destination with the log and the cursor. A relay that stopped between publishing and saving goes on
// after what arrived; a broker that lost what it had acknowledged gets it again. Nothing is missing once the cursor has reached through.
func (r *runner) heal(ctx context.Context, state *SubscriptionState) (through Position, err error) {
	published := state.Cursor.Position
	last, ok, err := r.sub.publisher.Last(ctx)
	switch {
	case err != nil:
		return 0, Unavailable(err)
	case !ok:
		return published, nil
	}
	if err := r.verifyLast(ctx, last); err != nil {
		return 0, err
	}
	switch {
	case last.Position == published:
		return published, nil
	case last.Position > published && state.Cursor.Commitment == ([32]byte{}):
		return last.Position, nil // it is being fed again: messages that were there before may lie behind the gap
	case last.Position > published:
		state.Cursor = Cursor{Epoch: state.Cursor.Epoch, Position: last.Position, Commitment: last.Commitment}
		return last.Position, nil
	}
	lost, err := r.firstLost(ctx, state, last.Position)
	if err != nil || lost == 0 {
		return published, err
	}
	floor, err := r.floor(ctx, last.Position)
	if err != nil {
		return 0, err
	}
	r.bus.log.Error("pulse: the destination lost messages it had acknowledged and gets them again", "relay", r.sub.name,
		"last", last.Position, "published", published, "from", floor+1)
	state.Cursor = Cursor{Epoch: state.Cursor.Epoch, Position: min(floor, published)}
	return published, nil
}

// verifyLast makes sure that the log knows the last message of the destination.
func (r *runner) verifyLast(ctx context.Context, last Cursor) error {
	if last.Position == 0 {
		return nil
	}
	page, err := r.ports.store.Read(ctx, Query{After: last.Position - 1, Through: last.Position})
	if err != nil {
		return err
	}
	if len(page.Envelopes) == 0 || page.Envelopes[0].Commitment != last.Commitment {
		return fmt.Errorf("%w: the last message there, position %d, is not in this log: the log was restored or replaced, or another log publishes there", ErrDiverged, last.Position)
	}
	return nil
}

// firstLost is the first position after last that was published and is not there any more; 0 when there is none.
// Positions between may be of events that are not routed here, or wait.
func (r *runner) firstLost(ctx context.Context, state *SubscriptionState, last Position) (Position, error) {
	rows, err := r.ports.deliveries.List(ctx, DeliveryQuery{Subscription: r.sub.name, After: last})
	if err != nil {
		return 0, err
	}
	waiting := map[Position]bool{}
	for _, row := range rows {
		waiting[row.Position] = true
	}
	q := Query{Names: r.sub.patterns(), After: last, Through: state.Cursor.Position}
	for env, err := range r.bus.Log(ctx, q) {
		if err != nil {
			return 0, err
		}
		if !waiting[env.Position] {
			return env.Position, nil
		}
	}
	return 0, nil
}

// floor is where publishing goes on after a loss: behind what every subscription that reads from the destination has handled.
// That may be before the last message there: what was published late, because it had been refused, may be among what is lost.
// Without such subscriptions it is behind the last message.
func (r *runner) floor(ctx context.Context, last Position) (Position, error) {
	states, err := r.ports.subscriptions.States(ctx)
	if err != nil {
		return 0, err
	}
	lowest, readers := Position(0), 0
	for _, s := range states {
		if RelayName(s.Source) == r.sub.name && (readers == 0 || s.Cursor.Position < lowest) {
			lowest, readers = s.Cursor.Position, readers+1
		}
	}
	if readers == 0 {
		return last, nil
	}
	return lowest, nil
}
