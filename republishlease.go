package pulse

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// take pauses the relay, waits until it has let go, and takes its lease.
func (r *republisher) take(ctx context.Context) error {
	paused, err := r.acquire(ctx)
	if err != nil && paused {
		err = errors.Join(err, r.resume(ctx))
	}
	return err
}

// acquire is take without what is to be done when it fails. paused tells that it paused the relay.
func (r *republisher) acquire(ctx context.Context) (paused bool, err error) {
	limit := time.Now().Add(republishWait)
	for {
		state, err := r.state(ctx)
		if err != nil {
			return paused, err
		}
		if time.Until(state.PausedUntil) < leaseTTL {
			if err := r.extendPause(ctx); err != nil {
				return paused, err
			}
			paused = true
		}
		r.lease, err = r.ports.leases.Acquire(ctx, Lease{Name: r.sub.name, Holder: r.holder}, leaseTTL)
		switch {
		case err == nil:
			return paused, nil
		case !errors.Is(err, ErrHeld):
			return paused, err
		case time.Now().After(limit):
			return paused, fmt.Errorf("the relay does not stop, or another republish is under way: %w", err)
		}
		r.sleep(ctx, heldWait)
		if err := ctx.Err(); err != nil {
			return paused, err
		}
	}
}

// extendPause pauses the relay for a while from now.
func (r *republisher) extendPause(ctx context.Context) error {
	p := &Pause{Until: time.Now().Add(republishPause), Reason: republishReason}
	return r.bus.control(ctx, r.sub.name, Control{Pause: p})
}

// keepPaused makes the pause last. One that a person made or ended stays as it is: the lease alone keeps the relay out.
func (r *republisher) keepPaused(ctx context.Context) error {
	state, err := r.state(ctx)
	if err != nil || !ours(&state) || time.Until(state.PausedUntil) > republishPause/2 {
		return err
	}
	return r.extendPause(ctx)
}

// ours tells that the pause was made to republish.
func ours(state *SubscriptionState) bool {
	return state.PauseReason == republishReason && !state.PausedUntil.Equal(Forever)
}

// hold renews lease and pause until ctx ends, or returns why it lost the lease.
func (r *republisher) hold(ctx context.Context) error {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		attempt, cancel := context.WithTimeout(ctx, leaseTTL-leaseRenew)
		_, err := r.ports.leases.Acquire(attempt, r.lease, leaseTTL)
		if err == nil {
			renewed = time.Now()
			err = r.keepPaused(attempt)
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrFenced) || errors.Is(err, ErrNotFound) || time.Since(renewed) > leaseTTL:
			return err
		}
	}
}

// release gives the lease back.
func (r *republisher) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return r.ports.leases.Release(ctx, r.lease)
}

// resume ends the pause, if it is a republisher's.
func (r *republisher) resume(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	state, err := r.state(ctx)
	if err != nil || !ours(&state) {
		return err
	}
	return r.bus.control(ctx, r.sub.name, Control{Resume: true})
}
