package pgstore

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
)

// Inserts that are kept are no more than these.
const (
	mostKept      = 256
	mostKeptBytes = 1 << 20
)

// lazyTx is a transaction that sends BEGIN with its first statement, and what nobody waits for the result of with the next statement or with
// COMMIT: round trips are most of what a small transaction takes. Everything passes through it, so the server carries it out in the order in which
// it was done.
type lazyTx struct {
	schema Schema
	op     string // for errors of what was kept
	opts   pgx.TxOptions

	ctx  context.Context // of on
	conn *pgx.Conn
	own  pgx.Tx // of pgx; nil until it has begun

	kept    pgx.Batch
	bytes   int   // of events, in kept
	direct  bool  // somebody may send past lazyTx: no events are kept any more
	refused error // what was kept: nothing can be committed any more
	over    bool
	done    bool // committed
}

// on calls fn in the transaction, on a connection of pool, and commits if it returns nil. own is the error of fn; err is what else went wrong, and
// leaves open whether the transaction has committed only if lost says so.
func (t *lazyTx) on(ctx context.Context, pool *pgxpool.Pool, fn func() error) (own, err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, errors.Join(errNoConnection, err)
	}
	defer conn.Release()
	t.ctx, t.conn = ctx, conn.Conn()
	defer t.end() // when fn failed, or panics
	own = fn()
	switch {
	case own == nil && t.done: // by fn itself
		return nil, nil
	case own == nil:
		return nil, t.Commit(ctx)
	case t.refused == nil || errors.Is(own, t.refused) || errors.Is(t.refused, pgx.ErrTxCommitRollback):
		return own, nil
	}
	return own, t.refused // the reason, where fn's error may be what followed from it
}

// outcome is what to say of the errors of on: fn's as it is.
func (t *lazyTx) outcome(own, err error) error {
	switch {
	case err == nil:
		return own
	case own != nil:
		return errors.Join(own, err)
	}
	return failSent(t.op, err)
}

// Append is Store.Append as part of the transaction.
func (t *lazyTx) Append(ctx context.Context, recs []pulse.Record) error {
	if err := t.append(ctx, recs); err != nil {
		return fail(t.op, notCommitted(err))
	}
	return nil
}

func (t *lazyTx) append(ctx context.Context, recs []pulse.Record) error {
	if len(recs) == 0 {
		return t.usable()
	}
	bytes, err := unitSize(recs)
	if err != nil {
		return err
	}
	compared := false
	for i := range recs {
		compared = compared || !recs[i].IDNew
	}
	if compared || t.direct || t.over || len(recs) > mostKept || bytes > mostKeptBytes {
		return t.appendNow(ctx, recs)
	}
	if full := t.kept.Len() > mostKept || t.bytes+bytes > mostKeptBytes; t.refused != nil || full && !t.conn.PgConn().IsBusy() {
		if err := t.open(ctx); err != nil {
			return err
		}
	}
	t.bytes += bytes
	t.schema.queue(t.batch(), recs)
	return nil
}

// appendNow stores those of recs that are not stored yet, and compares the others.
func (t *lazyTx) appendNow(ctx context.Context, recs []pulse.Record) error {
	if err := t.open(ctx); err != nil {
		return err
	}
	return t.schema.append(ctx, pgxTx{t.own}, recs)
}

// keep keeps a statement whose result nobody waits for. If it fails nothing can be committed.
func (t *lazyTx) keep(sql string, args ...any) { t.batch().Queue(sql, args...) }

// batch is what is kept, for more to be added.
func (t *lazyTx) batch() *pgx.Batch {
	if t.own == nil && t.kept.Len() == 0 {
		t.kept.BeginTx(t.opts)
	}
	return &t.kept
}

// sendWith sends what is kept, with a statement behind it, whose result is the next of the results.
func (t *lazyTx) sendWith(ctx context.Context, sql string, args []any) (pgx.BatchResults, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	if err := sendable(ctx, t.conn); err != nil {
		return nil, err
	}
	n, begun := t.batch().Len(), t.own != nil
	t.keep(sql, args...)
	results := t.send(ctx)
	for range n {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			if is, ok := errors.AsType[pgx.ErrPreprocessingBatch](err); ok && is.SQL() == sql { // that statement cannot be: nothing was sent
				if _, answered := errors.AsType[*pgconn.PgError](err); !begun || !answered { // else the server knows, and what was kept would be undone with it
					t.refuse(pgx.ErrTxCommitRollback)
				}
				return nil, err
			}
			return nil, t.refuse(err)
		}
	}
	return results, nil
}

// send sends what is kept, BEGIN at least.
func (t *lazyTx) send(ctx context.Context) pgx.BatchResults {
	batch := *t.batch()
	t.kept, t.bytes = pgx.Batch{}, 0
	results := t.conn.SendBatch(ctx, &batch)
	if t.own == nil {
		t.own = results.Tx()
	}
	return results
}

// usable is an error once the transaction can only end, or has.
func (t *lazyTx) usable() error {
	if t.over {
		return pgx.ErrTxClosed
	}
	return t.refused
}

// open makes sure that the transaction has begun and nothing is kept.
func (t *lazyTx) open(ctx context.Context) error {
	if err := t.usable(); err != nil {
		return err
	}
	if t.own != nil && t.kept.Len() == 0 {
		return nil
	}
	if err := sendable(ctx, t.conn); err != nil {
		return err
	}
	if err := t.send(ctx).Close(); err != nil {
		return t.refuse(err)
	}
	return nil
}

// refuse says why what was kept cannot be.
func (t *lazyTx) refuse(err error) error {
	t.refused = fail(t.op, notCommitted(err))
	return t.refused
}

// end rolls back, unless the transaction is over.
func (t *lazyTx) end() {
	if !t.over && t.own != nil {
		rollback(t.ctx, t.own)
	}
	t.over = true
}

// Commit sends what is kept together with COMMIT. Its error leaves open whether that happened only if lost says so.
func (t *lazyTx) Commit(ctx context.Context) error {
	if err := t.usable(); err != nil {
		return notCommitted(err)
	}
	if err := sendable(ctx, t.conn); err != nil {
		return err
	}
	t.over = true
	err := t.commit(ctx)
	t.done = err == nil
	return err
}

func (t *lazyTx) commit(ctx context.Context) error {
	n := t.kept.Len()
	switch {
	case t.own == nil && n == 0: // nothing was done
		return nil
	case n == 0:
		return t.own.Commit(ctx)
	}
	t.keep("commit")
	results := t.send(ctx)
	for range n {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			rollback(ctx, t.own)
			if _, answered := errors.AsType[*pgconn.PgError](err); answered && !lost(err) { // by the server, in the order of the statements: it came to no COMMIT
				return notCommitted(err)
			}
			return err
		}
	}
	if err := results.Close(); err != nil {
		rollback(ctx, t.own)
		return err
	}
	return nil
}
