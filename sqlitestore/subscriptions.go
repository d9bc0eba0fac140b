package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
)

// statesSQL is ordered by name; its parameters are the present time and a name, or "" for all.
const statesSQL = `SELECT s.name, s.source, s.generation, s.revision, s.paused_until, s.pause_reason,
	p.epoch, p.position, p.commitment,
	coalesce((SELECT holder FROM leases AS l WHERE l.subscription = s.name AND l.held AND l.expires_at > ?1), ''),
	coalesce((SELECT position FROM events ORDER BY position DESC LIMIT 1), 0),
	(SELECT count(*) FROM deliveries AS d WHERE d.subscription = s.name AND d.status IN ('retry', 'running')),
	(SELECT count(*) FROM deliveries AS d WHERE d.subscription = s.name AND d.status = 'waiting'),
	(SELECT count(*) FROM deliveries AS d WHERE d.subscription = s.name AND d.status = 'waiting' AND NOT EXISTS (
		SELECT 1 FROM deliveries AS b WHERE b.subscription = d.subscription AND b.lane = d.lane AND b.lane <> '' AND b.position < d.position)),
	(SELECT count(DISTINCT lane) FROM deliveries AS d WHERE d.subscription = s.name AND d.lane <> '' AND d.status <> 'waiting'),
	(SELECT count(*) FROM deliveries AS d WHERE d.subscription = s.name AND d.status = 'dead')
	FROM subscriptions AS s
	LEFT JOIN progress AS p ON p.kind = 'subscription' AND p.name = s.name
	WHERE ?2 IN ('', s.name) ORDER BY s.name`

// Register creates a subscription, or returns what is stored; see pulse.Subscriptions.
func (s *Store) Register(ctx context.Context, r pulse.Registration) (state pulse.SubscriptionState, err error) {
	const op = "register"
	if r.Name == "" {
		return state, fail(op, fmt.Errorf("%w: a subscription needs a name", pulse.ErrInvalid))
	}
	err = s.write(ctx, op, full, func(tx *sql.Tx) error {
		created, err := tx.Exec("INSERT INTO subscriptions (name, source, generation, revision) VALUES (?, ?, 1, 0) ON CONFLICT DO NOTHING", r.Name, r.Source)
		if err != nil {
			return err
		}
		if n, err := created.RowsAffected(); err != nil {
			return err
		} else if n == 1 {
			if err := s.moveBefore(tx, r.Name, r.Start); err != nil {
				return fmt.Errorf("subscription %q: %w", r.Name, err)
			}
		} else if _, err := tx.Exec("UPDATE subscriptions SET source = ?2 WHERE name = ?1", r.Name, r.Source); err != nil {
			return err
		}
		states, err := scanStates(tx.Query(statesSQL, s.now().UnixMicro(), r.Name))
		if err == nil {
			state = states[0]
		}
		return err
	})
	return state, err
}

// States returns all subscriptions by name; see pulse.Subscriptions.
func (s *Store) States(ctx context.Context) ([]pulse.SubscriptionState, error) {
	if err := s.enter(ctx); err != nil {
		return nil, fail("states", err)
	}
	defer s.leave()
	states, err := scanStates(s.states.QueryContext(context.WithoutCancel(ctx), s.now().UnixMicro(), ""))
	if err != nil {
		return nil, fail("states", err)
	}
	return states, nil
}

// moveBefore sets the cursor so that the event at start is the next.
func (s *Store) moveBefore(tx *sql.Tx, name string, start pulse.Position) error {
	var head pulse.Position
	if err := tx.QueryRow(headSQL).Scan(&head); err != nil {
		return err
	}
	cursor := pulse.Cursor{Epoch: s.epoch, Position: start - 1}
	switch {
	case start == pulse.Now:
		cursor.Position = head
	case start < pulse.Beginning:
		return fmt.Errorf("%w: position %d is no place to start: use Now, Beginning or a position from 1", pulse.ErrInvalid, start)
	case start > head+1:
		return fmt.Errorf("%w: position %d lies beyond the next event, %d: use Now for what is emitted from now on, or a position up to there", pulse.ErrInvalid, start, head+1)
	}
	var commitment []byte
	err := tx.QueryRow("SELECT commitment FROM events WHERE position = ?", cursor.Position).Scan(&commitment)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	copy(cursor.Commitment[:], commitment)
	return s.move(tx, name, cursor)
}

