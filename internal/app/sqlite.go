package app

import (
	"context"

	"github.com/edupulse-live/pulse/sqlitestore"
)

// OpenSQLite opens the SQLite store at path, and creates it when there is none. The caller closes it.
func OpenSQLite(ctx context.Context, path string) (*sqlitestore.Store, error) {
	return sqlitestore.Open(ctx, path, nil)
}
