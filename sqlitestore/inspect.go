package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	lib "modernc.org/sqlite/lib"

	"github.com/edupulse-live/pulse"
)

// applicationID marks the file as ours in SQLite's header: "Puls".
const applicationID = 0x50756c73

// identity is what SQLite's header says about a file.
type identity struct {
	application uint32
	schema      uint32 // our version of the tables
	tables      int    // with indexes and triggers
}

// blank is a database without content: made by a process that was killed right then, or by hand.
func (id identity) blank() bool { return id == identity{} }

// refusal says why the file cannot be opened, nil when it can.
func (id identity) refusal() error {
	switch {
	case id.application != applicationID && !id.blank():
		return fmt.Errorf("%w: is an SQLite database, but not a Pulse store; nothing was changed", pulse.ErrInvalid)
	case id.schema > latestSchema:
		return fmt.Errorf("%w: written by a newer pulse (schema %d, this one knows %d): upgrade pulse", pulse.ErrInvalid, id.schema, latestSchema)
	}
	return nil
}

// inspect decides whether the file at path, if there is one, may be opened for writing. It returns the absolute path.
//
// It never opens the file itself: closing a file takes away all POSIX locks that the process has on it, SQLite's
// in other connections among them. SQLite knows how to avoid that.
func inspect(ctx context.Context, path string) (string, error) {
	if path == "" || path == ":memory:" {
		return "", fmt.Errorf("%w: the store needs a file: give its path, or use memstore", pulse.ErrInvalid)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", pulse.ErrInvalid, err)
	}
	if target, err := filepath.EvalSymlinks(abs); err == nil {
		abs = target // beside which SQLite has its other files
	}
	if dir, err := os.Stat(filepath.Dir(abs)); errors.Is(err, fs.ErrNotExist) || err == nil && !dir.IsDir() {
		return "", fmt.Errorf("%w: the directory does not exist: create it first", pulse.ErrInvalid)
	}
	if err := writable(filepath.Dir(abs)); err != nil {
		return "", fmt.Errorf("%w: the directory is read-only, and SQLite needs to create files in it: give this process the right to write it: %w", pulse.ErrStore, err)
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return abs, nil
	case err != nil:
		return "", fmt.Errorf("%w: %w", pulse.ErrStore, err)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%w: is not a regular file: give the path of a database file", pulse.ErrInvalid)
	}
	if err := writable(abs); err != nil {
		return "", fmt.Errorf("%w: the file is read-only: give this process the right to write it: %w", pulse.ErrStore, err)
	}
	if info.Size() == 0 {
		return abs, nil
	}
	return abs, examine(ctx, abs)
}

// examine looks at a file that is not empty.
func examine(ctx context.Context, abs string) error {
	id, err := identify(ctx, abs, "&immutable=1") // leaves the -wal file alone, and makes none
	if code, _ := codeOf(err); code == lib.SQLITE_NOTADB {
		return fmt.Errorf("%w: is not an SQLite database; nothing was changed", pulse.ErrInvalid)
	}
	if wal, statErr := os.Stat(abs + "-wal"); statErr == nil && wal.Size() > 0 && id.application != applicationID {
		// The file may be older than what the -wal file says: somebody is just creating a store, or was killed while doing so.
		id, err = identify(ctx, abs, "&_busy_timeout=5000")
	}
	if err != nil {
		return err
	}
	return id.refusal()
}

// identify asks SQLite for what the header says, on a connection that cannot write to the file.
func identify(ctx context.Context, abs, options string) (identity, error) {
	db, err := sql.Open("sqlite", dsn(abs, "ro")+options)
	if err != nil {
		return identity{}, err
	}
	defer db.Close()
	return identityOf(ctx, db)
}

// querier is a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// identityOf asks db for what the header says.
func identityOf(ctx context.Context, db querier) (id identity, err error) {
	err = db.QueryRowContext(ctx, `SELECT a.application_id, u.user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id AS a, pragma_user_version AS u`).Scan(&id.application, &id.schema, &id.tables)
	return id, err
}
