package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
)

// Postgres is PostgreSQL under the measured stores, each of which has a schema of its own.
type Postgres struct {
	DSN    string                                       // to connect to for raw inserts
	Schema func(path string) string                     // of the store that was opened with a path
	Remove func(ctx context.Context, path string) error // takes away what was opened with a path
}

const (
	rawRows        = 1000 // in one statement and transaction
	rawConnections = 2    // as many as the store has inserts on their way
)

// raw makes a table like that of events in the store's schema, with its indexes and defaults, and inserts the newest row there, each time
// under another id: what pgx and the server do for anybody.
func (p *Postgres) raw(ctx context.Context, path string, took time.Duration) (perSec float64, err error) {
	conn, err := pgx.Connect(ctx, p.DSN)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what was measured is measured
	schema := pgx.Identifier{p.Schema(path)}.Sanitize()
	if _, err := conn.Exec(ctx, "CREATE TABLE "+schema+".raw (LIKE "+schema+".events INCLUDING ALL)"); err != nil {
		return 0, err
	}
	row, err := readRawRow(ctx, conn, schema)
	if err != nil {
		return 0, err
	}
	var rows, ids atomic.Int64
	var failed atomic.Pointer[error]
	var inserters sync.WaitGroup
	begin, end := time.Now(), forDuration(took)
	for range rawConnections {
		inserters.Go(func() {
			if err := p.insert(ctx, row, &rows, &ids, func() bool { return failed.Load() != nil || end(0) }); err != nil {
				failed.Store(&err)
			}
		})
	}
	inserters.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return perSecond(rows.Load(), time.Since(begin)), nil
}

// rawRow is a stored event and how to insert its like.
type rawRow struct {
	insert  string
	columns []string
	values  []any // *string or []byte
}

// readRawRow reads the newest event, without what the table itself fills in.
func readRawRow(ctx context.Context, conn *pgx.Conn, schema string) (*rawRow, error) {
	rows, err := conn.Query(ctx, `SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND NOT atthasdef ORDER BY attnum`, schema+".events")
	if err != nil {
		return nil, err
	}
	row := &rawRow{}
	var reads, params, names, casts []string
	var targets []any
	var name, kind string
	_, err = pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		row.columns = append(row.columns, name)
		n := len(row.columns)
		names = append(names, fmt.Sprint("c", n))
		if kind == "bytea" {
			reads, params, casts = append(reads, name), append(params, fmt.Sprintf("$%d::bytea[]", n)), append(casts, fmt.Sprint("c", n))
			targets = append(targets, new([]byte))
			return nil
		}
		reads, params = append(reads, name+"::text"), append(params, fmt.Sprintf("$%d::text[]", n))
		casts = append(casts, fmt.Sprintf("c%d::%s", n, kind))
		targets = append(targets, new(*string))
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = conn.QueryRow(ctx, "SELECT "+strings.Join(reads, ", ")+" FROM "+schema+".events ORDER BY id DESC LIMIT 1").Scan(targets...)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: no event was stored", pulse.ErrStore)
	}
	row.values = targets
	row.insert = fmt.Sprintf("INSERT INTO %s.raw (%s) SELECT %s FROM unnest(%s) AS u (%s)", schema, strings.Join(row.columns, ", "),
		strings.Join(casts, ", "), strings.Join(params, ", "), strings.Join(names, ", "))
	return row, err
}

// arrays are rawRows rows as parameters, with ids of their own from first on.
func (r *rawRow) arrays(first int64) ([]any, error) {
	params := make([]any, len(r.columns))
	for i, column := range r.columns {
		if value, ok := r.values[i].(*[]byte); ok {
			list := make([][]byte, rawRows)
			for n := range list {
				list[n] = *value
			}
			params[i] = list
			continue
		}
		list := make([]*string, rawRows)
		for n := range list {
			list[n] = *r.values[i].(**string)
			switch column {
			case "id":
				text := fmt.Sprint(first + int64(n))
				list[n] = &text
			case "event_id":
				id, err := uuid.NewV7()
				if err != nil {
					return nil, err
				}
				text := id.String()
				list[n] = &text
			}
		}
		params[i] = list
	}
	return params, nil
}

// insert inserts on a connection of its own, once at least, until it is done.
func (p *Postgres) insert(ctx context.Context, row *rawRow, rows, ids *atomic.Int64, done func() bool) error {
	conn, err := pgx.Connect(ctx, p.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what was measured is measured
	for {
		params, err := row.arrays(ids.Add(rawRows) - rawRows)
		if err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, row.insert, params...); err != nil {
			return err
		}
		if rows.Add(rawRows); done() {
			return nil
		}
	}
}
