package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/edupulse-live/pulse"
)

const (
	putSQL = `INSERT OR REPLACE INTO deliveries
		(subscription, position, status, lane, attempt, due_at, failed_at, name, key, error, stack) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	removeSQL = "DELETE FROM deliveries WHERE subscription = ? AND position IN (SELECT value FROM json_each(?))"

	// forgetSQL removes what was dropped and the cursor has passed: it does not come again.
	forgetSQL = `DELETE FROM deliveries WHERE subscription = ?1 AND status = 'dropped'
		AND position <= (SELECT position FROM progress WHERE kind = 'subscription' AND name = ?1)`

	deliverySQL = "SELECT subscription, position, status, lane, attempt, due_at, failed_at, name, key, error, stack FROM deliveries WHERE position > ?"
)

// Advance writes p as one unit; see pulse.Deliveries.
func (s *Store) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	return s.write(ctx, "advance", normal, func(tx *sql.Tx) error {
		h, err := s.current(tx, lease)
		if err != nil {
			return err
		}
		for i := range p.Put {
			if err := s.put(tx, lease.Name, &p.Put[i]); err != nil {
				return err
			}
		}
		if len(p.Remove) > 0 {
			if _, err := s.exec(tx, removeSQL, lease.Name, jsonArray(p.Remove)); err != nil {
				return err
			}
		}
		if p.Cursor.Position != 0 {
			if err := s.move(tx, lease.Name, p.Cursor); err != nil {
				return err
			}
			h.cursor = p.Cursor.Position
			if _, err := s.exec(tx, forgetSQL, lease.Name); err != nil {
				return err
			}
		}
		_, err = s.exec(tx, pruneSQL, lease.Name, lease.Generation, h.cursor)
		return err
	})
}

func (s *Store) put(tx *sql.Tx, subscription string, d *pulse.DeliveryState) error {
	_, err := s.exec(tx, putSQL, subscription, d.Position, string(d.Status), d.Lane, d.Attempt, timeOrNull(d.Due), timeOrNull(d.FailedAt),
		d.Name, d.Key, d.Error, d.Stack)
	return err
}

// List returns deliveries in order of position, those of one position by subscription; see pulse.Deliveries.
func (s *Store) List(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
	if err := s.enter(ctx); err != nil {
		return nil, fail("list", err)
	}
	defer s.leave()
	where, args := deliveryConditions(&q)
	ds, err := scanDeliveries(&q)(s.readers.QueryContext(context.WithoutCancel(ctx), where, args...))
	if err != nil {
		return nil, fail("list", err)
	}
	return ds, nil
}

// deliveryConditions is the query for q, but for its name and limit.
func deliveryConditions(q *pulse.DeliveryQuery) (query string, args []any) {
	query, args = deliverySQL, []any{q.After}
	if q.Subscription != "" {
		query, args = query+" AND subscription = ?", append(args, q.Subscription)
	}
	if q.Positions != nil {
		query, args = query+" AND position IN (SELECT value FROM json_each(?))", append(args, jsonArray(q.Positions))
	}
	if q.Statuses != nil {
		query += " AND status IN (''" + strings.Repeat(", ?", len(q.Statuses)) + ")"
		for _, status := range q.Statuses {
			args = append(args, string(status))
		}
	}
	if q.Blocking {
		query += " AND lane <> ''"
	}
	return query + " ORDER BY position, subscription", args
}

// scanDeliveries reads and closes rows of deliverySQL, as many as q selects.
func scanDeliveries(q *pulse.DeliveryQuery) func(*sql.Rows, error) ([]pulse.DeliveryState, error) {
	return func(rows *sql.Rows, err error) (ds []pulse.DeliveryState, _ error) {
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for (q.Limit <= 0 || len(ds) < q.Limit) && rows.Next() {
			var d pulse.DeliveryState
			var due, failed sql.NullInt64
			err := rows.Scan(&d.Subscription, &d.Position, &d.Status, &d.Lane, &d.Attempt, &due, &failed, &d.Name, &d.Key, &d.Error, &d.Stack)
			if err != nil {
				return nil, err
			}
			if q.Name == "" || pulse.MatchName(q.Name, d.Name) {
				d.Due, d.FailedAt = timeOf(due), timeOf(failed)
				ds = append(ds, d)
			}
		}
		return ds, errors.Join(rows.Err(), rows.Close())
	}
}

// Settle changes the dead letters that q selects; see pulse.Deliveries.
func (s *Store) Settle(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (n int, err error) {
	change, ok := map[pulse.Settlement]string{
		pulse.SettleRetry: "UPDATE deliveries SET status = 'retry', attempt = 0, due_at = ?1",
		pulse.SettleSkip:  "UPDATE deliveries SET lane = ''",
		pulse.SettleDrop:  "UPDATE deliveries SET status = 'dropped', lane = '', due_at = NULL, error = '', stack = ''",
	}[a]
	if !ok {
		return 0, fail("settle", fmt.Errorf("%w: %q is not one of retry, skip, drop", pulse.ErrInvalid, a))
	}
	if q.Statuses != nil && !slices.Contains(q.Statuses, pulse.StatusDead) {
		return 0, nil
	}
	q.Statuses = []pulse.DeliveryStatus{pulse.StatusDead}
	err = s.write(ctx, "settle", full, func(tx *sql.Tx) error {
		where, args := deliveryConditions(&q)
		dead, err := scanDeliveries(&q)(tx.Query(where, args...))
		if err != nil {
			return err
		}
		n = len(dead)
		return s.settle(tx, dead, change)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// settle carries out change on dead letters.
func (s *Store) settle(tx *sql.Tx, dead []pulse.DeliveryState, change string) error {
	positions := map[string][]pulse.Position{}
	for _, d := range dead {
		positions[d.Subscription] = append(positions[d.Subscription], d.Position)
	}
	for subscription, ps := range positions {
		_, err := tx.Exec(change+" WHERE subscription = ?2 AND position IN (SELECT value FROM json_each(?3))",
			s.now().UnixMicro(), subscription, jsonArray(ps))
		if err != nil {
			return err
		}
		if _, err := s.exec(tx, forgetSQL, subscription); err != nil {
			return err
		}
		if err := revise(tx, subscription); err != nil {
			return err
		}
	}
	return nil
}

// jsonArray is how a statement gets any number of positions.
func jsonArray(positions []pulse.Position) string {
	b := make([]byte, 0, 2+8*len(positions))
	b = append(b, '[')
	for i, p := range positions {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(p), 10)
	}
	return string(append(b, ']'))
}
