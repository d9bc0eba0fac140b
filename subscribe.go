package pulse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// SubscribeOption configures a subscription: its handlers (On, OnDelivery, OnBatch, an adapter's OnTx) and how they run.
type SubscribeOption func(*subscription) error

// subscription is a named group of handlers and how they run. Immutable once Subscribe returned.
type subscription struct {
	name        string
	routes      []route
	middleware  []Middleware
	start       Position
	ordered     bool
	skipFailed  bool
	retry       RetryPolicy
	concurrency int
	timeout     time.Duration
	pauseAfter  int
	pauseFirst  time.Duration // first pause it makes by itself, doubled up to pauseMax until something succeeds
	pauseMax    time.Duration

	from      string    // the destination it reads from, "" for the log
	source    Source    // of from
	publisher Publisher // of a relay; then there are no handlers
}

// Start says where a new subscription begins: Now (the default: with what is emitted after Subscribe), Beginning, or a
// position, the first to be handled, at most the next one of the log. It is fixed when the subscription is first
// registered; later values are ignored. Replay starts again.
func Start(first Position) SubscribeOption {
	return func(s *subscription) error {
		if first < Now {
			return fmt.Errorf("%w: start at position %d: use pulse.Now, pulse.Beginning or a position", ErrInvalid, first)
		}
		s.start = first
		return nil
	}
}

// Ordered handles the events of one key one after the other, in the order they were emitted, with
// different keys side by side. An event that fails holds up its key until it is handled or a dead letter settled;
// see SkipFailed. Events without a key have no order.
func Ordered() SubscribeOption {
	return func(s *subscription) error { s.ordered = true; return nil }
}

// SkipFailed lets the followers in an ordered subscription go on once an event of their key has become a dead
// letter, which stays as the record of it. Until then they wait.
func SkipFailed() SubscribeOption {
	return func(s *subscription) error { s.skipFailed = true; return nil }
}

// Retry replaces the retry policy.
func Retry(p RetryPolicy) SubscribeOption {
	return func(s *subscription) error {
		s.retry = p.withDefaults()
		return s.retry.validate()
	}
}

// Concurrency is the number of handlers that run at the same time. Default 8. A batch handler of an ordered subscription runs alone.
func Concurrency(n int) SubscribeOption {
	return func(s *subscription) error {
		if n < 1 || n > window {
			return fmt.Errorf("%w: concurrency %d: give 1 to %d", ErrInvalid, n, window)
		}
		s.concurrency = n
		return nil
	}
}

// Timeout ends the context of a handler that runs longer. Default 1 minute. A handler that does not return
// even then keeps its key and its place among the concurrent ones until it does.
func Timeout(d time.Duration) SubscribeOption {
	return func(s *subscription) error {
		if d <= 0 {
			return fmt.Errorf("%w: timeout %s must be positive", ErrInvalid, d)
		}
		s.timeout = d
		return nil
	}
}

// PauseAfter pauses the subscription for a while when n attempts in a row failed. Default 100.
func PauseAfter(n int) SubscribeOption {
	return func(s *subscription) error {
		if n < 1 {
			return fmt.Errorf("%w: pause after %d failures: give at least 1", ErrInvalid, n)
		}
		s.pauseAfter = n
		return nil
	}
}

// Use wraps the handlers of the subscription, the first middleware outermost. Not for batches.
func Use(m ...Middleware) SubscribeOption {
	return func(s *subscription) error {
		for _, wrap := range m {
			if wrap == nil {
				return fmt.Errorf("%w: a middleware is nil", ErrInvalid)
			}
		}
		s.middleware = append(s.middleware, m...)
		return nil
	}
}

// add takes a route unless its handler is missing or it overlaps with another one.
func (s *subscription) add(r route, isNil bool) error {
	if isNil {
		return fmt.Errorf("%w: the handler of %q is nil", ErrInvalid, r.pattern)
	}
	if err := ValidatePattern(r.pattern); err != nil {
		return err
	}
	if r.batch != nil && (r.max < 1 || r.max > window) {
		return fmt.Errorf("%w: batches of %d: give 1 to %d", ErrInvalid, r.max, window)
	}
	for _, other := range s.routes {
		if overlap(r.pattern, other.pattern) {
			return fmt.Errorf("%w: handlers of %q and %q overlap: one handler for each event; use a subscription of its own for the other", ErrInvalid, other.pattern, r.pattern)
		}
		if r.batch != nil || other.batch != nil {
			return fmt.Errorf("%w: a batch handler is the only one of its subscription: use a subscription of its own for %q", ErrInvalid, r.pattern)
		}
	}
	s.routes = append(s.routes, r)
	return nil
}

