package pgstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse"
)

const (
	// markSQL makes sure that a lease is the current one, enters deliveries into the inbox, and answers those that were not handled: they are
	// above the cursor, or have a row. Of two transactions that enter one delivery the second waits for the first.
	markSQL = `WITH current (cursor) AS MATERIALIZED (` + currentSQL + `), entered AS (
		INSERT INTO @inbox (subscription, generation, position)
		SELECT $1, $4, w.position FROM current, unnest($5::int8[]) AS w (position)
		WHERE w.position > cursor OR EXISTS (SELECT FROM @deliveries d WHERE d.subscription = $1 AND d.position = w.position)
		ON CONFLICT DO NOTHING RETURNING position)
	SELECT coalesce(array_agg(e.position) FILTER (WHERE e.position IS NOT NULL), '{}') FROM current LEFT JOIN entered e ON true`

	putSQL = `INSERT INTO @deliveries (subscription, position, status, lane, attempt, due_at, failed_at, name, key, error, stack)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (subscription, position) DO UPDATE SET (status, lane, attempt, due_at, failed_at, name, key, error, stack)
		= (excluded.status, excluded.lane, excluded.attempt, excluded.due_at, excluded.failed_at, excluded.name, excluded.key, excluded.error, excluded.stack)`

	removeSQL = "DELETE FROM @deliveries WHERE subscription = $1 AND position = ANY ($2::int8[])"

	// forgetSQL removes what was dropped and the cursor has passed: it does not come again.
	forgetSQL = `DELETE FROM @deliveries WHERE subscription = $1 AND status = 'dropped'
		AND position <= (SELECT position FROM @progress WHERE kind = 'subscription' AND name = $1 ORDER BY n DESC LIMIT 1)`

	// pruneInboxSQL takes up to $3 inbox entries away that the cursor makes superfluous. One whose delivery still has a row is
	// needed: its effect may exist although the row says that it will be tried again.
	//
	// It is written so that the planner has no choice: it walks along the inbox, and looks each entry up among the deliveries. On a table that
	// was never analyzed it expects one row, and of two joins it would make loops in loops over all of it; a NOT IN it hashes only as long
	// as it believes that the rows fit into memory. Both took minutes. The order of the look-up is that of the primary key only.
	pruneInboxSQL = `DELETE FROM @inbox WHERE ctid = ANY (ARRAY(
		SELECT i.ctid FROM @inbox i WHERE i.subscription = $1 AND i.generation = $2
		AND i.position <= (SELECT position FROM @progress WHERE kind = 'subscription' AND name = $1 ORDER BY n DESC LIMIT 1)
		AND i.position IS DISTINCT FROM (SELECT d.position FROM @deliveries d WHERE d.subscription = i.subscription AND d.position >= i.position
			ORDER BY d.position LIMIT 1)
		ORDER BY i.position LIMIT $3))`

	// planPruneSQL is for the plan of pruneInboxSQL, which a connection keeps: made while a table had few rows, it would read all of them each
	// time, also when they have become many.
	planPruneSQL = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true)"

	pruneProgressSQL = `DELETE FROM @progress WHERE kind = 'subscription' AND name = $1
		AND n < (SELECT max(n) FROM @progress WHERE kind = 'subscription' AND name = $1)`

	deliverySQL = "SELECT subscription, position, status, lane, attempt, due_at, failed_at, name, key, error, stack FROM @deliveries WHERE position > $1"

	// pruneAdvances is after how many calls of Advance for a subscription one of them takes away what is superfluous.
	pruneAdvances = 32
	// pruneEntries is how many inbox entries it takes at most, for the sake of its time, some 50 ms. If there are more the next call goes on. It
	// is above what one call can make superfluous, the window of a subscription, which is 4,096 deliveries at most.
	pruneEntries = 10_000
)

