package pgstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
)

// statesSQL is ordered by name; its parameter is a name, or "" for all.
const statesSQL = `SELECT s.name, s.source, s.generation, s.revision, s.paused_until, s.pause_reason, p.epoch, p.position, encode(p.commitment, 'hex'),
	coalesce((SELECT holder FROM @leases l WHERE l.subscription = s.name AND l.held AND l.expires_at > clock_timestamp()), ''),
	(` + headSQL + `),
	count(d.*) FILTER (WHERE d.status IN ('retry', 'running')),
	count(d.*) FILTER (WHERE d.status = 'waiting'),
	count(d.*) FILTER (WHERE d.status = 'waiting' AND NOT EXISTS (
		SELECT FROM @deliveries b WHERE b.subscription = d.subscription AND b.lane = d.lane AND b.lane <> '' AND b.position < d.position)),
	count(DISTINCT d.lane) FILTER (WHERE d.lane <> '' AND d.status <> 'waiting'),
	count(d.*) FILTER (WHERE d.status = 'dead')
	FROM @subscriptions s
	CROSS JOIN LATERAL (SELECT epoch, position, commitment FROM @progress WHERE kind = 'subscription' AND name = s.name ORDER BY n DESC LIMIT 1) p
	LEFT JOIN @deliveries d ON d.subscription = s.name
	WHERE $1 IN ('', s.name) GROUP BY s.name, p.epoch, p.position, p.commitment ORDER BY s.name`

// Register creates a subscription, or returns what is stored; see pulse.Subscriptions.
func (s *Store) Register(ctx context.Context, r pulse.Registration) (state pulse.SubscriptionState, err error) {
	const op = "register"
	if r.Name == "" {
		return state, fail(op, fmt.Errorf("%w: a subscription needs a name", pulse.ErrInvalid))
	}
	if _, err := s.Info(ctx); err != nil { // what was emitted so far is to have positions
		return state, fail(op, err)
	}
	err = s.write(ctx, op, func(tx *lazyTx) error {
		created, err := tx.Exec(ctx, s.schema.sql(`INSERT INTO @subscriptions (name, source, generation, revision) VALUES ($1, $2, 1, 0)
			ON CONFLICT DO NOTHING`), r.Name, r.Source)
		if err != nil {
			return err
		}
		if created.RowsAffected() == 1 {
			if err := s.moveBefore(ctx, tx, r.Name, r.Start); err != nil {
				return fmt.Errorf("subscription %q: %w", r.Name, err)
			}
		} else if _, err := tx.Exec(ctx, s.schema.sql("UPDATE @subscriptions SET source = $2 WHERE name = $1 AND source <> $2"), r.Name, r.Source); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, s.schema.sql(statesSQL), r.Name)
		if err != nil {
			return err
		}
		state, err = pgx.CollectExactlyOneRow(rows, scanState)
		return err
	})
	return state, err
}

// States returns all subscriptions by name; see pulse.Subscriptions.
func (s *Store) States(ctx context.Context) ([]pulse.SubscriptionState, error) {
	const op = "states"
	if err := s.enter(ctx); err != nil {
		return nil, fail(op, err)
	}
	defer s.leave()
	rows, err := s.pool.Query(ctx, s.schema.sql(statesSQL), "")
	if err != nil {
		return nil, fail(op, err)
	}
	states, err := pgx.CollectRows(rows, scanState)
	if err != nil {
		return nil, fail(op, err)
	}
	return states, nil
}

func scanState(row pgx.CollectableRow) (st pulse.SubscriptionState, err error) {
	var paused *time.Time
	var commitment *string
	var first int // waiting deliveries with none before them: nothing holds them up any more
	err = row.Scan(&st.Name, &st.Source, &st.Generation, &st.Revision, &paused, &st.PauseReason,
		&st.Cursor.Epoch, (*int64)(&st.Cursor.Position), &commitment, &st.Holder, (*int64)(&st.Head),
		&st.Retries, &st.Waiting, &first, &st.Blocked, &st.Dead)
	st.Retries, st.Waiting = st.Retries+first, st.Waiting-first
	st.Cursor.Commitment = commitmentOf(commitment)
	st.PausedUntil = instant(paused)
	return st, err
}

// commitmentOf reads a commitment in hexadecimal, which no setting changes, as bytea_output does the text of a bytea; zero when there is none.
func commitmentOf(text *string) (c [32]byte) {
	if text != nil && len(*text) == hex.EncodedLen(len(c)) {
		_, _ = hex.Decode(c[:], []byte(*text))
	}
	return c
}

