package pulse

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// start starts the goroutines of the session. The reader ends with reading, the renewer with holding, the saver and the
// workers when their channels are closed.
func (s *session) start(reading, holding, handling context.Context) *sync.WaitGroup {
	var helpers sync.WaitGroup
	for range s.sub.workers() {
		go s.worker(handling) // a handler may never return: nobody waits for these
	}
	from := s.cursor.Position
	helpers.Go(func() { s.read(reading, from) })
	helpers.Go(func() { s.saver(context.WithoutCancel(holding)) })
	helpers.Go(func() { s.renew(holding) })
	return &helpers
}

// read reads what is to be handled until ctx ends.
func (s *session) read(ctx context.Context, after Position) {
	for ctx.Err() == nil {
		var err error
		after, err = s.readOn(ctx, after)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if s.feed != nil {
			s.broken <- fmt.Errorf("read from the broker: %w", err)
			return
		}
		s.bus.log.Error("pulse: the log cannot be read, trying on", "subscription", s.sub.name, "error", err)
		pause(ctx, troubled)
	}
}

// readOn reads until it fails. It returns how far it came.
func (s *session) readOn(ctx context.Context, after Position) (Position, error) {
	if s.feed == nil {
		return s.readLog(ctx, after, math.MaxInt64, nil)
	}
	return after, s.readFeed(ctx, after)
}

// readLog reads the log page by page, through a position. brought are the receipts of messages that brought some of it; it takes out
// those it meets. It returns how far it came.
func (s *session) readLog(ctx context.Context, after, through Position, brought map[Position]uint64) (Position, error) {
	q := Query{Names: s.sub.patterns(), Limit: pageLimit}
	if s.feed != nil {
		q.Through = through
	}
	for after < through && (s.feed != nil || s.bus.head.read(ctx, after) == nil) {
		q.After = after
		page, err := s.page(ctx, q)
		if err != nil {
			return after, err
		}
		if page.Next <= q.After {
			pause(ctx, pollInterval) // the head was seen before it can be read
			if ctx.Err() != nil {
				break
			}
			continue
		}
		after = page.Next
		s.hand(ctx, s.ofLog(page, brought))
	}
	return after, nil
}

// page reads on in the log. What this process emitted a moment ago is at hand.
func (s *session) page(ctx context.Context, q Query) (Page, error) {
	limit := Position(q.Limit)
	if q.Through > 0 {
		limit = min(limit, q.Through-q.After)
	}
	envs := s.bus.emitted.after(q.After, limit)
	if len(envs) == 0 {
		return s.ports.store.Read(ctx, q)
	}
	next := envs[len(envs)-1].Position
	if len(s.sub.routes) > 0 {
		envs = slices.DeleteFunc(envs, func(env Envelope) bool { return s.sub.route(env.Name) == nil })
	}
	return Page{Envelopes: envs, Next: next}, nil
}

// ofLog is what a page of the log is for the session.
func (s *session) ofLog(page Page, brought map[Position]uint64) intake {
	in := intake{envs: page.Envelopes, next: page.Next}
	if s.feed == nil {
		return in
	}
	in.envs = slices.DeleteFunc(in.envs, func(env Envelope) bool { return !s.carries(env.Name) })
	in.receipts = make([]uint64, len(in.envs))
	for i := range in.envs {
		p := in.envs[i].Position
		in.receipts[i] = brought[p]
		delete(brought, p)
	}
	return in
}

// hand hands the loop what was read.
func (s *session) hand(ctx context.Context, in intake) {
	select {
	case s.intakes <- in:
	case <-ctx.Done():
	}
}

// pause waits for d or ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// saver writes progress until there is no more, and acknowledges what brought it to the broker.
func (s *session) saver(ctx context.Context) {
	for j := range s.saves {
		saving, cancel := context.WithTimeout(ctx, storeTimeout)
		err := s.ports.deliveries.Advance(saving, s.lease, j.progress)
		if err == nil && len(j.acks) > 0 {
			if err := s.feed.Ack(saving, j.acks); err != nil {
				s.bus.log.Warn("pulse: messages were not acknowledged and will come again", "subscription", s.sub.name, "messages", len(j.acks), "error", err)
			}
		}
		s.saved <- err
		cancel()
	}
}

