package memstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/edupulse-live/pulse"
)

// Advance writes p as one unit; see pulse.Deliveries.
func (s *Store) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	if err := s.hook(ctx, AdvanceBefore); err != nil {
		return err
	}
	if err := s.advance(ctx, lease, p); err != nil {
		return err
	}
	return s.hook(ctx, AdvanceAfter)
}

func (s *Store) advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	if err := s.enter(ctx, "advance"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	sub, err := s.current(lease)
	if err != nil {
		return err
	}
	if p.Cursor.Position != 0 {
		sub.cursor = p.Cursor
		sub.forget()
	}
	for _, row := range p.Put {
		row.Subscription = lease.Name
		row.Due, row.FailedAt = keep(row.Due), keep(row.FailedAt)
		sub.rows[row.Position] = row
	}
	for _, position := range p.Remove {
		delete(sub.rows, position)
	}
	sub.prune()
	return nil
}

// List returns deliveries in order of position; those of one position by subscription.
func (s *Store) List(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
	if err := s.enter(ctx, "list"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.list(q), nil
}

// list returns the rows that q selects. The caller holds s.mu.
func (s *Store) list(q pulse.DeliveryQuery) []pulse.DeliveryState {
	var rows []pulse.DeliveryState
	for _, sub := range s.subs {
		for _, row := range sub.rows {
			if selectsRow(&q, &row) {
				rows = append(rows, row)
			}
		}
	}
	slices.SortFunc(rows, func(a, b pulse.DeliveryState) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.Subscription, b.Subscription))
	})
	if q.Limit > 0 && len(rows) > q.Limit {
		rows = rows[:q.Limit]
	}
	return rows
}

func selectsRow(q *pulse.DeliveryQuery, row *pulse.DeliveryState) bool {
	return (q.Subscription == "" || row.Subscription == q.Subscription) &&
		(q.Positions == nil || slices.Contains(q.Positions, row.Position)) &&
		(q.Statuses == nil || slices.Contains(q.Statuses, row.Status)) &&
		(q.Name == "" || pulse.MatchName(q.Name, row.Name)) &&
		(!q.Blocking || row.Lane != "") &&
		row.Position > q.After
}

// Settle changes the dead letters that q selects; see pulse.Deliveries.
func (s *Store) Settle(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (int, error) {
	if err := s.hook(ctx, SettleBefore); err != nil {
		return 0, err
	}
	n, err := s.settle(ctx, q, a)
	if err != nil {
		return 0, err
	}
	return n, s.hook(ctx, SettleAfter)
}

func (s *Store) settle(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (int, error) {
	if a != pulse.SettleRetry && a != pulse.SettleSkip && a != pulse.SettleDrop {
		return 0, fmt.Errorf("memstore: settle: %q is not one of retry, skip, drop: %w", a, pulse.ErrInvalid)
	}
	if q.Statuses != nil && !slices.Contains(q.Statuses, pulse.StatusDead) {
		return 0, nil
	}
	q.Statuses = []pulse.DeliveryStatus{pulse.StatusDead}
	now := s.now()
	if err := s.enter(ctx, "settle"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	dead := s.list(q)
	touched := make(map[*subscription]bool)
	for _, row := range dead {
		sub := s.subs[row.Subscription]
		sub.settle(row, a, now)
		touched[sub] = true
	}
	for sub := range touched {
		sub.revision++
		sub.forget()
		sub.prune()
	}
	return len(dead), nil
}

// settle carries out what was decided about one dead letter.
func (sub *subscription) settle(row pulse.DeliveryState, a pulse.Settlement, now time.Time) {
	switch a {
	case pulse.SettleRetry:
		row.Status, row.Due, row.Attempt = pulse.StatusRetry, now, 0
		sub.rows[row.Position] = row
	case pulse.SettleSkip:
		row.Lane = ""
		sub.rows[row.Position] = row
	case pulse.SettleDrop:
		sub.rows[row.Position] = pulse.DeliveryState{
			Subscription: row.Subscription, Position: row.Position, Status: pulse.StatusDropped,
			Name: row.Name, Key: row.Key, Attempt: row.Attempt, FailedAt: row.FailedAt,
		}
	}
}

// forget removes what was dropped and the cursor has passed: it does not come again.
func (sub *subscription) forget() {
	for p, row := range sub.rows {
		if row.Status == pulse.StatusDropped && p <= sub.cursor.Position {
			delete(sub.rows, p)
		}
	}
}