// Subscribe registers a named group of handlers for side effects, fed from the log. The name is stored: it finds the
// subscription's place again after a restart. Handlers run in Run or Drain.
func (b *Bus) Subscribe(name string, opts ...SubscribeOption) error {
	s, err := newSubscription(name, opts)
	if err != nil {
		return fmt.Errorf("subscribe %q: %w", name, err)
	}
	if err := b.register(s); err != nil {
		return fmt.Errorf("subscribe %q: %w", name, err)
	}
	return nil
}

// register stores the subscription, if it is new, and lets Run run it.
func (b *Bus) register(s *subscription) error {
	ports, err := portsOf(b.store)
	if err != nil {
		return err
	}
	if s.inTx() && ports.transactor == nil {
		return fmt.Errorf("%w: a transactional handler needs a store with transactions, %T has none", ErrInvalid, b.store)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return fmt.Errorf("%w: the bus was closed", ErrClosed)
	case b.running:
		return fmt.Errorf("%w: the bus is running: add everything before Run", ErrInvalid)
	case b.runners[s.name] != nil:
		return fmt.Errorf("%w: the name is taken on this bus: give all handlers in one call, or another name", ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if _, err := ports.subscriptions.Register(ctx, Registration{Name: s.name, Start: s.start, Source: s.from}); err != nil {
		return err
	}
	if s.source != nil {
		b.published.wanted()
	} else {
		b.emitted.wanted()
	}
	b.runners[s.name] = newRunner(b, s, ports)
	return nil
}

// apply applies options and returns what is wrong with them.
func apply[O ~func(*subscription) error](opts []O, s *subscription) error {
	var errs []error
	for _, opt := range opts {
		if opt == nil {
			return fmt.Errorf("%w: an option is nil", ErrInvalid)
		}
		errs = append(errs, opt(s))
	}
	return errors.Join(errs...)
}

func newSubscription(name string, opts []SubscribeOption) (*subscription, error) {
	s := &subscription{
		name:        name,
		start:       Now,
		retry:       RetryPolicy{}.withDefaults(),
		concurrency: 8,
		timeout:     time.Minute,
		pauseAfter:  100,
		pauseFirst:  time.Second,
		pauseMax:    time.Minute,
	}
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	if err := apply(opts, s); err != nil {
		return nil, err
	}
	switch {
	case len(s.routes) == 0:
		return nil, fmt.Errorf("%w: no handler: add pulse.On(func(ctx context.Context, e YourEvent) error { … })", ErrInvalid)
	case s.skipFailed && !s.ordered:
		return nil, fmt.Errorf("%w: SkipFailed is for Ordered subscriptions: in others no event waits for another", ErrInvalid)
	case s.batched() && len(s.middleware) > 0:
		return nil, fmt.Errorf("%w: middleware wraps single handlers, not batches", ErrInvalid)
	}
	s.wrap()
	return s, nil
}

// wrap puts the middleware around each handler, inside its transaction.
func (s *subscription) wrap() {
	for i := range s.routes {
		for _, m := range slices.Backward(s.middleware) {
			s.routes[i].handle = m(s.routes[i].handle)
		}
	}
}

// batched reports whether deliveries are handled many at once.
func (s *subscription) batched() bool { return s.maxBatch() > 0 }

// maxBatch is how many deliveries are handled at once at most; 0 when each is handled by itself.
func (s *subscription) maxBatch() int {
	switch {
	case s.publisher != nil:
		return s.publisher.Capabilities().MaxBatch
	case len(s.routes) == 1:
		return s.routes[0].max
	}
	return 0
}

// workers is how many handlers run at the same time at most.
func (s *subscription) workers() int {
	if s.batched() && s.ordered {
		return 1
	}
	return s.concurrency
}

func (s *subscription) inTx() bool {
	return slices.ContainsFunc(s.routes, func(r route) bool { return r.inTx })
}

// patterns lists what the subscription handles; nil for everything.
func (s *subscription) patterns() []string {
	var names []string
	for _, r := range s.routes {
		names = append(names, r.pattern)
	}
	return names
}

// route finds the handler of an event; nil when there is none.
func (s *subscription) route(name string) *route {
	for i := range s.routes {
		if MatchName(s.routes[i].pattern, name) {
			return &s.routes[i]
		}
	}
	return nil
}

// storePorts are the abilities of a store that subscriptions need.
type storePorts struct {
	store         Store
	leases        Leases
	subscriptions Subscriptions
	deliveries    Deliveries
	transactor    Transactor // nil when the store has no transactions
}

func portsOf(store Store) (storePorts, error) {
	p := storePorts{store: store}
	var ok [3]bool
	p.leases, ok[0] = store.(Leases)
	p.subscriptions, ok[1] = store.(Subscriptions)
	p.deliveries, ok[2] = store.(Deliveries)
	p.transactor, _ = store.(Transactor)
	if ok != [3]bool{true, true, true} {
		return p, fmt.Errorf("%w: %T keeps no subscriptions: it lacks Leases, Subscriptions or Deliveries", ErrInvalid, store)
	}
	return p, nil
}
