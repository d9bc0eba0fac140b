package pgstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
)

// latestSchema is the number of the last migration.
const latestSchema = 1

const opMigrate = "migrate"

// oldestServer is the oldest version of PostgreSQL the store works on.
const oldestServer = 140000

//go:embed migrations/*.sql
var migrations embed.FS // never written to

// Migration is one step of the tables of a log from one version to the next.
type Migration struct {
	Version int    // of the tables afterwards; the first makes version 1
	Name    string // what it is about, a word or two
	SQL     string // all its statements, to be run in one transaction, by psql -1 for example
}

// Migrations returns all migrations of a log with these options, in their order. They are what Open carries out. Somebody else may do so
// before: then Open finds nothing left to do and needs no right to create anything.
func Migrations(opts *Options) ([]Migration, error) {
	all, err := migrationsOf(opts)
	if err != nil {
		return nil, fail("migrations", err)
	}
	return all, nil
}

// Plan returns the migrations that Open would carry out on the database that dsn names, none when the tables are of this
// version. It changes nothing.
func Plan(ctx context.Context, dsn string, opts *Options) ([]Migration, error) {
	return withPool(ctx, "plan", dsn, opts, func(m *migrator) ([]Migration, error) {
		version, err := m.check(ctx)
		if err != nil {
			return nil, err
		}
		return m.all[version:], nil
	})
}

// Migrate brings the tables to this version, as Open does, and returns the migrations that it carried out.
func Migrate(ctx context.Context, dsn string, opts *Options) ([]Migration, error) {
	return withPool(ctx, opMigrate, dsn, opts, func(m *migrator) ([]Migration, error) { return m.run(ctx) })
}

func withPool(ctx context.Context, op, dsn string, opts *Options, fn func(m *migrator) ([]Migration, error)) ([]Migration, error) {
	pool, err := connect(ctx, dsn)
	if err != nil {
		return nil, fail(op, err)
	}
	defer pool.Close()
	m, err := newMigrator(pool, opts)
	if err != nil {
		return nil, fail(op, err)
	}
	done, err := fn(m)
	if err != nil {
		return nil, fail(op, err)
	}
	return done, nil
}

// migrator brings the tables of one schema to the latest version.
type migrator struct {
	pool   *pgxpool.Pool
	schema Schema
	all    []Migration
}

func newMigrator(pool *pgxpool.Pool, opts *Options) (*migrator, error) {
	all, err := migrationsOf(opts)
	return &migrator{pool, opts.schema(), all}, err
}

// run brings the tables to the latest version. Each migration is one transaction under a lock, so that any number of processes may
// start at once, and any of them may be killed.
func (m *migrator) run(ctx context.Context) (done []Migration, err error) {
	version, err := m.check(ctx)
	if err != nil {
		return nil, err
	}
	for version < latestSchema {
		var mine bool
		version, mine, err = m.next(ctx)
		switch {
		case hasCode(err, insufficientPrivilege):
			return done, fmt.Errorf("%w: this role may not create the tables in schema %s: migrate with a role that may, then give this one what Grants returns: %w",
				pulse.ErrInvalid, m.schema, err)
		case err != nil:
			return done, err
		case mine:
			done = append(done, m.all[version-1])
		}
	}
	return done, nil
}

// check refuses servers, databases and tables that this version does not work with, and returns the version of the tables.
func (m *migrator) check(ctx context.Context) (version int, err error) {
	if err := m.checkServer(ctx); err != nil {
		return 0, err
	}
	version, err = m.version(ctx, m.pool)
	if err == nil && version > latestSchema {
		err = fmt.Errorf("%w: schema %s was written by a newer pulse (version %d, this one knows %d): upgrade pulse",
			pulse.ErrInvalid, m.schema, version, latestSchema)
	}
	return version, err
}

