package pgstore

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
)

// Do runs fn in a transaction on pool: what it writes through tx and emits through e exists if it returns nil, and none of it otherwise. It wakes
// bus afterwards. When the connection is lost in COMMIT the error is an ErrUnknown.
//
// BEGIN travels with your first statement, what is emitted with the next one or with COMMIT: none of it is a round trip of its own. So an event that
// the server refuses is an error of that statement, and of Do. Emit waits for the server only where an id of yours is to be compared with
// what is stored. Use tx and e from one goroutine, and tx.Conn, if you need it, inside fn only.
func Do(ctx context.Context, pool *pgxpool.Pool, bus *pulse.Bus, fn func(tx pgx.Tx, e pulse.Emitter) error) error {
	return DefaultSchema.Do(ctx, pool, bus, fn)
}

// Do is the function Do for the log in this schema.
func (s Schema) Do(ctx context.Context, pool *pgxpool.Pool, bus *pulse.Bus, fn func(tx pgx.Tx, e pulse.Emitter) error) error {
	if err := s.check(); err != nil {
		return fail(opDo, err)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fail(opDo, errors.Join(errNoConnection, err))
	}
	defer conn.Release()
	defer bus.Wake() // also when nobody knows whether it has committed
	d := &doTx{ctx: ctx, conn: conn.Conn(), schema: s}
	defer d.end() // when fn failed, or panics
	err = fn(d, bus.InUntilWake(d))
	switch {
	case err != nil && (d.refused == nil || errors.Is(err, d.refused) || errors.Is(d.refused, pgx.ErrTxCommitRollback)):
		return err
	case d.refused != nil: // the reason, where fn's error may be what followed from it
		return errors.Join(err, d.refused)
	}
	if err := d.Commit(ctx); err != nil {
		return failSent(opDo, err)
	}
	return nil
}

const opDo = "do"

// Inserts that are kept are no more than these.
const (
	mostKept      = 256
	mostKeptBytes = 1 << 20
)

// doTx is the transaction of Do as fn sees it, and what fn's Emitter appends to. It keeps BEGIN and inserts of events until fn sends something
// else, so that the server carries out everything in the order in which fn did it.
type doTx struct {
	ctx    context.Context // of Do
	conn   *pgx.Conn
	own    pgx.Tx // of pgx; nil until it has begun
	schema Schema

	kept    pgx.Batch
	bytes   int   // of events, in kept
	direct  bool  // fn may send past doTx: nothing is kept any more
	refused error // what was kept: nothing can be committed any more
	over    bool
}

// Append is Store.Append as part of the transaction.
func (d *doTx) Append(ctx context.Context, recs []pulse.Record) error {
	if err := d.append(ctx, recs); err != nil {
		return fail(opDo, notCommitted(err))
	}
	return nil
}

func (d *doTx) append(ctx context.Context, recs []pulse.Record) error {
	if err := sameOrigin(recs); err != nil {
		return err
	}
	bytes, given := 0, false
	for i := range recs {
		bytes += recs[i].Size()
		given = given || recs[i].IDGiven
	}
	now := given || d.direct || d.over || len(recs) > mostKept || bytes > mostKeptBytes
	if now || d.refused != nil || d.kept.Len() > mostKept || d.bytes+bytes > mostKeptBytes {
		if err := d.open(ctx); err != nil {
			return err
		}
	}
	if now {
		return d.schema.append(ctx, pgxTx{d.own}, recs)
	}
	d.bytes += bytes
	d.schema.queue(d.batch(), recs)
	return nil
}

// batch is what is kept, for more to be added.
func (d *doTx) batch() *pgx.Batch {
	if d.own == nil && d.kept.Len() == 0 {
		d.kept.BeginTx(pgx.TxOptions{})
	}
	return &d.kept
}

// sendWith sends what is kept, with a statement behind it, whose result is the next of the results.
func (d *doTx) sendWith(ctx context.Context, sql string, args []any) (pgx.BatchResults, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	batch := *d.batch()
	n := batch.Len()
	batch.Queue(sql, args...)
	d.kept, d.bytes = pgx.Batch{}, 0
	results := d.conn.SendBatch(ctx, &batch)
	if d.own == nil {
		d.own = results.Tx()
	}
	for range n {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			if is, ok := errors.AsType[pgx.ErrPreprocessingBatch](err); ok && is.SQL() == sql { // fn's statement cannot be: nothing was sent
				d.refuse(pgx.ErrTxCommitRollback)
				return nil, err
			}
			return nil, d.refuse(err)
		}
	}
	return results, nil
}

