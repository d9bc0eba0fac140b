package pulse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Times of a subscription's life.
const (
	leaseTTL    = 5 * time.Second // how long a crashed instance keeps others out
	leaseRenew  = time.Second     // how often the active instance renews, and sees what people changed
	heldWait    = 250 * time.Millisecond
	troubled    = time.Second     // wait after the store failed
	remindAfter = 5 * time.Minute // until the log says again that it still fails

	downFirst = 100 * time.Millisecond // first pause while a broker is down, doubled each time
	downMost  = time.Second            // longest
)

// runner is one subscription on one bus: it competes for the lease and runs a session while it has it.
type runner struct {
	bus      *Bus
	sub      *subscription
	ports    storePorts
	holder   string
	changed  chan struct{}         // has room for one: somebody changed the subscription through this bus
	draining atomic.Int32          // Drain waits: save at once
	healed   atomic.Bool           // of a relay: while it runs, the destination was compared with the cursor
	diverged atomic.Pointer[error] // why it waits for a person to resume it; nil: it does not
	results  chan []result         // of the workers of all sessions: has room for what each of them reports

	// Owned by the goroutine of run and its sessions.
	asked    time.Time // when it asked for the lease it has: the store counts from no earlier
	left     leftovers
	failures int           // attempts that failed in a row
	wait     time.Duration // of the last pause it made by itself; 0 after a success
	unheard  bool          // the log was told that there is no relay of the destination this is fed from
	told     string        // why sessions end, as the log was told; "" since one began
	toldAt   time.Time
}

func newRunner(b *Bus, s *subscription, ports storePorts) *runner {
	return &runner{
		bus:     b,
		sub:     s,
		ports:   ports,
		holder:  newHolder(),
		changed: make(chan struct{}, 1),
		results: make(chan []result, s.workers()),
		left:    leftovers{lanes: map[*item]string{}},
	}
}

// newHolder names an instance by its place, its process and a random part. Where processes are numbered by namespace, the place is the machine
// and the namespace: containers of one machine may share its name and have other processes under the same numbers.
func newHolder() string {
	place, err := os.Hostname()
	if err != nil {
		place = "unknown"
	}
	if space, err := os.Readlink("/proc/self/ns/pid"); err == nil { // pid:[4026531836]
		place += "." + strings.Trim(space, "pid:[]")
	}
	return fmt.Sprintf("%s/%d/%s", place, os.Getpid(), uuid.NewString()[:8])
}

func (r *runner) poke() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// run runs sessions until ctx ends, or no subscription of the bus can go on. An error needs a person.
func (r *runner) run(ctx context.Context) error {
	defer r.healed.Store(false)
	var held time.Time // since when another instance has the lease
	for ctx.Err() == nil && !r.bus.allDiverged() {
		err := r.once(ctx)
		if !errors.Is(err, ErrHeld) {
			held = time.Time{}
		}
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, ErrDiverged):
			r.stop(ctx, err)
		case errors.Is(err, ErrClosed):
			return fmt.Errorf("subscription %q: %w", r.sub.name, err)
		case errors.Is(err, ErrNotFound):
			return fmt.Errorf("subscription %q: %w: it was dropped while this process ran it: start again to register it anew", r.sub.name, err)
		case errors.Is(err, ErrHeld):
			if held.IsZero() {
				held = time.Now()
			} else if time.Since(held) > leaseTTL { // who has it is alive, and has compared
				r.healed.Store(true)
			}
			r.sleep(ctx, heldWait)
		case errors.Is(err, ErrFenced):
			r.bus.log.Warn("pulse: another instance took over or the subscription was changed", "subscription", r.sub.name)
			r.sleep(ctx, pollInterval) // should it happen again at once, not in circles
		default:
			r.tell(err)
			r.sleep(ctx, troubled)
		}
	}
	if r.bus.allDiverged() {
		return *r.diverged.Load()
	}
	return nil
}

// tell says in the log why a session has ended: what was said already, only after a while.
func (r *runner) tell(err error) {
	if why := err.Error(); why != r.told || time.Since(r.toldAt) >= remindAfter {
		r.told, r.toldAt = why, time.Now()
		r.bus.log.Error("pulse: a subscription stopped and will start again", "subscription", r.sub.name, "error", err)
	}
}

// sleep waits for d, ctx or a change.
func (r *runner) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.changed:
	case <-ctx.Done():
	}
}

// once waits while the subscription is paused, takes the lease and runs one session.
func (r *runner) once(ctx context.Context) error {
	state, err := r.state(ctx)
	if err != nil {
		return err
	}
	if err := diverged(&state); err != nil {
		r.diverged.Store(&err)
	} else {
		r.diverged.Store(nil)
	}
	if left := time.Until(state.PausedUntil); left > 0 {
		r.sleep(ctx, min(left, heldWait))
		return nil
	}
	lease, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	err = r.session(ctx, lease)
	if r.left.workers > 0 {
		r.left.lease = lease
		return err // others wait until the lease expires and then know why
	}
	bg, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return errors.Join(err, r.ports.leases.Release(bg, lease))
}

