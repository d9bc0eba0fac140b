package memstore

import (
	"context"
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
)

// holding is the lease of a subscription as the store keeps it.
type holding struct {
	lease   pulse.Lease // the last one given; its Token is 0 when there never was one
	held    bool        // not released; may be expired
	expires time.Time
}

// Acquire takes or renews a lease; see pulse.Leases. An expired lease stays its holder's until another one takes it. Taking under
// the name of the present holder is a new lease, which fences the old one. ErrNotFound when the subscription is not registered.
func (s *Store) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	if err := s.hook(ctx, LeaseBefore); err != nil {
		return pulse.Lease{}, err
	}
	got, err := s.acquire(ctx, lease, ttl)
	if err != nil {
		return pulse.Lease{}, err
	}
	if err := s.hook(ctx, LeaseAfter); err != nil {
		return pulse.Lease{}, err
	}
	return got, nil
}

func (s *Store) acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	if lease.Holder == "" || ttl <= 0 {
		return pulse.Lease{}, fmt.Errorf("memstore: acquire lease %s: a holder and a time to live above zero are needed: %w", lease.Name, pulse.ErrInvalid)
	}
	now := s.now()
	if err := s.enter(ctx, "acquire"); err != nil {
		return pulse.Lease{}, err
	}
	defer s.mu.Unlock()
	if lease.Token != 0 {
		sub, err := s.current(lease)
		if err != nil {
			return pulse.Lease{}, err
		}
		sub.expires = now.Add(ttl)
		sub.lease.Revision = sub.revision
		return sub.lease, nil
	}
	sub, err := s.find(lease.Name)
	if err != nil {
		return pulse.Lease{}, err
	}
	if holder := sub.holder(now); holder != "" && holder != lease.Holder {
		return pulse.Lease{}, fmt.Errorf("memstore: subscription %s is held by %s: %w", lease.Name, holder, pulse.ErrHeld)
	}
	s.lastToken++
	taken := pulse.Lease{
		Name: lease.Name, Holder: lease.Holder, Token: s.lastToken,
		Generation: sub.generation, Revision: sub.revision, Unclean: sub.held,
	}
	sub.holding = holding{lease: taken, held: true, expires: now.Add(ttl)}
	return taken, nil
}

// Release gives the lease back cleanly; see pulse.Leases.
func (s *Store) Release(ctx context.Context, lease pulse.Lease) error {
	if err := s.hook(ctx, ReleaseBefore); err != nil {
		return err
	}
	if err := s.release(ctx, lease); err != nil {
		return err
	}
	return s.hook(ctx, ReleaseAfter)
}

func (s *Store) release(ctx context.Context, lease pulse.Lease) error {
	if err := s.enter(ctx, "release"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	// The generation does not matter here: after a replay the holder of an old lease still stops cleanly.
	if sub := s.subs[lease.Name]; sub != nil && sub.held && sub.lease.Token == lease.Token {
		sub.held = false
	}
	return nil
}

// current returns the subscription whose current lease this is, or ErrFenced. The caller holds s.mu.
func (s *Store) current(lease pulse.Lease) (*subscription, error) {
	sub := s.subs[lease.Name]
	switch {
	case sub == nil:
		return nil, fmt.Errorf("memstore: subscription %s was dropped: %w", lease.Name, pulse.ErrFenced)
	case !sub.held || sub.lease.Token != lease.Token || sub.lease.Holder != lease.Holder:
		return nil, fmt.Errorf("memstore: the lease %d of %s on %s is not the current one: stop, and take it again: %w",
			lease.Token, lease.Holder, lease.Name, pulse.ErrFenced)
	case sub.generation != lease.Generation:
		return nil, fmt.Errorf("memstore: subscription %s was replayed: take the lease again: %w", lease.Name, pulse.ErrFenced)
	}
	return sub, nil
}

// holder is who holds the lease at the time now, "" when it is free.
func (h *holding) holder(now time.Time) string {
	if h.held && now.Before(h.expires) {
		return h.lease.Holder
	}
	return ""
}
