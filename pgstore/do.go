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
// What is emitted travels with the next statement of tx, or with COMMIT, which is no round trip of its own. So an event that the server refuses is
// an error of that statement, and of Do. Emit waits for the server only where an id of yours is to be compared with what is stored. Use tx and e from one
// goroutine, and tx.Conn, if you need it, inside fn only.
func Do(ctx context.Context, pool *pgxpool.Pool, bus *pulse.Bus, fn func(tx pgx.Tx, e pulse.Emitter) error) error {
	return DefaultSchema.Do(ctx, pool, bus, fn)
}

// Do is the function Do for the log in this schema.
func (s Schema) Do(ctx context.Context, pool *pgxpool.Pool, bus *pulse.Bus, fn func(tx pgx.Tx, e pulse.Emitter) error) error {
	const op = "do"
	if err := s.check(); err != nil {
		return fail(op, err)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fail(op, errors.Join(errNoConnection, err))
	}
	defer conn.Release()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fail(op, errors.Join(errNoConnection, err))
	}
	defer bus.Wake() // also when nobody knows whether it has committed
	d := &doTx{ctx: ctx, own: tx, schema: s}
	defer d.end() // when fn failed, or panics
	if err := fn(d, bus.InUntilWake(d)); err != nil {
		if d.refused != nil { // the reason, where fn's may be what followed from it
			err = errors.Join(err, fail(op, d.refused))
		}
		return err
	}
	if err := d.Commit(ctx); err != nil {
		return failSent(op, err)
	}
	return nil
}

// Inserts that are kept are no more than these.
const (
	mostKept      = 256
	mostKeptBytes = 1 << 20
)

// doTx is the transaction of Do as fn sees it, and what fn's Emitter appends to. It keeps inserts of events until fn sends something else, so that the
// server carries out everything in the order in which fn did it.
type doTx struct {
	ctx    context.Context // of Do
	own    pgx.Tx          // of pgx
	schema Schema

	kept    pgx.Batch
	bytes   int   // of events, in kept
	direct  bool  // fn may send past doTx: nothing is kept any more
	refused error // of inserts that were kept: nothing can be committed any more
	over    bool
}

// Append is Store.Append as part of the transaction.
func (d *doTx) Append(ctx context.Context, recs []pulse.Record) error {
	if err := d.append(ctx, recs); err != nil {
		return fail("append in the transaction of Do", notCommitted(err))
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
	if now || d.refused != nil || d.kept.Len() == mostKept || d.bytes+bytes > mostKeptBytes {
		if err := d.send(ctx); err != nil {
			return err
		}
	}
	if now {
		return d.schema.append(ctx, pgxTx{d.own}, recs)
	}
	d.bytes += bytes
	d.schema.queue(&d.kept, recs)
	return nil
}

// send sends what is kept.
func (d *doTx) send(ctx context.Context) error {
	if d.refused == nil && d.kept.Len() > 0 {
		d.refused = d.own.SendBatch(ctx, &d.kept).Close()
		d.kept, d.bytes = pgx.Batch{}, 0
	}
	return d.refused
}

// end rolls back, unless the transaction is over.
func (d *doTx) end() {
	if !d.over {
		d.over = true
		rollback(d.ctx, d.own)
	}
}

// Commit sends what is kept together with COMMIT. Its error leaves open whether that happened only if lost says so.
func (d *doTx) Commit(ctx context.Context) error {
	if d.refused != nil {
		return notCommitted(d.refused)
	}
	if d.over {
		return pgx.ErrTxClosed
	}
	conn := d.own.Conn()
	if err := sendable(ctx, conn); err != nil {
		return err
	}
	d.over = true
	if d.kept.Len() == 0 {
		return d.own.Commit(ctx)
	}
	d.kept.Queue("commit")
	if err := conn.SendBatch(ctx, &d.kept).Close(); err != nil {
		rollback(ctx, d.own)
		return err
	}
	d.own = closedTx()
	return nil
}

// closedTx returns a transaction that is over: that of a batch that was not sent.
func closedTx() pgx.Tx {
	batch := &pgx.Batch{}
	batch.BeginTx(pgx.TxOptions{})
	return pgx.FailedBatchResults(batch, pgx.ErrTxClosed).Tx()
}

// The methods of pgx.Tx send what is kept first.

func (d *doTx) Rollback(ctx context.Context) error {
	d.over = true
	return d.own.Rollback(ctx)
}

func (d *doTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := d.send(ctx); err != nil {
		return pgconn.CommandTag{}, err
	}
	return d.own.Exec(ctx, sql, args...)
}

func (d *doTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := d.send(ctx); err != nil {
		return pgx.FailedBatchResults(&pgx.Batch{}, err).Query()
	}
	return d.own.Query(ctx, sql, args...)
}

func (d *doTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := d.send(ctx); err != nil {
		return pgx.FailedBatchResults(&pgx.Batch{}, err).QueryRow()
	}
	return d.own.QueryRow(ctx, sql, args...)
}

func (d *doTx) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	if err := d.send(ctx); err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	return d.own.SendBatch(ctx, batch)
}

func (d *doTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := d.send(ctx); err != nil {
		return 0, err
	}
	return d.own.CopyFrom(ctx, table, columns, rows)
}

func (d *doTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := d.send(ctx); err != nil {
		return nil, err
	}
	return d.own.Prepare(ctx, name, sql)
}

// Those that hand out ways past doTx end its keeping.

func (d *doTx) Begin(ctx context.Context) (pgx.Tx, error) {
	d.direct = true
	if err := d.send(ctx); err != nil {
		return nil, err
	}
	return d.own.Begin(ctx)
}

func (d *doTx) LargeObjects() pgx.LargeObjects {
	d.direct = true
	_ = d.send(d.ctx) // kept in refused
	return d.own.LargeObjects()
}

func (d *doTx) Conn() *pgx.Conn {
	d.direct = true
	_ = d.send(d.ctx)
	return d.own.Conn()
}
