package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
)

// transaction is a transaction by whatever driver.
type transaction interface {
	exec(ctx context.Context, sql string, args ...any) (rows int64, err error)
	query(ctx context.Context, sql string, args ...any) (cursor, error)
	prepares() bool // statements, each once for a connection; then it takes what pgx takes
}

// cursor is a result being read.
type cursor interface {
	Next() bool
	Scan(into ...any) error
	Err() error
	Close()
}

// pgxTx is a transaction of pgx. Whether its statements are prepared, once for each connection, is for the pool's configuration to say.
type pgxTx struct{ tx pgx.Tx }

func (t pgxTx) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := t.tx.Exec(ctx, sql, args...)
	return tag.RowsAffected(), err
}

func (t pgxTx) query(ctx context.Context, sql string, args ...any) (cursor, error) {
	return t.tx.Query(ctx, sql, args...)
}

// preparesKey is where a connection of pgx keeps whether it prepares: its configuration tells only in a copy of all that is in it.
const preparesKey = "pulse/pgstore: prepares"

func (t pgxTx) prepares() bool {
	conn := t.tx.Conn()
	return conn != nil && prepares(conn)
}

// prepares reports whether conn prepares the statements it is given, and keeps them.
func prepares(conn *pgx.Conn) bool {
	kept := conn.PgConn().CustomData()
	does, ok := kept[preparesKey].(bool)
	if !ok {
		does = conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement
		kept[preparesKey] = does
	}
	return does
}

// sqlTx is a transaction of database/sql.
type sqlTx struct{ tx *sql.Tx }

func (t sqlTx) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	res, err := t.tx.ExecContext(ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (t sqlTx) query(ctx context.Context, sql string, args ...any) (cursor, error) {
	rows, err := t.tx.QueryContext(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return sqlRows{rows}, nil
}

func (t sqlTx) prepares() bool { return false }

type sqlRows struct{ *sql.Rows }

func (r sqlRows) Close() { _ = r.Rows.Close() }

// doomSQL makes sure that the transaction cannot commit.
const doomSQL = "SELECT @refuse('PU004', 'an event of a unit was refused, so that the transaction cannot commit')"

// append stores those of recs in t that are not stored yet, and compares the others. After an error t can only be rolled back, or holds
// nothing of recs.
func (s Schema) append(ctx context.Context, t transaction, recs []pulse.Record) error {
	if _, err := unitSize(recs); err != nil {
		return err
	}
	inserted := int64(0)
	for rest := recs; len(rest) > 0; {
		part := rest[:min(len(rest), insertChunk)]
		rest = rest[len(part):]
		sql, args := appendSQL(len(part) == 1, unitInTx), literals
		if len(part) == 1 && t.prepares() {
			sql, args = insertNewSQL, scalars
		}
		n, err := t.exec(ctx, s.sql(sql), args(part)...)
		if err != nil {
			return err
		}
		inserted += n
		if n == int64(len(part)) {
			continue
		}
		if err := s.compareAll(ctx, t, part); err != nil {
			if inserted > 0 { // they must not be committed by somebody who overlooks the error
				_, _ = t.exec(ctx, s.sql(doomSQL))
			}
			return err
		}
	}
	return nil
}

// unitSize is the size of recs together. It refuses records that cannot be of one log, and more than a unit can have.
func unitSize(recs []pulse.Record) (total int, err error) {
	for i := range recs {
		if recs[i].Origin != recs[0].Origin {
			return 0, fmt.Errorf("%w: event %s was made for the log %q, the one before for %q: make all digests with the origin that Info gives",
				pulse.ErrInvalid, recs[i].ID, recs[i].Origin, recs[0].Origin)
		}
		total += recs[i].Size()
	}
	return total, fits(len(recs), total, mostUnitBytes)
}

// compareSQL reads what Record.Repeats compares, in types that every driver knows.
const compareSQL = `SELECT e.event_id::text, e.name, e.version, e.source, coalesce(e.key, ''), coalesce(e.actor_id::text, ''),
	(extract(epoch FROM e.occurred_at) * 1000000)::int8, coalesce(e.data::text, ''), coalesce(e.extensions::text, ''), coalesce(p.position, 0)
	FROM @events e LEFT JOIN @positions p ON p.event = e.id WHERE e.event_id = ANY ($1::uuid[])`

// compareChunk is how many events are compared at a time, for the sake of memory.
const compareChunk = 64

// compareAll finds out whether those of recs that were stored already say the same. The rows just inserted do.
func (s Schema) compareAll(ctx context.Context, t transaction, recs []pulse.Record) error {
	for len(recs) > 0 {
		part := recs[:min(len(recs), compareChunk)]
		recs = recs[len(part):]
		stored, err := s.stored(ctx, t, part)
		if err != nil {
			return err
		}
		for i := range part {
			env := stored[part[i].ID]
			if env == nil {
				return fmt.Errorf("%w: event %s is neither stored nor could it be: the index of event ids may be damaged", pulse.ErrStore, part[i].ID)
			}
			if !part[i].Repeats(env) {
				return &pulse.ConflictError{ID: env.ID, Position: env.Position}
			}
		}
	}
	return nil
}

// stored reads what is compared of the events with the ids of recs.
func (s Schema) stored(ctx context.Context, t transaction, recs []pulse.Record) (map[uuid.UUID]*pulse.Envelope, error) {
	ids := make([]string, len(recs))
	for i := range recs {
		ids[i] = recs[i].ID.String()
	}
	rows, err := t.query(ctx, s.sql(compareSQL), textArray(ids))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[uuid.UUID]*pulse.Envelope, len(recs))
	for rows.Next() {
		var e pulse.Envelope
		var id, actor, data, extensions string
		var micros, position int64
		if err := rows.Scan(&id, &e.Name, &e.Version, &e.Source, &e.Key, &actor, &micros, &data, &extensions, &position); err != nil {
			return nil, err
		}
		if e.ID, err = uuid.Parse(id); err != nil {
			return nil, err
		}
		if actor != "" {
			if e.Actor, err = uuid.Parse(actor); err != nil {
				return nil, err
			}
		}
		e.OccurredAt, e.Position = time.UnixMicro(micros), pulse.Position(position)
		e.Data, e.Extensions = []byte(data), []byte(extensions)
		all[e.ID] = &e
	}
	return all, rows.Err()
}
