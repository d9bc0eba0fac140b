package bench

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the driver of the raw inserts

	"github.com/edupulse-live/pulse"
)

const (
	emitCallers = 256
	rawBatch    = 500
)

// Emit is how fast events are stored, next to the same rows inserted by the database alone.
type Emit struct {
	Callers      int     `json:"callers"`
	PerSecond    float64 `json:"per_second"`     // median
	RawBatch     int     `json:"raw_batch"`      // rows in one transaction
	RawPerSecond float64 `json:"raw_per_second"` // median
	Ratio        float64 `json:"ratio"`          // median of the ratios of the rounds
}

// emit measures both in turn.
func (b *bench) emit(ctx context.Context) (*Emit, error) {
	var emits, raws, ratios []float64
	for round := range b.Rounds {
		emit, raw, err := b.emitRound(ctx)
		if err != nil {
			return nil, err
		}
		b.Say("emit, round %d: %.0f/s by %d callers, raw %.0f/s", round+1, emit, emitCallers, raw)
		emits, raws, ratios = append(emits, emit), append(raws, raw), append(ratios, emit/raw)
	}
	batch := rawBatch
	if b.Postgres != nil {
		batch = rawRows
	}
	return &Emit{emitCallers, median(emits), batch, median(raws), median(ratios)}, nil
}

func (b *bench) emitRound(ctx context.Context) (emit, raw float64, err error) {
	bus, done, err := b.fresh(ctx)
	if err != nil {
		return 0, 0, err
	}
	n, took, err := load(ctx, bus, emitCallers, forDuration(b.Time))
	switch {
	case err != nil:
	case b.Postgres != nil:
		raw, err = b.Postgres.raw(ctx, b.current(), b.Time)
	default:
		raw, err = b.raw(ctx, bus)
	}
	if closeErr := done(); err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, 0, err
	}
	return perSecond(n, took), raw, nil
}

// raw copies the table of events, its index and one of its rows into another file, with the same settings, and inserts that
// row, each time under another id, in transactions of rawBatch rows: what the database does for anybody.
func (b *bench) raw(ctx context.Context, bus *pulse.Bus) (perSec float64, err error) {
	row, err := b.sampleRow(ctx)
	if err != nil {
		return 0, err
	}
	path := b.file()
	defer b.remove(path)
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=wal_autocheckpoint(4000)&_txlock=immediate")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, row.schema); err != nil {
		return 0, err
	}
	insert, err := db.PrepareContext(ctx, row.insert)
	if err != nil {
		return 0, err
	}
	defer insert.Close()
	var n int64
	begin, end := time.Now(), forDuration(b.Time)
	for !end(n) {
		if err := row.insertMany(ctx, db, insert, &n); err != nil {
			return 0, err
		}
	}
	return perSecond(n, time.Since(begin)), nil
}

// sample is a stored row and how to insert its like.
type sample struct {
	schema string
	insert string
	values []any
	id     int // index of the event id in values
}

// insertMany inserts rawBatch rows in one transaction.
func (s *sample) insertMany(ctx context.Context, db *sql.DB, insert *sql.Stmt, n *int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after the commit it does nothing
	stmt := tx.StmtContext(ctx, insert)
	for range rawBatch {
		*n++
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		s.values[s.id] = id[:]
		if _, err := stmt.ExecContext(ctx, s.values...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// sampleRow reads the schema of the table of events and its newest row from the store at Path's last file.
func (b *bench) sampleRow(ctx context.Context) (*sample, error) {
	db, err := sql.Open("sqlite", b.current()+"?mode=ro")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	s := &sample{}
	if err := db.QueryRowContext(ctx, `SELECT group_concat(sql, '; ') FROM sqlite_schema WHERE tbl_name = 'events' AND type IN ('table', 'index') AND sql IS NOT NULL`).Scan(&s.schema); err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT * FROM events ORDER BY rowid DESC LIMIT 1")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	return s, s.fill(rows, columns)
}

// fill takes the row, without the position, which the database gives.
func (s *sample) fill(rows *sql.Rows, columns []string) error {
	if !rows.Next() {
		return fmt.Errorf("%w: no event was stored", pulse.ErrStore)
	}
	values := make([]any, len(columns))
	targets := make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return err
	}
	names, marks := "", ""
	for i, column := range columns {
		if column == "position" {
			continue
		}
		if column == "event_id" {
			s.id = len(s.values)
		}
		if names != "" {
			names, marks = names+", ", marks+", "
		}
		names, marks = names+column, marks+"?"
		s.values = append(s.values, values[i])
	}
	s.insert = "INSERT INTO events (" + names + ") VALUES (" + marks + ")"
	return rows.Err()
}
