package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse/pgstore"
)

// row is a row of Pulse's table of events as it costs the server: salts, digests and commitment have the right size and say nothing.
type row struct {
	id      uuid.UUID
	key     string
	at      time.Time
	filling []byte // 32 random bytes
	digests []byte // 64
	data    []byte
}

// rowsOf makes the rows of events.
func rowsOf(evs []lesson) ([]row, error) {
	rows := make([]row, len(evs))
	random := make([]byte, 64*len(evs))
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	for i, ev := range evs {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(ev)
		if err != nil {
			return nil, err
		}
		part := random[64*i : 64*i+64]
		rows[i] = row{id: id, key: ev.LessonID, at: time.Now(), filling: part[:32], digests: part, data: data}
	}
	return rows, nil
}

// execer is a connection, a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// createEvents makes the tables of Pulse: the same ones for all that insert into them.
func createEvents(ctx context.Context, dsn string) error {
	store, err := pgstore.Open(ctx, dsn, nil)
	if err != nil {
		return err
	}
	return store.Close()
}

const rowColumns = "id, event_id, name, version, source, occurred_at, correlation_id, key, fact_salt, link_salt, digests, commitment, format, data"

const (
	eventName = "lesson.published"
	source    = "/school"
)

const insertOneSQL = `INSERT INTO pulse.events (` + rowColumns + `)
	VALUES (nextval('pulse.event_units'), $1, $2, 1, $3, $4, $5, $6, $7, $7, $8, $7, 1, $9)`

// insertOne inserts a row as one usually does.
func insertOne(ctx context.Context, db execer, r *row) error {
	_, err := db.Exec(ctx, insertOneSQL, oneArgs(r)...)
	return err
}

func oneArgs(r *row) []any {
	return []any{[16]byte(r.id), eventName, source, r.at, r.id.String(), r.key, r.filling, r.digests, r.data}
}

const insertManySQL = `WITH unit AS MATERIALIZED (SELECT nextval('pulse.event_units') AS first)
	INSERT INTO pulse.events (` + rowColumns + `)
	SELECT unit.first + u.place - 1, id, $2::text, 1, $3::text, at, correlation, key, filling, filling, digests, filling, 1, data
	FROM unit, unnest($1::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::bytea[], $8::bytea[], $9::json[])
		WITH ORDINALITY AS u(id, at, correlation, key, filling, digests, data, place)`

// insertMany inserts rows as one does who knows that it is the fastest way short of COPY.
func insertMany(ctx context.Context, db execer, rows []row) error {
	n := len(rows)
	ids, at := make([][16]byte, n), make([]time.Time, n)
	correlations, keys, data := make([]string, n), make([]string, n), make([]string, n)
	fillings, digests := make([][]byte, n), make([][]byte, n)
	for i := range rows {
		r := &rows[i]
		ids[i], at[i], correlations[i], keys[i], data[i], fillings[i], digests[i] = r.id, r.at, r.id.String(), r.key, string(r.data), r.filling, r.digests
	}
	_, err := db.Exec(ctx, insertManySQL, ids, eventName, source, at, correlations, keys, fillings, digests, data)
	return err
}

// copyRows copies rows behind the id first.
func copyRows(ctx context.Context, conn interface {
	CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error)
}, first int64, rows []row,
) error {
	columns := []string{
		"id", "event_id", "name", "version", "source", "occurred_at", "correlation_id", "key", "fact_salt", "link_salt", "digests", "commitment", "format", "data",
	}
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"pulse", "events"}, columns, pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
		r := &rows[i]
		return []any{
			first + int64(i), [16]byte(r.id), eventName, int32(1), source, r.at, r.id.String(), r.key, r.filling, r.filling, r.digests, r.filling, int16(1), r.data,
		}, nil
	}))
	return err
}