// mark enters positions into the inbox of the lease's generation and returns those that are handled already.
func (s *Store) mark(ctx context.Context, tx pgx.Tx, lease pulse.Lease, positions []pulse.Position) (seen []pulse.Position, err error) {
	var entered []int64
	if err := tx.QueryRow(ctx, s.sql.mark, append(fenceArgs(lease), numbers(positions))...).Scan(&entered); err != nil {
		return nil, err
	}
	fresh := make(map[pulse.Position]bool, len(entered))
	for _, p := range entered {
		fresh[pulse.Position(p)] = true
	}
	for _, p := range positions {
		if !fresh[p] {
			seen = append(seen, p)
		}
		delete(fresh, p) // a second one in this call comes too late
	}
	return seen, nil
}

func numbers(positions []pulse.Position) []int64 {
	ns := make([]int64, len(positions))
	for i, p := range positions {
		ns[i] = int64(p)
	}
	return ns
}

// Advance writes p as one unit, in one round trip; see pulse.Deliveries.
func (s *Store) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	const op = "advance"
	if err := s.enter(ctx); err != nil {
		return fail(op, err)
	}
	defer s.leave()
	b := &pgx.Batch{} // one transaction, as nothing in it says otherwise
	b.Queue(relaxSQL)
	b.Queue(s.sql.fence, fenceArgs(lease)...)
	for i := range p.Put {
		d := &p.Put[i]
		b.Queue(s.schema.sql(putSQL), lease.Name, int64(d.Position), string(d.Status), d.Lane, d.Attempt, timeOrNull(d.Due), timeOrNull(d.FailedAt),
			d.Name, d.Key, storable(d.Error), storable(d.Stack))
	}
	if len(p.Remove) > 0 {
		b.Queue(s.schema.sql(removeSQL), lease.Name, numbers(p.Remove))
	}
	if p.Cursor.Position != 0 {
		b.Queue(s.schema.sql(moveSQL), moveArgs(lease.Name, p.Cursor)...)
		b.Queue(s.schema.sql(forgetSQL), lease.Name)
	}
	s.queuePrune(b, lease)
	conn, err := s.acquire(ctx)
	if err != nil {
		return fail(op, err)
	}
	defer conn.Release()
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return failSent(op, err)
	}
	return nil
}

// queuePrune adds to b, now and then, what takes away what is superfluous. The first Advance of a store does too, as processes may be short-lived.
func (s *Store) queuePrune(b *pgx.Batch, lease pulse.Lease) {
	counter, _ := s.advances.LoadOrStore(lease.Name, new(atomic.Int64))
	untilNext := counter.(*atomic.Int64)
	if untilNext.Add(-1) >= 0 {
		return
	}
	untilNext.Store(pruneAdvances - 1)
	b.Queue(planPruneSQL)
	b.Queue(s.schema.sql(pruneProgressSQL), lease.Name)
	b.Queue(s.schema.sql(pruneInboxSQL), lease.Name, lease.Generation, pruneEntries).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() == pruneEntries {
			untilNext.Store(0)
		}
		return nil
	})
}

// storable is text as PostgreSQL takes it: UTF-8 without zero bytes.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// List returns deliveries in order of position, those of one position by subscription; see pulse.Deliveries.
func (s *Store) List(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
	const op = "list"
	if err := s.enter(ctx); err != nil {
		return nil, fail(op, err)
	}
	defer s.leave()
	sql, args := s.deliveryQuery(&q)
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fail(op, err)
	}
	ds, err := scanDeliveries(&q, rows)
	if err != nil {
		return nil, fail(op, err)
	}
	return ds, nil
}