const moveSQL = `INSERT INTO progress (kind, name, epoch, position, commitment) VALUES ('subscription', ?, ?, ?, ?)
	ON CONFLICT DO UPDATE SET epoch = excluded.epoch, position = excluded.position, commitment = excluded.commitment`

// move writes the cursor of a subscription.
func (s *Store) move(tx *sql.Tx, name string, c pulse.Cursor) error {
	var commitment []byte
	if c.Commitment != [32]byte{} {
		commitment = c.Commitment[:]
	}
	_, err := s.exec(tx, moveSQL, name, c.Epoch, c.Position, commitment)
	return err
}

// Control changes a subscription; see pulse.Subscriptions.
func (s *Store) Control(ctx context.Context, name string, c pulse.Control) error {
	return s.write(ctx, "control", full, func(tx *sql.Tx) error {
		h, err := s.holdingOf(tx, name)
		if err != nil {
			return err
		}
		if c.Seen != nil && *c.Seen != h.revision {
			return fmt.Errorf("%w: subscription %q was changed since revision %d: look at it again", pulse.ErrFenced, name, *c.Seen)
		}
		c.Seen = nil
		if err := s.control(tx, name, c); err != nil {
			return fmt.Errorf("subscription %q: %w", name, err)
		}
		return revise(tx, name)
	})
}

func (s *Store) control(tx *sql.Tx, name string, c pulse.Control) (err error) {
	switch {
	case c.Pause != nil && c == pulse.Control{Pause: c.Pause}:
		_, err = tx.Exec("UPDATE subscriptions SET paused_until = ?, pause_reason = ? WHERE name = ?", timeOrNull(c.Pause.Until), c.Pause.Reason, name)
	case c == pulse.Control{Resume: true}:
		_, err = tx.Exec("UPDATE subscriptions SET paused_until = NULL, pause_reason = '' WHERE name = ?", name)
	case c.Replay != nil && c == pulse.Control{Replay: c.Replay}:
		return s.replay(tx, name, c.Replay.From)
	case c == pulse.Control{Drop: true}:
		return erase(tx, name, "deliveries", "inbox", "leases", "progress", "subscriptions")
	default:
		return fmt.Errorf("%w: a Control has exactly one of Pause, Resume, Replay and Drop set", pulse.ErrInvalid)
	}
	return err
}

func (s *Store) replay(tx *sql.Tx, name string, from pulse.Position) error {
	if err := s.moveBefore(tx, name, from); err != nil {
		return err
	}
	if err := erase(tx, name, "deliveries", "inbox"); err != nil {
		return err
	}
	_, err := tx.Exec("UPDATE subscriptions SET generation = generation + 1 WHERE name = ?", name)
	return err
}

// erase removes what tables have of a subscription.
func erase(tx *sql.Tx, name string, tables ...string) error {
	for _, table := range tables {
		where := "subscription = ?"
		switch table {
		case "progress":
			where = "kind = 'subscription' AND name = ?"
		case "subscriptions":
			where = "name = ?"
		}
		if _, err := tx.Exec("DELETE FROM "+table+" WHERE "+where, name); err != nil {
			return err
		}
	}
	return nil
}

// revise tells the active instance of a subscription to look at its rows again.
func revise(tx *sql.Tx, name string) error {
	_, err := tx.Exec("UPDATE subscriptions SET revision = revision + 1 WHERE name = ?", name)
	return err
}

// scanStates reads and closes rows of statesSQL.
func scanStates(rows *sql.Rows, err error) (states []pulse.SubscriptionState, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var st pulse.SubscriptionState
		var paused sql.NullInt64
		var commitment []byte
		var first int // waiting deliveries with none before them: nothing holds them up any more
		err := rows.Scan(&st.Name, &st.Source, &st.Generation, &st.Revision, &paused, &st.PauseReason,
			&st.Cursor.Epoch, &st.Cursor.Position, &commitment, &st.Holder, &st.Head,
			&st.Retries, &st.Waiting, &first, &st.Blocked, &st.Dead)
		if err != nil {
			return nil, err
		}
		st.Retries, st.Waiting = st.Retries+first, st.Waiting-first
		copy(st.Cursor.Commitment[:], commitment)
		st.PausedUntil = timeOf(paused)
		states = append(states, st)
	}
	return states, rows.Err()
}

// timeOrNull is a time as it is stored.
func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// timeOf is a stored time.
func timeOf(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMicro(n.Int64).UTC()
}
