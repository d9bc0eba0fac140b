package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// Do runs fn in a transaction of the store: what it writes through tx and emits through e exists if it returns nil, and
// none of it otherwise. tx is on the store's one writing connection: other writers, Emit among them, wait for fn,
// and fn must not wait for them. It may use tables of its own in the store's file.
func Do(ctx context.Context, store *Store, bus *pulse.Bus, fn func(tx *sql.Tx, e pulse.Emitter) error) error {
	defer bus.Wake()
	return store.Transact(ctx, func(_ context.Context, tx pulse.Tx) error {
		return fn(tx.Unwrap().(*sql.Tx), bus.InUntilWake(tx))
	})
}

// OnTx handles events of type E in a transaction that also remembers the delivery: what the handler writes through
// tx happens exactly once. The transaction is on the store's one writing connection, see Do; emitting with the
// handler's context joins it.
func OnTx[E pulse.Event](fn func(ctx context.Context, tx *sql.Tx, e E) error) pulse.SubscribeOption {
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
func OnBatchTx(pattern string, max int, fn func(ctx context.Context, tx *sql.Tx, ds []pulse.Delivery) error) pulse.SubscribeOption {
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

// unwrap finds the SQL transaction, which is not there when the bus has another kind of store.
func unwrap(tx pulse.Tx) (*sql.Tx, error) {
	if own, ok := tx.Unwrap().(*sql.Tx); ok {
		return own, nil
	}
	return nil, pulse.Unavailable(fmt.Errorf("%w: the handler is one of sqlitestore, but the bus has another store", pulse.ErrInvalid))
}