// acquire takes the lease. One that was not given back, because handlers were left behind, is renewed first: when that works nobody
// else had it since, and nobody died.
func (r *runner) acquire(ctx context.Context) (Lease, error) {
	begun, ours := time.Now(), false
	if r.left.lease.Token != 0 {
		_, err := r.ports.leases.Acquire(ctx, r.left.lease, leaseTTL)
		if err != nil && !errors.Is(err, ErrFenced) {
			return Lease{}, err
		}
		ours = err == nil
	}
	r.asked = time.Now()
	lease, err := r.ports.leases.Acquire(ctx, Lease{Name: r.sub.name, Holder: r.holder}, leaseTTL)
	if err != nil {
		return Lease{}, err
	}
	if ours && time.Since(begun) < leaseTTL {
		lease.Unclean = false
	}
	r.left.lease = Lease{}
	return lease, nil
}

// state is what the store has about the subscription.
func (r *runner) state(ctx context.Context) (SubscriptionState, error) {
	states, err := r.ports.subscriptions.States(ctx)
	if err != nil {
		return SubscriptionState{}, err
	}
	for _, s := range states {
		if s.Name == r.sub.name {
			return s, nil
		}
	}
	return SubscriptionState{}, ErrNotFound
}

// session runs one session under the lease.
func (r *runner) session(ctx context.Context, lease Lease) error {
	epoch := r.bus.epoch.Load()
	state, err := r.state(ctx) // read again: under the lease it is nobody else's
	if err != nil {
		return err
	}
	if time.Until(state.PausedUntil) > 0 {
		return nil // since it was looked at before taking the lease
	}
	if err := r.verify(ctx, &state); err != nil {
		return err
	}
	healing := Position(0)
	if r.sub.publisher != nil {
		r.bus.published.forget()
		known := state.Cursor.Position
		if healing, err = r.heal(ctx, &state); err != nil {
			return r.cannotStart(ctx, err)
		}
		if state.Cursor.Position != known { // before anything is published from there
			if err := r.ports.deliveries.Advance(ctx, lease, Progress{Cursor: state.Cursor}); err != nil {
				return err
			}
		}
		r.healed.Store(state.Cursor.Position >= healing)
	}
	s := newSession(r, lease, state.Cursor)
	s.epoch, s.healing = epoch, healing
	if r.sub.source != nil {
		if s.feed, err = r.openFeed(ctx, state.Cursor.Position); err != nil {
			return r.cannotStart(ctx, err)
		}
		defer s.feed.Close()
	}
	if err := s.load(ctx, state.Head); err != nil {
		return err
	}
	if r.told != "" {
		r.told = ""
		r.bus.log.Info("pulse: a subscription goes on", "subscription", r.sub.name)
	}
	return s.run(ctx)
}

// cannotStart pauses the subscription when its broker is down: no longer than a relay does, so that it goes on soon after.
func (r *runner) cannotStart(ctx context.Context, err error) error {
	if isUnavailable(err) && ctx.Err() == nil {
		return r.pauseSelf(ctx, err.Error(), downFirst, downMost)
	}
	return err
}

// pauseSelf pauses the subscription for a while, longer each time in a row. A longer pause that somebody made stays.
func (r *runner) pauseSelf(ctx context.Context, reason string, first, most time.Duration) error {
	wait := min(max(2*r.wait, first), most)
	r.bus.log.Warn("pulse: a subscription pauses", "subscription", r.sub.name, "for", wait, "reason", reason)
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	until := time.Now().Add(wait)
	_, err := r.change(ctx, func(s *SubscriptionState) *Control {
		if !s.PausedUntil.Before(until) {
			return nil
		}
		return &Control{Pause: &Pause{Until: until, Reason: reason}}
	})
	if err != nil && !errors.Is(err, ErrNotFound) { // else dropped meanwhile: the next session finds out
		return err
	}
	r.wait = wait
	return nil
}

// change makes the change to the subscription that decide finds right as it is now; none when that is nil. When somebody else changes it
// in between it decides again.
func (r *runner) change(ctx context.Context, decide func(*SubscriptionState) *Control) (made bool, err error) {
	for {
		state, err := r.state(ctx)
		if err != nil {
			return false, err
		}
		c := decide(&state)
		if c == nil {
			return false, nil
		}
		c.Seen = &state.Revision
		if err = r.ports.subscriptions.Control(ctx, r.sub.name, *c); err == nil {
			r.bus.pokeRunner(r.sub.name)
		}
		if !errors.Is(err, ErrFenced) {
			return err == nil, err
		}
	}
}

// verify compares the cursor with the log: a log that was restored or replaced is not read on as if nothing had happened.
func (r *runner) verify(ctx context.Context, s *SubscriptionState) error {
	c, mend := s.Cursor, "replay the subscription from where they part and resume it, or drop it"
	if r.sub.publisher != nil {
		mend = "restore the newer log; or give this one an empty place at the destination and drop the relay"
	}
	if s.Lag() < 0 {
		return fmt.Errorf("%w: it has handled up to position %d, but the log ends at %d: the log was restored or replaced; %s", ErrDiverged, c.Position, s.Head, mend)
	}
	if c.Position == 0 || c.Commitment == ([32]byte{}) {
		return nil
	}
	page, err := r.ports.store.Read(ctx, Query{After: c.Position - 1, Through: c.Position})
	if err != nil {
		return err
	}
	if len(page.Envelopes) == 1 && page.Envelopes[0].Commitment != c.Commitment {
		return fmt.Errorf("%w: the event at position %d is not the one it has handled: the log was restored or replaced; %s", ErrDiverged, c.Position, mend)
	}
	return nil
}
