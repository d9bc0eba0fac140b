package demo

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// Store is what the demo needs of a store: all that keeps subscriptions, on an SQL database.
type Store interface {
	pulse.Store
	pulse.Transactor
	pulse.Leases
	pulse.Subscriptions
	pulse.Deliveries
	Close() error
}

// Opener opens the SQLite store at path, and creates it when there is none.
type Opener func(ctx context.Context, path string) (Store, error)

// storeFile is the name of the store in a data directory.
const storeFile = "pulse.db"

// inSQL runs fn in a transaction of the store's database.
func inSQL(ctx context.Context, store pulse.Transactor, fn func(tx *sql.Tx) error) error {
	return store.Transact(ctx, func(_ context.Context, tx pulse.Tx) error {
		own, ok := tx.Unwrap().(*sql.Tx)
		if !ok {
			return fmt.Errorf("%w: the demo keeps its books in tables beside the log, which a %T has not", pulse.ErrInvalid, store)
		}
		return fn(own)
	})
}

// watched is a Store that reports each committed transaction.
type watched struct {
	Store
	committed func()
}

// Transact is that of the store.
func (w watched) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	err := w.Store.Transact(ctx, fn)
	if err == nil {
		w.committed()
	}
	return err
}
