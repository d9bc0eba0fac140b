package pgstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
)

// Tx returns an Appender that appends in a transaction of yours: what is emitted through bus.In(pgstore.Tx(tx)) exists if and only if tx
// commits. It is one round trip for each Emit, takes no lock that other emits would wait for, and is as durable as tx. Where the
// connection prepares statements, as pgx does by default, the first Emit on it takes another round trip.
// Afterwards call bus.Wake, or use Do, which does all of it.
//
// An error of PostgreSQL dooms the transaction, as always; so does a unit of several events one of which is refused. After an ErrConflict of a
// single event it can go on. The Appender is used by one goroutine. The log is the one in the schema "pulse"; for another
// use the method of Schema.
func Tx(tx pgx.Tx) pulse.Appender { return DefaultSchema.Tx(tx) }

// Tx is the function Tx for the log in this schema.
func (s Schema) Tx(tx pgx.Tx) pulse.Appender { return &userTx{s, pgxTx{tx}} }

// SQLTx is Tx for a transaction of database/sql, whatever its driver.
func SQLTx(tx *sql.Tx) pulse.Appender { return DefaultSchema.SQLTx(tx) }

// SQLTx is the function SQLTx for the log in this schema.
func (s Schema) SQLTx(tx *sql.Tx) pulse.Appender { return &userTx{s, sqlTx{tx}} }

// userTx is a transaction that the store did not begin.
type userTx struct {
	schema Schema
	tx     transaction
}

// Append is Store.Append as part of the transaction.
func (u *userTx) Append(ctx context.Context, recs []pulse.Record) error {
	const op = "append in your transaction"
	if err := ctx.Err(); err != nil {
		return fail(op, err)
	}
	if err := u.schema.check(); err != nil {
		return fail(op, err)
	}
	if err := u.schema.append(ctx, u.tx, recs); err != nil {
		return fail(op, notCommitted(err))
	}
	return nil
}

// Queue adds an event to a batch of yours, without a round trip of its own: it exists if and only if what the batch is part of commits. Batches
// that are not sent in a transaction are one themselves. The id is valid also on an error.
//
// That the id is new is for the batch to find out: an id that is stored already, whatever it says, fails the batch with a unique
// violation, as does an event of another log with an error of its own. After committing call bus.Wake.
func Queue(ctx context.Context, batch *pgx.Batch, bus *pulse.Bus, ev pulse.Event, opts ...pulse.EmitOption) (uuid.UUID, error) {
	return DefaultSchema.Queue(ctx, batch, bus, ev, opts...)
}

// Queue is the function Queue for the log in this schema.
func (s Schema) Queue(ctx context.Context, batch *pgx.Batch, bus *pulse.Bus, ev pulse.Event, opts ...pulse.EmitOption) (uuid.UUID, error) {
	return bus.In(queue{s, batch}).Emit(ctx, ev, opts...)
}

// queue appends to a batch.
type queue struct {
	schema Schema
	batch  *pgx.Batch
}

// Append adds the insert of recs to the batch. It is an error of the batch if they cannot be stored.
func (q queue) Append(_ context.Context, recs []pulse.Record) error {
	if err := q.schema.check(); err != nil {
		return fail("queue", err)
	}
	q.schema.queue(q.batch, recs)
	return nil
}

// queue adds the insert of recs to batch, which fails if they cannot be stored. Nobody changes recs any more.
func (s Schema) queue(batch *pgx.Batch, recs []pulse.Record) {
	batch.Queue(s.sql(insertOneSQL), &queued{s, recs})
}

// queued is an insert in a batch, which takes its form when it is known what the batch is sent on.
type queued struct {
	schema Schema
	recs   []pulse.Record
}

// RewriteQuery returns the statement and its parameters; see pgx.QueryRewriter.
func (q *queued) RewriteQuery(_ context.Context, conn *pgx.Conn, _ string, _ []any) (string, []any, error) {
	sql, args := appendSQL(len(q.recs) == 1, unitInBatch), literals
	if len(q.recs) == 1 && prepares(conn) {
		sql, args = insertOneSQL, scalars
	}
	return q.schema.sql(sql), args(q.recs), nil
}

// OnTx handles events of type E in a transaction that also remembers the delivery: what the handler writes through
// tx happens exactly once. Emitting with the handler's context joins the transaction, and travels with the handler's next statement or
// with COMMIT, as in Do.
func OnTx[E pulse.Event](fn func(ctx context.Context, tx pgx.Tx, e E) error) pulse.SubscribeOption {
	if fn == nil {
		return pulse.OnTx[E](nil)
	}
	return pulse.OnTx(func(ctx context.Context, tx pulse.Tx, e E) error {
		own, err := unwrap(tx)
		if err != nil {
			return err
		}
		return fn(ctx, own, e)
	})
}

// OnBatchTx handles up to max events at once whose name matches pattern, in one transaction; see OnTx and pulse.OnBatch.
func OnBatchTx(pattern string, max int, fn func(ctx context.Context, tx pgx.Tx, ds []pulse.Delivery) error) pulse.SubscribeOption {
	if fn == nil {
		return pulse.OnBatchTx(pattern, max, nil)
	}
	return pulse.OnBatchTx(pattern, max, func(ctx context.Context, tx pulse.Tx, ds []pulse.Delivery) error {
		own, err := unwrap(tx)
		if err != nil {
			return err
		}
		return fn(ctx, own, ds)
	})
}

// unwrap finds the transaction of pgx, which is not there when the bus has another kind of store.
func unwrap(tx pulse.Tx) (pgx.Tx, error) {
	if own, ok := tx.Unwrap().(pgx.Tx); ok {
		return own, nil
	}
	return nil, pulse.Unavailable(fmt.Errorf("%w: the handler is one of pgstore, but the bus has another store", pulse.ErrInvalid))
}
