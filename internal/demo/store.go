package demo

import (
	"context"
	"path/filepath"

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

// Opener opens the store, and creates it when there is none: a file of SQLite at path, or one in PostgreSQL, wherever that is.
type Opener func(ctx context.Context, path string) (Store, error)

// StoreFile is the name of the SQLite store in a data directory.
const StoreFile = "pulse.db"

// storePath is where the store is in a data directory, and what the name of the broker's data beside it begins with; a store in PostgreSQL
// is not there itself.
func storePath(data, schema string) string {
	if schema != "" {
		return filepath.Join(data, schema)
	}
	return filepath.Join(data, StoreFile)
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

// ParallelAppends is that of the store, which the Store inside would hide.
func (w watched) ParallelAppends() int {
	if p, ok := w.Store.(pulse.Parallel); ok {
		return p.ParallelAppends()
	}
	return 1
}
