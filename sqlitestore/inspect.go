package sqlitestore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/edupulse-live/pulse"
)

// applicationID marks the file as ours in SQLite's header: "Puls".
const applicationID = 0x50756c73

// identity is what SQLite's header says about a file.
type identity struct {
	application uint32
	schema      uint32 // our version of the tables
	cookie      uint32 // 0 while there never were any tables
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

// inspect decides whether the file at path may be opened for writing, before SQLite touches it, and creates it when
// there is none. It returns the absolute path.
func inspect(ctx context.Context, path string) (string, error) {
	if path == "" || path == ":memory:" {
		return "", fmt.Errorf("%w: the store needs a file: give its path, or use memstore", pulse.ErrInvalid)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", pulse.ErrInvalid, err)
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return abs, create(abs)
	case err != nil:
		return "", unusable(err)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%w: is not a regular file: give the path of a database file", pulse.ErrInvalid)
	}
	f, err := os.OpenFile(abs, os.O_RDWR, 0)
	if err != nil {
		return "", unusable(err)
	}
	defer f.Close()
	if info.Size() == 0 {
		return abs, nil
	}
	return abs, examine(ctx, abs, f)
}

// create makes an empty file, which is a valid empty database: so the file SQLite opens exists in every case.
func create(abs string) error {
	f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: the directory does not exist: create it first", pulse.ErrInvalid)
	}
	if err != nil {
		return unusable(err)
	}
	return f.Close()
}

// unusable says that the operating system refused.
func unusable(err error) error {
	if errors.Is(err, fs.ErrPermission) || isReadOnly(err) {
		return fmt.Errorf("%w: the file or its directory is read-only: give this process the right to write both: %w", pulse.ErrStore, err)
	}
	return fmt.Errorf("%w: %w", pulse.ErrStore, err)
}

// examine looks at the header of a file that is not empty.
func examine(ctx context.Context, abs string, f io.ReaderAt) error {
	const headerSize = 100
	header := make([]byte, headerSize)
	n, err := f.ReadAt(header, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return unusable(err)
	}
	if n < headerSize || !bytes.HasPrefix(header, []byte("SQLite format 3\x00")) {
		return fmt.Errorf("%w: is not an SQLite database; nothing was changed", pulse.ErrInvalid)
	}
	id := identity{
		application: binary.BigEndian.Uint32(header[68:]),
		schema:      binary.BigEndian.Uint32(header[60:]),
		cookie:      binary.BigEndian.Uint32(header[40:]),
	}
	if wal, err := os.Stat(abs + "-wal"); err == nil && wal.Size() > 0 && id.application != applicationID {
		// The header may be older than what the WAL says: somebody is just creating a store, or was killed while doing so.
		if id, err = identify(ctx, abs); err != nil {
			return err
		}
	}
	return id.refusal()
}

// identify asks SQLite, which reads the WAL as well. It does not write to the file.
func identify(ctx context.Context, abs string) (identity, error) {
	db, err := sql.Open("sqlite", dsn(abs, "ro")+"&_busy_timeout=5000&_query_only=1")
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

// identityOf asks SQLite for what the header says.
func identityOf(ctx context.Context, db querier) (id identity, err error) {
	err = db.QueryRowContext(ctx, `SELECT a.application_id, u.user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id AS a, pragma_user_version AS u`).Scan(&id.application, &id.schema, &id.cookie)
	return id, err
}
