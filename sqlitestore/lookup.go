package sqlitestore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// The fields of the lookup table.
const (
	byKey         = 1
	byActor       = 2
	byCorrelation = 3
)

const (
	indexStep  = 1000 // events that one Index adds when it is not told
	indexedSQL = "SELECT coalesce((SELECT position FROM progress WHERE kind = 'index' AND name = 'lookup'), 0)"
	lookupSQL  = "SELECT " + envelopeColumns + ` FROM events WHERE position IN
		(SELECT position FROM lookup WHERE field = ? AND value = ? AND position > ? AND position <= ? ORDER BY position LIMIT ?)
		AND (fact_salt IS NOT NULL OR link_salt IS NOT NULL) ORDER BY position`
)

// lookupBy chooses the field of the index for q: the one with the fewest events to a value. 0 when none helps.
func lookupBy(q *pulse.Query) (field int, value any) {
	switch {
	case q.Correlation != "":
		return byCorrelation, q.Correlation
	case q.Key != "":
		return byKey, q.Key
	case q.Actor != uuid.Nil:
		return byActor, q.Actor[:]
	}
	return 0, nil
}

// readIndexed reads the next envelopes that the index has for value. ok is false when the index does not reach beyond
// after, and the log has to be looked at.
func (s *Store) readIndexed(ctx context.Context, field int, value any, after, through pulse.Position, limit int) (envs []pulse.Envelope, next pulse.Position, ok bool, err error) {
	// One transaction, so that the index is not emptied between the two questions.
	tx, err := s.readers.BeginTx(context.WithoutCancel(ctx), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, false, err
	}
	defer tx.Rollback()
	var indexed pulse.Position
	if err := tx.QueryRow(indexedSQL).Scan(&indexed); err != nil {
		return nil, 0, false, err
	}
	if indexed <= after {
		return nil, 0, false, nil
	}
	through = min(through, indexed)
	rows, err := tx.Query(lookupSQL, field, value, after, through, limit)
	if err != nil {
		return nil, 0, false, err
	}
	envs, cut, err := scanRows(rows, 0)
	if err != nil {
		return nil, 0, false, err
	}
	if !cut {
		// Rows that were purged are in the index but not here: ask it how far limit entries reach.
		err = tx.QueryRow(`SELECT position FROM lookup WHERE field = ? AND value = ? AND position > ? AND position <= ?
			ORDER BY position LIMIT 1 OFFSET ?`, field, value, after, through, limit-1).Scan(&through)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, 0, false, err
		}
		return envs, through, true, nil
	}
	return envs, envs[len(envs)-1].Position, true, nil
}

// Index enters up to limit further events into the index by key, actor and correlation that Read uses, and reports whether
// there are more. 0 lets the store choose. Emit does not fill the index, because that would halve its speed; Read looks through what is not indexed yet.
func (s *Store) Index(ctx context.Context, limit int) (more bool, err error) {
	if limit <= 0 {
		limit = indexStep
	}
	err = s.write(ctx, "index", normal, func(tx *sql.Tx) error {
		var indexed, head pulse.Position
		if err := tx.QueryRow(indexedSQL).Scan(&indexed); err != nil {
			return err
		}
		if err := tx.QueryRow(headSQL).Scan(&head); err != nil {
			return err
		}
		through := min(head, indexed+pulse.Position(limit))
		more = through < head
		if through <= indexed {
			return nil
		}
		return s.indexRange(tx, indexed, through)
	})
	return more && err == nil, err
}

// indexRange enters the events of a range of positions, sorted as the index is.
func (s *Store) indexRange(tx *sql.Tx, after, through pulse.Position) error {
	for _, column := range []struct {
		field int
		name  string
	}{{byKey, "key"}, {byActor, "actor_id"}, {byCorrelation, "correlation_id"}} {
		_, err := tx.Exec("INSERT INTO lookup (field, value, position) SELECT ?, "+column.name+", position FROM events"+
			" WHERE position > ? AND position <= ? AND "+column.name+" IS NOT NULL ORDER BY 2, 3 ON CONFLICT DO NOTHING",
			column.field, after, through)
		if err != nil {
			return err
		}
	}
	_, err := tx.Exec(`INSERT INTO progress (kind, name, epoch, position) VALUES ('index', 'lookup', ?, ?)
		ON CONFLICT DO UPDATE SET epoch = excluded.epoch, position = excluded.position`, s.epoch, through)
	return err
}

// DropIndex empties the index by key, actor and correlation. Read goes on without it until Index has filled it again.
func (s *Store) DropIndex(ctx context.Context) error {
	return s.write(ctx, "drop index", normal, func(tx *sql.Tx) error {
		_, err := tx.Exec("DELETE FROM lookup; DELETE FROM progress WHERE kind = 'index' AND name = 'lookup'")
		return err
	})
}