// renew keeps the lease until ctx ends and reports each renewal, or the loss.
func (s *session) renew(ctx context.Context) {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	renewed := s.asked
	for {
		select {
		case <-tick.C:
		case <-s.changed:
		case <-ctx.Done():
			return
		}
		asked := time.Now()
		attempt, cancel := context.WithDeadline(ctx, renewed.Add(leaseTTL))
		lease, err := s.ports.leases.Acquire(attempt, s.lease, leaseTTL)
		cancel()
		switch {
		case err == nil:
			renewed = asked
			select {
			case s.renewed <- lease:
			case <-ctx.Done():
			}
		case errors.Is(err, ErrFenced) || time.Since(renewed) >= leaseTTL:
			s.lost <- err
			return
		}
	}
}

// worker handles what the session hands out.
func (s *session) worker(ctx context.Context) {
	var items []*item
	defer func() {
		if items != nil {
			s.results <- all(items, result{err: errGoexit})
			go s.worker(ctx)
		}
	}()
	for items = range s.work {
		rs := s.try(ctx, items)
		items = nil
		s.results <- rs
	}
}

// try handles one delivery, or a batch and on an error its halves.
func (s *session) try(ctx context.Context, items []*item) []result {
	if err := s.fetch(ctx, items[0]); err != nil {
		return all(items, result{session: err})
	}
	if items[0].env.ID == uuid.Nil {
		return all(items, result{}) // purged from the log since: nothing is left to handle
	}
	if s.sub.publisher != nil {
		return s.publish(ctx, items)
	}
	route := s.sub.route(items[0].env.Name)
	if route == nil {
		err := fmt.Errorf("%w: no handler for %s in this version of the application", Park("orphaned"), items[0].env.Name)
		return all(items, result{err: err})
	}
	return s.tryRoute(ctx, route, items)
}

func (s *session) tryRoute(ctx context.Context, route *route, items []*item) []result {
	r := s.attempt(ctx, route, items)
	if len(items) == 1 || r.err == nil || r.endsSession() {
		return all(items, r)
	}
	half := len(items) / 2
	done := s.tryRoute(ctx, route, items[:half])
	for _, r := range done {
		if r.endsSession() {
			return append(done, all(items[half:], r)...)
		}
	}
	rest, behind := s.notBehind(done, items[half:])
	if len(rest) > 0 {
		done = append(done, s.tryRoute(ctx, route, rest)...)
	}
	return append(done, behind...)
}

// endsSession tells an answer after which nothing more is tried.
func (r *result) endsSession() bool { return r.session != nil || r.aborted || isUnavailable(r.err) }

// notBehind parts items into those that may still be tried and the answers for those whose key has failed.
func (s *session) notBehind(done []result, items []*item) (rest []*item, behind []result) {
	failed := map[string]bool{}
	for _, r := range done {
		if key := s.laneKey(&r.item.env); key != "" && (r.err != nil || r.behind) {
			failed[key] = true
		}
	}
	for _, it := range items {
		if failed[it.env.Key] {
			behind = append(behind, result{item: it, behind: true})
		} else {
			rest = append(rest, it)
		}
	}
	return rest, behind
}

// all is the same result for each item.
func all(items []*item, r result) []result {
	rs := make([]result, len(items))
	for i, it := range items {
		rs[i] = r
		rs[i].item = it
	}
	return rs
}

// fetch reads the envelope of a delivery that is only known by its row.
func (s *session) fetch(ctx context.Context, it *item) error {
	if it.env.ID != uuid.Nil {
		return nil
	}
	page, err := s.ports.store.Read(ctx, Query{After: it.env.Position - 1, Through: it.env.Position})
	if err == nil && len(page.Envelopes) == 1 {
		it.env = page.Envelopes[0]
	}
	return err
}

// attempt runs the handler once for items, in a transaction if it wants one.
func (s *session) attempt(ctx context.Context, route *route, items []*item) result {
	var r result
	if ctx.Err() != nil {
		return result{aborted: true}
	}
	if route.inTx {
		r = s.attemptInTx(ctx, route, items)
	} else {
		r.stack, r.err = s.timed(ctx, func(ctx context.Context) (string, error) { return s.call(ctx, route, items, nil) })
	}
	if ctx.Err() != nil && (r.err != nil || r.session != nil) {
		return result{aborted: true}
	}
	return r
}

