package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Plain inserts of the same rows: what the server does without anything around it.
var (
	rawOne    = rawEntry("raw, single rows", insertEach)
	rawUnnest = rawEntry("raw, unnest of 1000", insertUnit)
	rawAlone  = rawEntry("raw, unnest of 1000, one caller", insertUnit)
	rawCopy   = rawEntry("raw, COPY of 1000", copyUnit)
)

// bulkCallers is how many insert units at the same time: the server is busy, and there are not more of them than helps.
const (
	bulkCallers = 4
	bulkUnit    = 1000
)

// bulk is how those insert that insert units.
func bulk() map[string]shape {
	many := shape{callers: bulkCallers, unit: bulkUnit}
	return map[string]shape{rawUnnest.name: many, rawCopy.name: many, rawAlone.name: {callers: 1, unit: bulkUnit}}
}

func rawEntry(name string, insert func(context.Context, *pgxpool.Pool, []row) error) entry {
	return entry{name, func(ctx context.Context, g ground) (contestant, error) {
		if err := createEvents(ctx, g.dsn); err != nil {
			return nil, err
		}
		pool, err := g.pool(ctx)
		return &raw{pool, insert}, err
	}}
}

// raw only inserts.
type raw struct {
	pool   *pgxpool.Pool
	insert func(context.Context, *pgxpool.Pool, []row) error
}

func insertEach(ctx context.Context, pool *pgxpool.Pool, rows []row) error {
	for i := range rows {
		if err := insertOne(ctx, pool, &rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func insertUnit(ctx context.Context, pool *pgxpool.Pool, rows []row) error {
	return insertMany(ctx, pool, rows)
}

func copyUnit(ctx context.Context, pool *pgxpool.Pool, rows []row) error {
	var first int64
	if err := pool.QueryRow(ctx, "SELECT nextval('pulse.event_units')").Scan(&first); err != nil {
		return err
	}
	return copyRows(ctx, pool, first, rows)
}

func (r *raw) emit(ctx context.Context, evs []lesson) error {
	rows, err := rowsOf(evs)
	if err != nil {
		return err
	}
	return r.insert(ctx, r.pool, rows)
}

func (r *raw) transact(ctx context.Context, evs []lesson, work work) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		err := work(ctx, tx)
		if err != nil || len(evs) == 0 {
			return err
		}
		rows, err := rowsOf(evs)
		if err != nil {
			return err
		}
		if len(rows) == 1 {
			return insertOne(ctx, tx, &rows[0])
		}
		return insertMany(ctx, tx, rows)
	})
}

func (r *raw) run(context.Context) error { return errors.ErrUnsupported }

func (r *raw) close() error {
	r.pool.Close()
	return nil
}

// pauseAfter waits a moment, or until ctx ends, which it reports.
func pauseAfter(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
