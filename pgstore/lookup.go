package pgstore

import (
	"context"

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
	indexStep = 1000 // events that one Index adds when it is not told

	// indexLock is what who fills or empties the index holds until the commit.
	indexLock = "hashtextextended('pulse index of schema ' || $1::text, 0)"

	// indexedSQL is how far the index reaches.
	indexedSQL = "coalesce((SELECT position FROM @progress WHERE kind = 'index' AND name = 'lookup' ORDER BY n DESC LIMIT 1), 0)"

	// entriesSQL are the next entries for a value.
	entriesSQL = `(SELECT position FROM @lookup WHERE field = $1 AND value = $2 AND position > $3
		AND position <= least($4, ` + indexedSQL + `) ORDER BY position LIMIT $5)`

	// reachSQL is how far they reach: to the last of them if there may be more, else as far as the index does.
	reachSQL = `SELECT CASE WHEN count(*) = $5 THEN max(position) ELSE least($4, ` + indexedSQL + `) END FROM ` + entriesSQL + ` AS entries`

	lookupSQL = "SELECT " + envelopeColumns + " FROM " + entriesSQL + ` AS p JOIN @positions AS at USING (position) JOIN @events e ON e.id = at.event
		WHERE` + keptSQL + " ORDER BY p.position"
)

// lookupBy chooses the field of the index for q: the one with the fewest events to a value. 0 when none helps.
func lookupBy(q *pulse.Query) (field int64, value string) {
	switch {
	case q.Correlation != "":
		return byCorrelation, q.Correlation
	case q.Key != "":
		return byKey, q.Key
	case q.Actor != uuid.Nil:
		return byActor, q.Actor.String()
	}
	return 0, ""
}

// readIndexed reads the next envelopes that the index has for value. ok is false when the index does not reach beyond
// q.After, and the log has to be looked at.
func (s *Store) readIndexed(ctx context.Context, q *pulse.Query, field int64, value string) (r pageRead, ok bool, err error) {
	through := q.Through
	if through <= 0 {
		through = 1<<63 - 1
	}
	limit := s.rows(q)
	p := params{}
	p.int(field)
	p.add(value)
	p.int(int64(q.After))
	p.int(int64(through))
	p.int(limit)
	snap, err := s.snapshot(ctx)
	if err != nil {
		return r, false, err
	}
	defer snap.close()
	snap.query(s.sql.reach, p.values)
	snap.query(s.sql.lookup, p.values)
	reach, known, err := snap.number()
	if err != nil || !known || pulse.Position(reach) <= q.After {
		return r, false, err
	}
	envs, cut, err := snap.envelopes(limit)
	if err != nil {
		return r, false, err
	}
	s.learn(len(envs), cut)
	r = pageRead{envs, pulse.Position(reach)}
	if cut {
		r.next = envs[len(envs)-1].Position
	}
	return r, true, nil
}

// Index enters up to limit further events into the index by key, actor and correlation that Read uses, and reports whether
// there are more. 0 lets the store choose. Emit does not fill the index, because that would halve its speed; Read looks through what is not indexed yet.
// Of several at the same time one does it; to the others there is nothing to do.
func (s *Store) Index(ctx context.Context, limit int) (more bool, err error) {
	if limit <= 0 {
		limit = indexStep
	}
	err = s.write(ctx, "index", func(tx *lazyTx) error {
		mine := false
		err := tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock("+indexLock+")", string(s.schema)).Scan(&mine)
		if err != nil || !mine {
			return err
		}
		var indexed, head int64
		err = tx.QueryRow(ctx, s.schema.sql("SELECT "+indexedSQL+", ("+headSQL+")")).Scan(&indexed, &head)
		if err != nil {
			return err
		}
		through := min(head, indexed+int64(limit))
		more = through < head
		if through <= indexed {
			return nil
		}
		return s.indexRange(ctx, tx, indexed, through)
	})
	return more && err == nil, err
}

// indexRange enters the events of a range of positions, sorted as the index is.
func (s *Store) indexRange(ctx context.Context, tx *lazyTx, after, through int64) error {
	tx.keep(relaxSQL)
	_, err := tx.Exec(ctx, s.schema.sql(`INSERT INTO @lookup (field, value, position)
		SELECT f.field, f.value, p.position FROM @positions p JOIN @events e ON e.id = p.event,
		LATERAL (VALUES (1, e.key), (2, e.actor_id::text), (3, e.correlation_id)) AS f (field, value)
		WHERE p.position > $1 AND p.position <= $2 AND f.value IS NOT NULL ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING`), after, through)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.schema.sql("DELETE FROM @progress WHERE kind = 'index' AND name = 'lookup'")); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, s.schema.sql(`INSERT INTO @progress (kind, name, epoch, position)
		SELECT 'index', 'lookup', epoch, $1 FROM @settings`), through)
	return err
}

// DropIndex empties the index by key, actor and correlation. Read goes on without it until Index has filled it again. It waits for an
// Index that is under way.
func (s *Store) DropIndex(ctx context.Context) error {
	return s.write(ctx, "drop index", func(tx *lazyTx) error {
		// A statement of its own: the next ones see what an Index has committed meanwhile.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock("+indexLock+")", string(s.schema)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.schema.sql("DELETE FROM @lookup")); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, s.schema.sql("DELETE FROM @progress WHERE kind = 'index' AND name = 'lookup'"))
		return err
	})
}
