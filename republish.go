package pulse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// RepublishOptions configure Republish. The zero value works.
type RepublishOptions struct {
	// Rate is how many events are sent in a second at most; 0 for no limit.
	Rate int
	// DryRun counts what would be sent, and sends and changes nothing.
	DryRun bool
	// Progress is called after each batch, from the goroutine of Republish: sent is how many events the destination took so
	// far, through the position it has come to.
	Progress func(sent int, through Position)
}

// Republish sends the events that q selects to a destination again, through p, a publisher to it, and returns how many the
// destination took. They are events the relay of the destination has published; it may run on, also in another process: it
// is paused meanwhile. Events beyond the relay's place, or that wait or are dead letters there, are not sent: the first
// are refused with an ErrInvalid, the others left out. A bus on which the destination was not added by Publish does not know
// its routes, so that q alone selects.
//
// Nothing is changed for those who read there: subscriptions of Pulse take the events for what they are, redelivered. An
// event the destination refuses is counted and the others are sent; then the error is an ErrBroker. While the
// destination is down Republish waits until ctx ends. When it is killed the relay goes on by itself after a pause.
// What the destination has lost is not sent, but left to the relay: an ErrBroker.
func (b *Bus) Republish(ctx context.Context, destination string, p Publisher, q Query, opts *RepublishOptions) (n int, err error) {
	r, err := b.newRepublisher(destination, p, opts)
	if err == nil {
		if r.opts.DryRun {
			err = r.dryRun(ctx, q)
		} else {
			err = r.run(ctx, q)
		}
		n = r.sent
	}
	if err != nil {
		return n, fmt.Errorf("republish to %q: %w", destination, err)
	}
	return n, nil
}

// republishReason is why a relay is paused while its destination is republished to.
const republishReason = "republish"

// Times of a republishing.
const (
	republishPause = 30 * time.Second          // how long a killed one keeps the relay from running, at most
	republishWait  = storeTimeout + 2*leaseTTL // for the relay to let go: a batch may be on its way
	republishFirst = 100 * time.Millisecond    // wait before the next try, doubled each time
	republishMost  = 5 * time.Second           // longest wait
)

// republisher sends again, in place of a relay and under its lease.
type republisher struct {
	*runner
	opts  RepublishOptions
	max   int // events in one batch
	lease Lease
	owed  map[Position]struct{} // waiting or dead at the relay

	begun   time.Time
	sent    int      // taken by the destination, for DryRun selected
	tried   int      // handed to the destination and answered
	at      Position // of the last event tried
	refused int
	why     error // the first was
}

func (b *Bus) newRepublisher(destination string, p Publisher, opts *RepublishOptions) (*republisher, error) {
	ports, err := portsOf(b.store)
	if err != nil {
		return nil, err
	}
	if err := ValidateName(destination); err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fmt.Errorf("%w: the publisher is nil", ErrInvalid)
	}
	r := &republisher{max: p.Capabilities().MaxBatch}
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.Rate < 0 {
		return nil, fmt.Errorf("%w: %d events a second: give 1 or more, or 0 for no limit", ErrInvalid, r.opts.Rate)
	}
	if r.opts.Rate > 0 { // in steps of a tenth of a second
		r.max = min(r.max, max(1, r.opts.Rate/10))
	}
	sub := &subscription{name: RelayName(destination), publisher: p}
	b.mu.Lock()
	if known := b.runners[sub.name]; known != nil {
		sub.routes = known.sub.routes
	}
	b.mu.Unlock()
	r.runner = newRunner(b, sub, ports)
	return r, nil
}

// begin looks at the relay and settles what is selected: from then on q ends at the relay's place.
func (r *republisher) begin(ctx context.Context, q *Query) error {
	state, err := r.state(ctx)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: nothing was ever published there from this store", ErrNotFound)
	}
	if err != nil {
		return err
	}
	if err := r.verify(ctx, &state); err != nil {
		return err
	}
	reached := state.Cursor.Position
	switch first := q.After + 1; {
	case q.Through > reached:
		return fmt.Errorf("%w: through position %d: the relay has published up to %d, the rest follows by itself", ErrInvalid, q.Through, reached)
	case q.After > 0 && first > reached:
		return fmt.Errorf("%w: from position %d: the relay has published up to %d, the rest follows by itself", ErrInvalid, first, reached)
	case q.Through == 0:
		q.Through = reached
	}
	rows, err := r.ports.deliveries.List(ctx, DeliveryQuery{Subscription: r.sub.name})
	if err != nil {
		return err
	}
	r.owed = make(map[Position]struct{}, len(rows))
	for _, row := range rows {
		r.owed[row.Position] = struct{}{}
	}
	return nil
}

