package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
)

// Do runs fn in a transaction on pool: what it writes through tx and emits through e exists if it returns nil, and none of it otherwise. It wakes
// bus afterwards. When the connection is lost in COMMIT the error is an ErrUnknown.
//
// BEGIN travels with your first statement, what is emitted with the next one or with COMMIT: none of it is a round trip of its own. So an event that
// the server refuses is an error of that statement, and of Do. Emit waits for the server only where an id of yours is to be compared with
// what is stored. Use tx and e from one goroutine, and tx.Conn, if you need it, inside fn only. You may emit while you read the rows of a query; before
// the next statement and at the end of fn they have to be read or closed. Leave COMMIT and ROLLBACK to Do.
func Do(ctx context.Context, pool *pgxpool.Pool, bus *pulse.Bus, fn func(tx pgx.Tx, e pulse.Emitter) error) error {
	return DefaultSchema.Do(ctx, pool, bus, fn)
}

// Do is the function Do for the log in this schema.
func (s Schema) Do(ctx context.Context, pool *pgxpool.Pool, bus *pulse.Bus, fn func(tx pgx.Tx, e pulse.Emitter) error) error {
	if err := s.check(); err != nil {
		return fail(opDo, err)
	}
	defer bus.Wake() // also when nobody knows whether it has committed
	tx := &lazyTx{schema: s, op: opDo}
	return tx.outcome(tx.on(ctx, pool, func() error { return fn(tx, bus.InUntilWake(tx)) }))
}

const opDo = "do"