// usable is an error once the transaction can only end, or has.
func (d *doTx) usable() error {
	if d.over {
		return pgx.ErrTxClosed
	}
	return d.refused
}

// open sends what is kept, BEGIN at least.
func (d *doTx) open(ctx context.Context) error {
	if err := d.usable(); err != nil {
		return err
	}
	if d.own != nil && d.kept.Len() == 0 {
		return nil
	}
	results := d.conn.SendBatch(ctx, d.batch())
	if d.own == nil {
		d.own = results.Tx()
	}
	d.kept, d.bytes = pgx.Batch{}, 0
	if err := results.Close(); err != nil {
		return d.refuse(err)
	}
	return nil
}

// refuse says why what was kept cannot be.
func (d *doTx) refuse(err error) error {
	d.refused = fail(opDo, notCommitted(err))
	return d.refused
}

// end rolls back, unless the transaction is over.
func (d *doTx) end() {
	if !d.over && d.own != nil {
		rollback(d.ctx, d.own)
	}
	d.over = true
}

// Commit sends what is kept together with COMMIT. Its error leaves open whether that happened only if lost says so.
func (d *doTx) Commit(ctx context.Context) error {
	if err := d.usable(); err != nil {
		return notCommitted(err)
	}
	if err := sendable(ctx, d.conn); err != nil {
		return err
	}
	d.over = true
	if d.own == nil && d.kept.Len() == 0 { // nothing was done
		return nil
	}
	if d.kept.Len() == 0 {
		return d.own.Commit(ctx)
	}
	d.kept.Queue("commit")
	results := d.conn.SendBatch(ctx, &d.kept)
	if d.own == nil {
		d.own = results.Tx()
	}
	if err := results.Close(); err != nil {
		rollback(ctx, d.own)
		return err
	}
	return nil
}

// joins reports whether there is something for a statement to travel with, and it may.
func (d *doTx) joins(args []any) bool {
	if d.own != nil && d.kept.Len() == 0 || len(args) == 0 { // without parameters it may be several
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

// The methods of pgx.Tx send what is kept first.

func (d *doTx) Rollback(ctx context.Context) error {
	if d.over {
		return pgx.ErrTxClosed
	}
	d.over = true
	if d.own == nil {
		return nil
	}
	return d.own.Rollback(ctx)
}

func (d *doTx) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	if !d.joins(args) {
		if err := d.open(ctx); err != nil {
			return tag, err
		}
		return d.own.Exec(ctx, sql, args...)
	}
	results, err := d.sendWith(ctx, sql, args)
	if err != nil {
		return tag, err
	}
	tag, err = results.Exec()
	if closing := results.Close(); err == nil {
		err = closing
	}
	return tag, err
}

func (d *doTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if !d.joins(args) {
		if err := d.open(ctx); err != nil {
			return failed(err).QueryRow()
		}
		return d.own.QueryRow(ctx, sql, args...)
	}
	results, err := d.sendWith(ctx, sql, args)
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

func (d *doTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := d.open(ctx); err != nil {
		return failed(err).Query()
	}
	return d.own.Query(ctx, sql, args...)
}

// failed are results that are all err.
func failed(err error) pgx.BatchResults { return pgx.FailedBatchResults(&pgx.Batch{}, err) }

func (d *doTx) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	if err := d.open(ctx); err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	return d.own.SendBatch(ctx, batch)
}

func (d *doTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := d.open(ctx); err != nil {
		return 0, err
	}
	return d.own.CopyFrom(ctx, table, columns, rows)
}

func (d *doTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := d.open(ctx); err != nil {
		return nil, err
	}
	return d.own.Prepare(ctx, name, sql)
}

// Those that hand out ways past doTx end its keeping.

func (d *doTx) Begin(ctx context.Context) (pgx.Tx, error) {
	d.direct = true
	if err := d.open(ctx); err != nil {
		return nil, err
	}
	return d.own.Begin(ctx)
}

func (d *doTx) LargeObjects() pgx.LargeObjects {
	d.direct = true
	if err := d.open(d.ctx); err != nil {
		unsent := &pgx.Batch{} // its transaction is over
		unsent.BeginTx(pgx.TxOptions{})
		return pgx.FailedBatchResults(unsent, err).Tx().LargeObjects()
	}
	return d.own.LargeObjects()
}

func (d *doTx) Conn() *pgx.Conn {
	d.direct = true
	_ = d.open(d.ctx) // Commit says it again
	return d.conn
}
