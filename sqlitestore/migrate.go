package sqlitestore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// latestSchema is the number of the last migration.
const latestSchema = 2

//go:embed migrations/*.sql
var migrations embed.FS // never written to

// migrate brings the file to the latest schema. Each migration is one transaction under the write lock, so that any number of processes
// may start at once, and any of them may be killed.
func (s *Store) migrate(ctx context.Context, opts *Options) error {
	id, err := identityOf(ctx, s.readers)
	if err != nil {
		return err
	}
	if err := id.refusal(); err != nil {
		return err
	}
	if err := s.journalWAL(ctx); err != nil {
		return err
	}
	for id.schema < latestSchema {
		if id, err = s.migrateNext(ctx, opts); err != nil {
			return fmt.Errorf("migrate to schema %d: %w", id.schema+1, err)
		}
	}
	return nil
}

// journalWAL switches the file to WAL mode, which it keeps, but VACUUM INTO does not copy. It costs nothing when the file is in it.
func (s *Store) journalWAL(ctx context.Context) error {
	var mode string
	err := awaitLock(ctx, func() error { return s.writer.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode) })
	if err == nil && mode != "wal" {
		return fmt.Errorf("%w: SQLite cannot use WAL mode here (it answers %q): put the file on a local disk", pulse.ErrInvalid, mode)
	}
	return err
}

// migrateNext carries out one migration, unless another process did meanwhile, and returns what the file is then.
func (s *Store) migrateNext(ctx context.Context, opts *Options) (identity, error) {
	tx, end, err := s.begin(ctx, full)
	if err != nil {
		return identity{}, err
	}
	defer end()
	id, err := identityOf(ctx, tx)
	if err != nil {
		return id, err
	}
	if err := id.refusal(); err != nil || id.schema >= latestSchema {
		return id, err
	}
	if err := apply(ctx, tx, id.schema+1); err != nil {
		return id, err
	}
	if id.schema == 0 {
		if err := settle(ctx, tx, opts); err != nil {
			return id, err
		}
	}
	if err := tx.Commit(); err != nil {
		return id, err
	}
	return identityOf(ctx, s.readers)
}

// apply runs the migration with the given number.
func apply(ctx context.Context, tx *sql.Tx, number uint32) error {
	names, err := fs.Glob(migrations, fmt.Sprintf("migrations/%04d_*.sql", number))
	if err != nil || len(names) != 1 {
		return fmt.Errorf("there are %d migrations with the number %d: %w", len(names), number, err)
	}
	script, err := migrations.ReadFile(names[0])
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, string(script)); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, number))
	return err
}

// settle writes what a new log keeps for good.
func settle(ctx context.Context, tx *sql.Tx, opts *Options) error {
	origin, limit := opts.Origin, opts.MaxEventBytes
	if origin == "" {
		origin = "pulse/" + uuid.NewString()
	}
	if limit <= 0 {
		limit = defaultMaxBytes
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO settings (name, value) VALUES
		('origin', ?), ('epoch', 1), ('max_event_bytes', ?), ('last_token', 0)`, origin, limit)
	return err
}