// timed calls a handler, whose context ends after the subscription's timeout.
func (s *session) timed(ctx context.Context, call func(ctx context.Context) (stack string, err error)) (stack string, err error) {
	handling, cancel := context.WithTimeout(ctx, s.sub.timeout)
	defer cancel()
	stack, err = call(handling)
	if err != nil && errors.Is(handling.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("timeout of %s exceeded: %w", s.sub.timeout, err)
	}
	return stack, err
}

// attemptInTx is attempt in a transaction that also holds the inbox rows. Its time begins with the handler: to wait for another
// transaction is nobody's fault.
func (s *session) attemptInTx(ctx context.Context, route *route, items []*item) (r result) {
	called := false
	transaction, giveUp := context.WithCancel(ctx)
	defer giveUp()
	err := s.ports.transactor.Transact(transaction, func(ctx context.Context, tx Tx) error {
		unseen, err := s.unseen(ctx, tx, items)
		if err != nil || len(unseen) == 0 {
			return err
		}
		called = true
		r.stack, r.err = s.timed(ctx, func(ctx context.Context) (string, error) {
			stop := context.AfterFunc(ctx, giveUp) // should the handler not return, the store need not wait for it
			defer stop()
			return s.call(ctx, route, unseen, tx)
		})
		return r.err
	})
	if called && err == nil {
		s.bus.head.poke() // the handler may have emitted
	}
	switch {
	case r.err != nil || err == nil:
	case !called, errors.Is(err, ErrUnknown), errors.Is(err, ErrFenced):
		r.session = err // redelivered, the inbox tells what happened
	case transaction.Err() != nil:
		r.err = fmt.Errorf("timeout of %s exceeded, the transaction was given up: %w", s.sub.timeout, err)
	default:
		r.err = err // the handler left a transaction that cannot commit
	}
	return r
}

// unseen marks items in the inbox and returns those that were not there.
func (s *session) unseen(ctx context.Context, tx Tx, items []*item) ([]*item, error) {
	positions := make([]Position, len(items))
	for i, it := range items {
		positions[i] = it.env.Position
	}
	seen, err := tx.Mark(ctx, s.lease, positions)
	if err != nil || len(seen) == 0 {
		return items, err
	}
	was := make(map[Position]bool, len(seen))
	for _, p := range seen {
		was[p] = true
	}
	var unseen []*item
	for _, it := range items {
		if !was[it.env.Position] {
			unseen = append(unseen, it)
		}
	}
	return unseen, nil
}

// errGoexit is the answer of a handler that ends its goroutine, as t.FailNow does.
var errGoexit = errors.New("the handler called runtime.Goexit")

// call calls the handler. For a batch it does so in a goroutine of its own: should the handler end it, the batch can still be split.
func (s *session) call(ctx context.Context, route *route, items []*item, tx Tx) (stack string, err error) {
	sc := &scope{bus: s.bus, cause: items[0].env.ID, correlation: items[0].env.Correlation, tx: tx}
	ctx = context.WithValue(ctx, scopeKey{}, sc)
	defer sc.over.Store(true)
	mark(items, time.Now().UnixNano())
	defer mark(items, 0)
	if route.batch == nil {
		return s.handle(ctx, route, items)
	}
	err = errGoexit
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		stack, err = s.handle(ctx, route, items)
	}()
	<-returned
	return stack, err
}

// mark notes since when the handler of items runs, in nanoseconds; 0: it does not.
func mark(items []*item, since int64) {
	for _, it := range items {
		it.called.Store(since)
	}
}

// handle calls the handler and turns a panic into an error.
func (s *session) handle(ctx context.Context, route *route, items []*item) (stack string, err error) {
	defer func() {
		if p := recover(); p != nil {
			stack, err = string(debug.Stack()), fmt.Errorf("the handler panicked: %v", p)
		}
	}()
	if route.batch == nil {
		d := s.delivery(items[0])
		return "", asked(route.handle(ctx, &d))
	}
	ds := make([]Delivery, len(items))
	for i, it := range items {
		ds[i] = s.delivery(it)
	}
	return "", asked(route.batch(ctx, ds))
}

// asked asks an error what it will be asked later: one that panics then, as a nil pointer in an error may, does so where that is caught.
func asked(err error) error {
	if err != nil {
		_, _ = err.Error(), isUnavailable(err)
	}
	return err
}

func (s *session) delivery(it *item) Delivery {
	return Delivery{Envelope: it.env, Subscription: s.sub.name, Generation: s.lease.Generation, Attempt: it.attempt}
}