// instant is a stored time; zero when there is none.
func instant(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// timeOrNull is a time as it is stored.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// moveBefore sets the cursor so that the event at start is the next.
func (s *Store) moveBefore(ctx context.Context, tx pgx.Tx, name string, start pulse.Position) error {
	var c pulse.Cursor
	var head int64
	if err := tx.QueryRow(ctx, s.schema.sql("SELECT epoch, ("+headSQL+") FROM @settings")).Scan(&c.Epoch, &head); err != nil {
		return err
	}
	switch c.Position = start - 1; {
	case start == pulse.Now:
		c.Position = pulse.Position(head)
	case start > pulse.Position(head)+1:
		return fmt.Errorf("%w: position %d lies beyond the next event, %d: use Now for what is emitted from now on, or a position up to there",
			pulse.ErrInvalid, start, head+1)
	case start < pulse.Beginning:
		return fmt.Errorf("%w: position %d is no place to start: use Now, Beginning or a position from 1", pulse.ErrInvalid, start)
	}
	var commitment *string
	err := tx.QueryRow(ctx, s.schema.sql("SELECT encode(e.commitment, 'hex') FROM @positions p JOIN @events e ON e.id = p.event WHERE p.position = $1"), int64(c.Position)).
		Scan(&commitment)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	c.Commitment = commitmentOf(commitment)
	_, err = tx.Exec(ctx, s.schema.sql(moveSQL), moveArgs(name, c)...)
	return err
}

// moveSQL writes the cursor of a subscription.
const moveSQL = "INSERT INTO @progress (kind, name, epoch, position, commitment) VALUES ('subscription', $1, $2, $3, $4)"

func moveArgs(name string, c pulse.Cursor) []any {
	var commitment []byte
	if c.Commitment != [32]byte{} {
		commitment = c.Commitment[:]
	}
	return []any{name, c.Epoch, int64(c.Position), commitment}
}

// Control changes a subscription; see pulse.Subscriptions.
func (s *Store) Control(ctx context.Context, name string, c pulse.Control) error {
	const op = "control"
	if c.Replay != nil {
		if _, err := s.Info(ctx); err != nil { // what was emitted so far is to have positions
			return fail(op, err)
		}
	}
	return s.write(ctx, op, func(tx *lazyTx) error {
		revision, err := s.lock(ctx, tx, name)
		if err != nil {
			return err
		}
		if c.Seen != nil && *c.Seen != revision {
			return fmt.Errorf("%w: subscription %q was changed since revision %d: look at it again", pulse.ErrFenced, name, *c.Seen)
		}
		c.Seen = nil
		if err := s.control(ctx, tx, name, c); err != nil {
			return fmt.Errorf("subscription %q: %w", name, err)
		}
		return s.revise(ctx, tx, name)
	})
}

func (s *Store) control(ctx context.Context, tx pgx.Tx, name string, c pulse.Control) (err error) {
	switch {
	case c.Pause != nil && c == pulse.Control{Pause: c.Pause}:
		_, err = tx.Exec(ctx, s.schema.sql("UPDATE @subscriptions SET paused_until = $2, pause_reason = $3 WHERE name = $1"),
			name, timeOrNull(c.Pause.Until), storable(c.Pause.Reason))
	case c == pulse.Control{Resume: true}:
		_, err = tx.Exec(ctx, s.schema.sql("UPDATE @subscriptions SET paused_until = NULL, pause_reason = '' WHERE name = $1"), name)
	case c.Replay != nil && c == pulse.Control{Replay: c.Replay}:
		return s.replay(ctx, tx, name, c.Replay.From)
	case c == pulse.Control{Drop: true}:
		return s.erase(ctx, tx, name, "deliveries", "inbox", "leases", "progress", "subscriptions")
	default:
		return fmt.Errorf("%w: set exactly one of Pause, Resume, Replay and Drop", pulse.ErrInvalid)
	}
	return err
}

func (s *Store) replay(ctx context.Context, tx pgx.Tx, name string, from pulse.Position) error {
	if err := s.moveBefore(ctx, tx, name, from); err != nil {
		return err
	}
	if err := s.erase(ctx, tx, name, "deliveries", "inbox"); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.schema.sql("UPDATE @subscriptions SET generation = generation + 1 WHERE name = $1"), name); err != nil {
		return err
	}
	// A write of the holder that waits for this transaction looks again at the row of the lease only, and only when that has changed.
	_, err := tx.Exec(ctx, s.schema.sql("UPDATE @leases SET generation = generation + 1 WHERE subscription = $1"), name)
	return err
}

// erase removes what tables have of a subscription.
func (s *Store) erase(ctx context.Context, tx pgx.Tx, name string, tables ...string) error {
	for _, table := range tables {
		where := "subscription = $1"
		switch table {
		case "progress":
			where = "kind = 'subscription' AND name = $1"
		case "subscriptions":
			where = "name = $1"
		}
		if _, err := tx.Exec(ctx, s.schema.sql("DELETE FROM @"+table+" WHERE "+where), name); err != nil {
			return err
		}
	}
	return nil
}

// revise tells the active instance of a subscription to look at its rows again.
func (s *Store) revise(ctx context.Context, tx pgx.Tx, name string) error {
	_, err := tx.Exec(ctx, s.schema.sql("UPDATE @subscriptions SET revision = revision + 1 WHERE name = $1"), name)
	return err
}