// each calls fn for what is to be sent, in order of position, until it fails.
func (r *republisher) each(ctx context.Context, q Query, fn func(Envelope) error) error {
	if q.Through == 0 {
		return nil // nothing was published yet
	}
	for env, err := range r.bus.Log(ctx, q) {
		if err != nil {
			return err
		}
		_, owed := r.owed[env.Position]
		if owed || r.sub.routes != nil && r.sub.route(env.Name) == nil {
			continue
		}
		if err := fn(env); err != nil {
			return err
		}
	}
	return nil
}

func (r *republisher) dryRun(ctx context.Context, q Query) error {
	if err := r.begin(ctx, &q); err != nil {
		return err
	}
	return r.each(ctx, q, func(Envelope) error { r.sent++; return nil })
}

// run sends in place of the relay: paused, and under its lease.
func (r *republisher) run(ctx context.Context, q Query) error {
	first := q
	if err := r.begin(ctx, &first); err != nil { // before the relay is disturbed
		return err
	}
	if err := r.take(ctx); err != nil {
		return err
	}
	holding, letGo := context.WithCancelCause(context.WithoutCancel(ctx))
	working, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(holding, stop)()
	var holder sync.WaitGroup
	holder.Go(func() { letGo(r.hold(holding)) })
	err := r.begin(working, &q) // again: only now does the relay stand still
	if err == nil {
		err = r.work(working, q)
	}
	if holding.Err() != nil {
		err = context.Cause(holding)
	}
	letGo(nil)
	holder.Wait()
	return errors.Join(err, r.release(ctx), r.resume(ctx))
}

// work sends all of q.
func (r *republisher) work(ctx context.Context, q Query) error {
	last, known, err := r.sub.publisher.Last(ctx)
	if err != nil {
		return err
	}
	r.begun = time.Now()
	var batch []Envelope
	size := 0
	err = r.each(ctx, q, func(env Envelope) error {
		if known && env.Position > last.Position { // sent, it would hide that others are missing
			return fmt.Errorf("%w: the destination has lost what was published after position %d: let the relay run, it sends that again by itself", ErrBroker, last.Position)
		}
		batch = append(batch, env)
		if size += env.Size(); len(batch) < r.max && size < maxBytes {
			return nil
		}
		defer func() { batch, size = batch[:0], 0 }()
		return r.send(ctx, batch)
	})
	if err == nil && len(batch) > 0 {
		err = r.send(ctx, batch)
	}
	if err == nil && r.refused > 0 {
		err = fmt.Errorf("%w: %d events were refused, the first: %w", ErrBroker, r.refused, r.why)
	}
	return err
}

// send sends a batch, again and again until it was answered.
func (r *republisher) send(ctx context.Context, batch []Envelope) error {
	wait := republishFirst
	for {
		if r.opts.Rate > 0 {
			due := r.begun.Add(time.Duration(r.tried) * time.Second / time.Duration(r.opts.Rate))
			pause(ctx, time.Until(due))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rest, err := r.try(ctx, batch)
		progress := len(rest) < len(batch)
		if progress {
			wait = republishFirst
		}
		if r.opts.Progress != nil && r.at > 0 {
			r.opts.Progress(r.sent, r.at)
		}
		if batch = rest; len(batch) == 0 {
			return nil
		}
		if err == nil && progress {
			continue // withheld behind a refused one, which is settled now
		}
		r.bus.log.Warn("pulse: republishing waits for the destination", "relay", r.sub.name, "position", batch[0].Position, "for", wait, "error", err)
		pause(ctx, wait)
		wait = min(2*wait, republishMost)
	}
}

// try publishes a batch once and returns what has to be published again, and why.
func (r *republisher) try(ctx context.Context, batch []Envelope) (rest []Envelope, err error) {
	publishing, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for i, result := range r.ask(publishing, batch) {
		env := &batch[i]
		switch result.Outcome {
		case Acked:
			r.sent++
		case Rejected:
			r.refused++
			if r.why == nil {
				r.why = fmt.Errorf("position %d: %w", env.Position, result.Err)
			}
			r.bus.log.Error("pulse: the destination refuses an event", "relay", r.sub.name, "event", env.Name, "position", env.Position, "error", result.Err)
		case Withheld:
			rest = append(rest, *env)
			continue
		default:
			if rest = append(rest, *env); err == nil {
				err = result.Err
			}
			continue
		}
		r.tried++
		r.at = max(r.at, env.Position)
	}
	return rest, err
}
