package pulse

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// take pauses the relay, waits until it has let go, and takes its lease.
func (r *republisher) take(ctx context.Context) error {
	paused, err := r.pauseAndAcquire(ctx)
	if err != nil && paused {
		err = errors.Join(err, r.resume(ctx))
	}
	return err
}

// pauseAndAcquire is take without what is to be done when it fails. paused tells that it paused the relay.
func (r *republisher) pauseAndAcquire(ctx context.Context) (paused bool, err error) {
	limit := time.Now().Add(republishWait)
	for {
		made, err := r.change(ctx, func(s *SubscriptionState) *Control {
			if time.Until(s.PausedUntil) >= leaseTTL {
				return nil
			}
			return pauseToRepublish()
		})
		if err != nil {
			return paused, err
		}
		paused = paused || made
		r.lease, err = r.acquire(ctx)
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

// pauseToRepublish pauses the relay for a while from now.
func pauseToRepublish() *Control {
	return &Control{Pause: &Pause{Until: time.Now().Add(republishPause), Reason: republishReason}}
}

// keepPaused makes the pause last. One that a person made or ended stays as it is: the lease alone keeps the relay out.
func (r *republisher) keepPaused(ctx context.Context) error {
	_, err := r.change(ctx, func(s *SubscriptionState) *Control {
		if !madeToRepublish(s) || time.Until(s.PausedUntil) > republishPause/2 {
			return nil
		}
		return pauseToRepublish()
	})
	return err
}

// madeToRepublish tells that the pause was made to republish.
func madeToRepublish(state *SubscriptionState) bool {
	return state.PauseReason == republishReason && !state.PausedUntil.Equal(Forever)
}

// hold renews lease and pause until ctx ends, or returns why it lost the lease.
func (r *republisher) hold(ctx context.Context) error {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	renewed := r.asked
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		asked := time.Now()
		attempt, cancel := context.WithDeadline(ctx, renewed.Add(leaseTTL))
		_, err := r.ports.leases.Acquire(attempt, r.lease, leaseTTL)
		if err == nil {
			renewed = asked
			err = r.keepPaused(attempt)
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrFenced) || errors.Is(err, ErrNotFound) || time.Since(renewed) >= leaseTTL:
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
	_, err := r.change(ctx, func(s *SubscriptionState) *Control {
		if !madeToRepublish(s) {
			return nil
		}
		return &Control{Resume: true}
	})
	return err
}
