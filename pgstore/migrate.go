package pgstore

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
)

// latestSchema is the number of the last migration.
const latestSchema = 1

// oldestServer is the oldest version of PostgreSQL the store works on.
const oldestServer = 140000

//go:embed migrations/*.sql
var migrations embed.FS // never written to

// migrate brings the tables to the latest version. Each migration is one transaction under a lock, so that any number of processes may
// start at once, and any of them may be killed.
func (s *Store) migrate(ctx context.Context, opts *Options) error {
	if err := s.checkServer(ctx); err != nil {
		return err
	}
	version, err := s.version(ctx, s.pool)
	for err == nil && version < latestSchema {
		version, err = s.migrateNext(ctx, opts)
	}
	if err == nil && version > latestSchema {
		err = fmt.Errorf("%w: schema %s was written by a newer pulse (version %d, this one knows %d): upgrade pulse",
			pulse.ErrInvalid, s.schema, version, latestSchema)
	}
	return err
}

func (s *Store) checkServer(ctx context.Context) error {
	var version int
	var name, encoding string
	err := s.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'),
		current_setting('server_encoding')`).Scan(&version, &name, &encoding)
	switch {
	case err != nil:
		return err
	case version < oldestServer:
		return fmt.Errorf("%w: the server is PostgreSQL %s: use 14 or newer", pulse.ErrInvalid, name)
	case encoding != "UTF8":
		return fmt.Errorf("%w: the database has the encoding %s: create it with ENCODING 'UTF8'", pulse.ErrInvalid, encoding)
	}
	return nil
}

// rowQuerier is a pool or a transaction.
type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// version returns the number of the last migration that was carried out, 0 when none was.
func (s *Store) version(ctx context.Context, db rowQuerier) (version int, err error) {
	var exists bool // asked of the catalogs, as to_regclass remembers what was not there when the transaction began
	err = db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = 'settings')`, string(s.schema)).Scan(&exists)
	if err != nil || !exists {
		return 0, err
	}
	err = db.QueryRow(ctx, s.schema.sql("SELECT schema_version FROM @settings")).Scan(&version)
	return version, err
}

// migrateNext carries out one migration, unless another process did meanwhile, and returns the version then.
func (s *Store) migrateNext(ctx context.Context, opts *Options) (version int, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('pulse migrations of schema ' || $1::text, 0))", string(s.schema)); err != nil {
			return err
		}
		if version, err = s.version(ctx, tx); err != nil || version >= latestSchema {
			return err
		}
		version++
		if err := s.apply(ctx, tx, version, opts); err != nil {
			return fmt.Errorf("migrate to version %d: %w", version, err)
		}
		return nil
	})
	return version, err
}

// apply runs the migration with the given number.
func (s *Store) apply(ctx context.Context, tx pgx.Tx, number int, opts *Options) error {
	names, err := fs.Glob(migrations, fmt.Sprintf("migrations/%04d_*.sql", number))
	if err != nil || len(names) != 1 {
		return fmt.Errorf("there are %d migrations with the number %d: %w", len(names), number, err)
	}
	script, err := migrations.ReadFile(names[0])
	if err != nil {
		return err
	}
	if err := s.createSchema(ctx, tx); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.schema.sql(string(script)), pgx.QueryExecModeSimpleProtocol); err != nil { // takes several statements
		return err
	}
	if number == 1 {
		return s.settle(ctx, tx, opts)
	}
	_, err = tx.Exec(ctx, s.schema.sql("UPDATE @settings SET schema_version = $1::int4"), number)
	return err
}

// createSchema creates the schema. An existing one needs no right to do so.
func (s *Store) createSchema(ctx context.Context, tx pgx.Tx) error {
	var exists bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)", string(s.schema)).Scan(&exists); err != nil || exists {
		return err
	}
	_, err := tx.Exec(ctx, `CREATE SCHEMA "`+string(s.schema)+`"`)
	return err
}

// settle writes what a new log keeps for good.
func (s *Store) settle(ctx context.Context, tx pgx.Tx, opts *Options) error {
	origin, limit := opts.Origin, opts.MaxEventBytes
	if origin == "" {
		origin = "pulse/" + uuid.NewString()
	}
	if limit <= 0 {
		limit = defaultMaxBytes
	}
	_, err := tx.Exec(ctx, s.schema.sql(`INSERT INTO @settings
		(schema_version, origin, max_event_bytes, epoch, xid_epoch, system_identifier, timeline)
		SELECT 1, $1::text, $2::int4, 1, 1, system_identifier, `+timelineSQL+` FROM pg_control_system()`), origin, limit)
	return err
}