// deliveryQuery is the query for q, but for its name and, where there is one, its limit.
func (s *Store) deliveryQuery(q *pulse.DeliveryQuery) (sql string, args []any) {
	sql, args = deliverySQL, []any{int64(q.After)}
	add := func(condition string, arg any) {
		args = append(args, arg)
		sql += " AND " + fmt.Sprintf(condition, len(args))
	}
	if q.Subscription != "" {
		add("subscription = $%d", q.Subscription)
	}
	if q.Positions != nil {
		add("position = ANY ($%d::int8[])", numbers(q.Positions))
	}
	if q.Statuses != nil {
		statuses := make([]string, len(q.Statuses))
		for i, status := range q.Statuses {
			statuses[i] = string(status)
		}
		add("status = ANY ($%d::text[])", statuses)
	}
	if q.Blocking {
		sql += " AND lane <> ''"
	}
	sql += " ORDER BY position, subscription"
	if q.Limit > 0 && q.Name == "" {
		args = append(args, q.Limit)
		sql += fmt.Sprintf(" LIMIT $%d", len(args))
	}
	return s.schema.sql(sql), args
}

// scanDeliveries reads and closes rows of deliverySQL, as many as q selects.
func scanDeliveries(q *pulse.DeliveryQuery, rows pgx.Rows) (ds []pulse.DeliveryState, err error) {
	defer rows.Close()
	for (q.Limit <= 0 || len(ds) < q.Limit) && rows.Next() {
		var d pulse.DeliveryState
		var due, failed *time.Time
		err := rows.Scan(&d.Subscription, (*int64)(&d.Position), (*string)(&d.Status), &d.Lane, &d.Attempt, &due, &failed, &d.Name, &d.Key, &d.Error, &d.Stack)
		if err != nil {
			return nil, err
		}
		if q.Name == "" || pulse.MatchName(q.Name, d.Name) {
			d.Due, d.FailedAt = instant(due), instant(failed)
			ds = append(ds, d)
		}
	}
	rows.Close()
	return ds, rows.Err()
}

// Settle changes the dead letters that q selects; see pulse.Deliveries.
func (s *Store) Settle(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (n int, err error) {
	const op = "settle"
	var change string
	switch a {
	case pulse.SettleRetry:
		change = "UPDATE @deliveries SET status = 'retry', attempt = 0, due_at = clock_timestamp()"
	case pulse.SettleSkip:
		change = "UPDATE @deliveries SET lane = ''"
	case pulse.SettleDrop:
		change = "UPDATE @deliveries SET status = 'dropped', lane = '', due_at = NULL, error = '', stack = ''"
	default:
		return 0, fail(op, fmt.Errorf("%w: %q is not one of retry, skip, drop", pulse.ErrInvalid, a))
	}
	if q.Statuses != nil && !slices.Contains(q.Statuses, pulse.StatusDead) {
		return 0, nil
	}
	q.Statuses = []pulse.DeliveryStatus{pulse.StatusDead}
	err = s.write(ctx, op, func(tx *lazyTx) (err error) {
		n, err = s.settleDead(ctx, tx, &q, change)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// settleDead carries out change on the dead letters that q selects.
func (s *Store) settleDead(ctx context.Context, tx pgx.Tx, q *pulse.DeliveryQuery, change string) (n int, err error) {
	sql, args := s.deliveryQuery(q)
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	dead, err := scanDeliveries(q, rows)
	if err != nil {
		return 0, err
	}
	positions := map[string][]int64{}
	for _, d := range dead {
		positions[d.Subscription] = append(positions[d.Subscription], int64(d.Position))
	}
	for _, subscription := range slices.Sorted(maps.Keys(positions)) { // in one order, as it locks them
		if err := s.revise(ctx, tx, subscription); err != nil {
			return 0, err
		}
		tag, err := tx.Exec(ctx, s.schema.sql(change+" WHERE status = 'dead' AND subscription = $1 AND position = ANY ($2::int8[])"),
			subscription, positions[subscription])
		if err != nil {
			return 0, err
		}
		n += int(tag.RowsAffected())
		if _, err := tx.Exec(ctx, s.schema.sql(forgetSQL), subscription); err != nil {
			return 0, err
		}
	}
	return n, nil
}
