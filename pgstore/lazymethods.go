package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The methods of pgx.Tx send what is kept first, a statement that can in the same round trip.

// joins reports whether there is something for a statement to travel with, and it may.
func (t *lazyTx) joins(args []any) bool {
	if t.own != nil && t.kept.Len() == 0 || len(args) == 0 { // without parameters it may be several
		return false
	}
	for _, arg := range args {
		switch arg.(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID: // which a batch does not take
			return false
		}
	}
	return true
}

func (t *lazyTx) Rollback(ctx context.Context) error {
	if t.over {
		return pgx.ErrTxClosed
	}
	t.over = true
	if t.own == nil {
		return nil
	}
	return t.own.Rollback(ctx)
}

func (t *lazyTx) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	if !t.joins(args) {
		if err := t.open(ctx); err != nil {
			return tag, err
		}
		return t.own.Exec(ctx, sql, args...)
	}
	results, err := t.sendWith(ctx, sql, args)
	if err != nil {
		return tag, err
	}
	tag, err = results.Exec()
	if closing := results.Close(); err == nil {
		err = closing
	}
	return tag, err
}

func (t *lazyTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if !t.joins(args) {
		if err := t.open(ctx); err != nil {
			return failed(err).QueryRow()
		}
		return t.own.QueryRow(ctx, sql, args...)
	}
	results, err := t.sendWith(ctx, sql, args)
	if err != nil {
		return failed(err).QueryRow()
	}
	return lastRow{results}
}

// lastRow is the row of the last statement of a batch.
type lastRow struct{ results pgx.BatchResults }

func (r lastRow) Scan(into ...any) error {
	err := r.results.QueryRow().Scan(into...)
	if closing := r.results.Close(); err == nil {
		err = closing
	}
	return err
}

func (t *lazyTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if !t.joins(args) {
		if err := t.open(ctx); err != nil {
			return failed(err).Query()
		}
		return t.own.Query(ctx, sql, args...)
	}
	results, err := t.sendWith(ctx, sql, args)
	if err != nil {
		return failed(err).Query()
	}
	rows, err := results.Query()
	last := &lastRows{Rows: rows, results: results}
	if err != nil {
		last.Close()
	}
	return last, err
}

// lastRows are the rows of the last statement of a batch.
type lastRows struct {
	pgx.Rows
	results pgx.BatchResults
	closing error
}

func (r *lastRows) Next() bool {
	more := r.Rows.Next()
	if !more {
		r.Close()
	}
	return more
}

func (r *lastRows) Close() {
	r.Rows.Close()
	r.closing = r.results.Close()
}

func (r *lastRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.closing
}

// failed are results that are all err.
func failed(err error) pgx.BatchResults { return pgx.FailedBatchResults(&pgx.Batch{}, err) }

func (t *lazyTx) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	if err := t.open(ctx); err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	return t.own.SendBatch(ctx, batch)
}

func (t *lazyTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := t.open(ctx); err != nil {
		return 0, err
	}
	return t.own.CopyFrom(ctx, table, columns, rows)
}

func (t *lazyTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	return t.own.Prepare(ctx, name, sql)
}

// Those that hand out ways past lazyTx end its keeping of events.

func (t *lazyTx) Begin(ctx context.Context) (pgx.Tx, error) {
	t.direct = true
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	return t.own.Begin(ctx)
}

func (t *lazyTx) LargeObjects() pgx.LargeObjects {
	t.direct = true
	if err := t.open(t.ctx); err != nil {
		unsent := &pgx.Batch{} // its transaction is over
		unsent.BeginTx(pgx.TxOptions{})
		return pgx.FailedBatchResults(unsent, err).Tx().LargeObjects()
	}
	return t.own.LargeObjects()
}

func (t *lazyTx) Conn() *pgx.Conn {
	t.direct = true
	if err := t.open(t.ctx); err != nil {
		_ = t.refuse(err) // Commit says it: what is sent on the connection would come before what is kept
	}
	return t.conn
}
