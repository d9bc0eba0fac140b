package memstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/edupulse-live/pulse"
)

// subscription is all that is kept of one. Guarded by Store.mu.
type subscription struct {
	name        string
	source      string
	generation  int
	cursor      pulse.Cursor
	revision    int64
	pausedUntil time.Time
	pauseReason string

	holding
	inbox map[pulse.Position]bool                // of this generation: effects that exist
	rows  map[pulse.Position]pulse.DeliveryState // of this generation
}

// Register creates the subscription, or returns what is stored; see pulse.Subscriptions.
func (s *Store) Register(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error) {
	if err := s.hook(ctx, RegisterBefore); err != nil {
		return pulse.SubscriptionState{}, err
	}
	state, err := s.register(ctx, r)
	if err != nil {
		return pulse.SubscriptionState{}, err
	}
	return state, s.hook(ctx, RegisterAfter)
}

func (s *Store) register(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error) {
	now := s.now()
	if err := s.enter(ctx, "register"); err != nil {
		return pulse.SubscriptionState{}, err
	}
	defer s.mu.Unlock()
	sub := s.subs[r.Name]
	if sub == nil {
		cursor, err := s.before(r.Start)
		if err != nil {
			return pulse.SubscriptionState{}, fmt.Errorf("memstore: register %s: %w", r.Name, err)
		}
		sub = &subscription{name: r.Name, generation: 1, cursor: cursor}
		sub.clear()
		s.subs[r.Name] = sub
	}
	sub.source = r.Source
	return s.state(sub, now), nil
}

// States returns all subscriptions by name; see pulse.Subscriptions.
func (s *Store) States(ctx context.Context) ([]pulse.SubscriptionState, error) {
	now := s.now()
	if err := s.enter(ctx, "states"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var states []pulse.SubscriptionState
	for _, name := range slices.Sorted(maps.Keys(s.subs)) {
		states = append(states, s.state(s.subs[name], now))
	}
	return states, nil
}

// Control changes a subscription; see pulse.Subscriptions.
func (s *Store) Control(ctx context.Context, name string, c pulse.Control) error {
	if err := s.hook(ctx, ControlBefore); err != nil {
		return err
	}
	if err := s.control(ctx, name, c); err != nil {
		return err
	}
	return s.hook(ctx, ControlAfter)
}

func (s *Store) control(ctx context.Context, name string, c pulse.Control) error {
	if err := s.enter(ctx, "control"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	sub, err := s.find(name)
	if err != nil {
		return err
	}
	if c.Seen != nil && *c.Seen != sub.revision {
		return fmt.Errorf("memstore: control %s: it was changed since revision %d: look at it again: %w", name, *c.Seen, pulse.ErrFenced)
	}
	c.Seen = nil
	switch {
	case c.Pause != nil && c == (pulse.Control{Pause: c.Pause}):
		sub.pausedUntil, sub.pauseReason = keep(c.Pause.Until), c.Pause.Reason
	case c == (pulse.Control{Resume: true}):
		sub.pausedUntil, sub.pauseReason = time.Time{}, ""
	case c.Replay != nil && c == (pulse.Control{Replay: c.Replay}):
		cursor, err := s.before(c.Replay.From)
		if err != nil {
			return fmt.Errorf("memstore: replay %s: %w", name, err)
		}
		sub.cursor = cursor
		sub.generation++
		sub.clear()
	case c == (pulse.Control{Drop: true}):
		delete(s.subs, name)
	default:
		return fmt.Errorf("memstore: control %s: set exactly one of Pause, Resume, Replay and Drop: %w", name, pulse.ErrInvalid)
	}
	sub.revision++
	return nil
}

// find returns a registered subscription. The caller holds s.mu.
func (s *Store) find(name string) (*subscription, error) {
	sub := s.subs[name]
	if sub == nil {
		return nil, fmt.Errorf("memstore: subscription %s is not registered: %w", name, pulse.ErrNotFound)
	}
	return sub, nil
}

// before is the cursor of a subscription that will handle the event at start next. The caller holds s.mu.
func (s *Store) before(start pulse.Position) (pulse.Cursor, error) {
	cursor := pulse.Cursor{Epoch: s.epoch, Position: start - 1}
	switch {
	case start == pulse.Now:
		s.sequence() // what was appended before is not "from now on"
		cursor.Position = s.head()
	case start < pulse.Beginning:
		return pulse.Cursor{}, fmt.Errorf("position %d is no place to start: use Now, Beginning or a position from 1: %w", start, pulse.ErrInvalid)
	default:
		s.sequence()
		if next := s.head() + 1; start > next {
			return pulse.Cursor{}, fmt.Errorf("position %d lies beyond the next event, %d: use Now for what is emitted from now on, or a position up to there: %w", start, next, pulse.ErrInvalid)
		}
	}
	if 0 < cursor.Position && cursor.Position <= s.head() {
		cursor.Commitment = s.log[cursor.Position-1].Commitment
	}
	return cursor, nil
}

// state is what States returns of sub. The caller holds s.mu.
func (s *Store) state(sub *subscription, now time.Time) pulse.SubscriptionState {
	state := pulse.SubscriptionState{
		Name: sub.name, Source: sub.source, Generation: sub.generation, Cursor: sub.cursor, Revision: sub.revision,
		PausedUntil: sub.pausedUntil, PauseReason: sub.pauseReason,
		Holder: sub.holder(now), Head: s.head(),
	}
	first := make(map[string]pulse.Position) // of each lane
	for pos, row := range sub.rows {
		if p, ok := first[row.Lane]; !ok || pos < p {
			first[row.Lane] = pos
		}
	}
	blocked := make(map[string]bool)
	for pos, row := range sub.rows {
		switch row.Status {
		case pulse.StatusRetry, pulse.StatusRunning:
			state.Retries++
		case pulse.StatusWaiting:
			if row.Lane != "" && pos > first[row.Lane] {
				state.Waiting++
			} else {
				state.Retries++ // nothing holds it up any more
			}
			continue
		case pulse.StatusDead:
			state.Dead++
		}
		if row.Lane != "" {
			blocked[row.Lane] = true
		}
	}
	state.Blocked = len(blocked)
	return state
}

// clear empties inbox and deliveries.
func (sub *subscription) clear() {
	sub.inbox = make(map[pulse.Position]bool)
	sub.rows = make(map[pulse.Position]pulse.DeliveryState)
}

// handled reports whether the effect of the delivery exists: it is in the inbox, or was passed by the cursor
// without leaving a row.
func (sub *subscription) handled(p pulse.Position) bool {
	_, row := sub.rows[p]
	return sub.inbox[p] || p <= sub.cursor.Position && !row
}

// prune removes the inbox entries that the cursor makes superfluous. One whose delivery still has a row is needed:
// its effect may exist although the row says that it will be tried again.
func (sub *subscription) prune() {
	for p := range sub.inbox {
		if _, row := sub.rows[p]; p <= sub.cursor.Position && !row {
			delete(sub.inbox, p)
		}
	}
}