func (m *migrator) checkServer(ctx context.Context) error {
	var version int
	var name, encoding, client string
	err := m.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'),
		current_setting('server_encoding'), current_setting('client_encoding')`).Scan(&version, &name, &encoding, &client)
	switch {
	case err != nil:
		return err
	case version < oldestServer:
		return fmt.Errorf("%w: the server is PostgreSQL %s: use 14 or newer", pulse.ErrInvalid, name)
	case encoding != "UTF8":
		return fmt.Errorf("%w: the database has the encoding %s: create it with ENCODING 'UTF8'", pulse.ErrInvalid, encoding)
	case client != "UTF8" && client != "SQL_ASCII":
		return fmt.Errorf("%w: %s", pulse.ErrInvalid, explainEncoding(client))
	}
	return nil
}

// rowQuerier is a pool or a transaction.
type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// version returns the number of the last migration that was carried out, 0 when none was.
func (m *migrator) version(ctx context.Context, db rowQuerier) (version int, err error) {
	var exists bool // asked of the catalogs, as to_regclass remembers what was not there when the transaction began
	err = db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = 'settings')`, string(m.schema)).Scan(&exists)
	if err != nil || !exists {
		return 0, err
	}
	err = db.QueryRow(ctx, m.schema.sql("SELECT schema_version FROM @settings")).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: the log in schema %s has no settings: its tables are there, but not all that was in them: copy the rest, "+
			"or name another schema", pulse.ErrInvalid, m.schema)
	}
	return version, err
}

// next carries out one migration, unless another process did meanwhile, and returns the version then.
func (m *migrator) next(ctx context.Context) (version int, mine bool, err error) {
	err = m.schema.inTx(ctx, m.pool, opMigrate, func(tx *lazyTx) error {
		_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('pulse migrations of schema ' || $1::text, 0))", string(m.schema))
		if err != nil {
			return err
		}
		if version, err = m.version(ctx, tx); err != nil || version >= latestSchema {
			return err
		}
		version, mine = version+1, true
		if _, err := tx.Exec(ctx, m.all[version-1].SQL, pgx.QueryExecModeSimpleProtocol); err != nil { // takes several statements
			return fmt.Errorf("migrate to version %d: %w", version, err)
		}
		return nil
	})
	return version, mine, err
}

func migrationsOf(opts *Options) (all []Migration, err error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	schema := opts.schema()
	for number := 1; number <= latestSchema; number++ {
		names, err := fs.Glob(migrations, fmt.Sprintf("migrations/%04d_*.sql", number))
		if err != nil || len(names) != 1 {
			return nil, fmt.Errorf("there are %d migrations with the number %d: %w", len(names), number, err)
		}
		script, err := migrations.ReadFile(names[0])
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(names[0], fmt.Sprintf("migrations/%04d_", number)), ".sql")
		sql := schema.sql(string(script))
		if number == 1 {
			sql = createSchemaSQL(schema) + sql + settleSQL(schema, opts)
		} else {
			sql += schema.sql(fmt.Sprintf("\nUPDATE @settings SET schema_version = %d;\n", number))
		}
		all = append(all, Migration{number, strings.ReplaceAll(name, "_", " "), sql})
	}
	return all, nil
}

// createSchemaSQL creates the schema. An existing one needs no right to do so, as CREATE SCHEMA IF NOT EXISTS would.
func createSchemaSQL(schema Schema) string {
	return fmt.Sprintf(`DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = '%[1]s') THEN
        CREATE SCHEMA "%[1]s";
    END IF;
END $$;

`, schema)
}

// settleSQL writes what a new log keeps for good.
func settleSQL(schema Schema, opts *Options) string {
	origin, limit := "'pulse/' || gen_random_uuid()", defaultMaxBytes
	if opts != nil && opts.Origin != "" {
		origin = quoteLiteral(opts.Origin)
	}
	if opts != nil && opts.MaxEventBytes > 0 {
		limit = opts.MaxEventBytes
	}
	return schema.sql(`
INSERT INTO @settings (schema_version, origin, max_event_bytes, epoch, xid_epoch, system_identifier, timeline)
SELECT 1, `) + fmt.Sprintf("%s, %d, 1, 1, system_identifier, %s\nFROM pg_control_system();\n", origin, limit, timelineSQL)
}

// quoteLiteral writes a text as SQL, whatever standard_conforming_strings is.
func quoteLiteral(s string) string {
	return "E'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(s) + "'"
}
