package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

// Errors of PostgreSQL that have a sentence of their own.
const (
	wrongPassword = "28P01"
	notLetIn      = "28000"
	noDatabase    = "3D000"
	notAllowed    = "42501"
	startingUp    = "57P03"
)

// OpenPostgres opens the log in PostgreSQL that spec names, and makes its tables when there are none. The caller closes it.
func OpenPostgres(ctx context.Context, spec StoreSpec) (*pgstore.Store, error) {
	store, err := pgstore.Open(ctx, spec.DSN(), spec.options())
	if err != nil {
		return nil, explainOpen(spec, err, "create the tables")
	}
	return store, nil
}

func (a *App) openPostgres(ctx context.Context, opts OpenOptions) error {
	spec := a.Config.Store
	pending, err := PlanMigrations(ctx, spec)
	if err != nil {
		return err
	}
	a.Created = len(pending) > 0 && pending[0].Version == 1
	if a.Created && !opts.Create {
		return fmt.Errorf("%w in schema %s of %s: create it by pulse migrate, or name another schema by ?schema=NAME in the URL", ErrNoStore, spec.Schema(), spec)
	}
	store, err := OpenPostgres(ctx, spec)
	if err != nil {
		return err
	}
	a.Store, a.close = store, store.Close
	return nil
}

func (s StoreSpec) options() *pgstore.Options { return &pgstore.Options{Schema: s.Schema()} }

// Migrate brings the tables of a log in PostgreSQL to this version and returns what it did.
func Migrate(ctx context.Context, spec StoreSpec) ([]pgstore.Migration, error) {
	done, err := pgstore.Migrate(ctx, spec.DSN(), spec.options())
	return done, explainOpen(spec, err, "create the tables")
}

// PlanMigrations returns what Migrate would do.
func PlanMigrations(ctx context.Context, spec StoreSpec) ([]pgstore.Migration, error) {
	pending, err := pgstore.Plan(ctx, spec.DSN(), spec.options())
	return pending, explainOpen(spec, err, useTables)
}

// AllMigrations returns what Migrate would do to an empty database. It asks no server.
func AllMigrations(spec StoreSpec) ([]pgstore.Migration, error) {
	return pgstore.Migrations(spec.options())
}

// Foreign reports whether the log of spec was restored or copied into the cluster it is in: then it takes events, but gives them no
// position before Reconcile.
func Foreign(ctx context.Context, spec StoreSpec) (foreign bool, err error) {
	pending, err := PlanMigrations(ctx, spec)
	if err != nil {
		return false, err
	}
	if len(pending) > 0 && pending[0].Version == 1 {
		return false, fmt.Errorf("%w in schema %s of %s: name the schema by ?schema=NAME in the URL", ErrNoStore, spec.Schema(), spec)
	}
	err = withConnection(ctx, spec, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT s.system_identifier <> c.system_identifier FROM `+spec.table("settings")+` s, pg_control_system() c`).Scan(&foreign)
	})
	return foreign, explainOpen(spec, err, useTables)
}

// Reconciled is what Reconcile did.
type Reconciled struct {
	Events int // that had no position and got one
	Epoch  int // that the log is in now
}

// Reconcile makes a log usable that is Foreign.
func Reconcile(ctx context.Context, spec StoreSpec) (r Reconciled, err error) {
	store, err := OpenPostgres(ctx, spec)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if r.Events, err = store.Reconcile(ctx); err != nil {
		return r, explainOpen(spec, err, "reconcile the log, which is for the owner of its tables")
	}
	info, err := store.Info(ctx)
	r.Epoch = info.Epoch
	return r, err
}

// table is the name of a table of the log in SQL.
func (s StoreSpec) table(name string) string {
	return pgx.Identifier{string(s.Schema()), name}.Sanitize()
}

// withConnection runs fn with a connection that keeps nothing in a session, so that it may be one of a pooler.
func withConnection(ctx context.Context, spec StoreSpec, fn func(conn *pgx.Conn) error) error {
	ofPool, err := pgxpool.ParseConfig(spec.DSN()) // which knows what the DSN says of pools
	if err != nil {
		return err
	}
	config := ofPool.ConnConfig
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return explainOpen(spec, err, useTables)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what was asked was answered
	return fn(conn)
}

// DropSchema takes a log in PostgreSQL away with all that is in it.
func DropSchema(ctx context.Context, spec StoreSpec) error {
	return withConnection(ctx, spec, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{string(spec.Schema())}.Sanitize()+" CASCADE")
		return err
	})
}

// storeError is an error of a store in one sentence for the person who configured it.
type storeError struct {
	text string
	err  error
}

func (e *storeError) Error() string { return e.text }
func (e *storeError) Unwrap() error { return e.err }

// useTables is what a role needs what pulse migrate --grants prints for.
const useTables = "use the tables"

// explainOpen says in one sentence why the store could not be opened. what is that for which rights may be missing.
func explainOpen(spec StoreSpec, err error, what string) error {
	if err == nil {
		return nil
	}
	say := func(format string, args ...any) error { return &storeError{fmt.Sprintf(format, args...), err} }
	config, parseErr := pgconn.ParseConfig(spec.DSN())
	if parseErr != nil {
		return err
	}
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch server.Code {
		case wrongPassword, notLetIn:
			return say("the server of %s does not let the user %s in: check name and password (PGPASSWORD or ~/.pgpass may hold it), and pg_hba.conf: %s",
				spec, config.User, server.Message)
		case noDatabase:
			return say("there is no database %s on the server of %s: create it with ENCODING 'UTF8', or name another one", config.Database, spec)
		case startingUp:
			return say("the server of %s takes no connections now: %s: try again soon", spec, server.Message)
		case notAllowed:
			if what != useTables {
				return say("the user %s of %s may not %s (%s): do it as the role that owns the tables, or that may create them", config.User, spec, what, server.Message)
			}
			return say("the user %s of %s may not %s (%s): give it the rights by the SQL that pulse migrate --grants %[1]s prints, or use the role that owns the tables",
				config.User, spec, what, server.Message)
		}
		return err
	}
	if connecting, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return say("the server of %s cannot be reached: %s: does it run, and is the address right?", spec, reasonOfConnect(connecting))
	}
	return err
}

// LacksRight reports whether a server refused what the user of the store may not do.
func LacksRight(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	return ok && server.Code == notAllowed
}

// explainDiverged says what to do about a log that was restored or copied.
func explainDiverged(spec StoreSpec, err error) error {
	if spec.Kind != KindPostgres || !errors.Is(err, pulse.ErrDiverged) {
		return err
	}
	return &storeError{fmt.Sprintf("the log in schema %s of %s was restored or copied from another cluster: see that only one copy is in use, then run pulse reconcile",
		spec.Schema(), spec), err}
}

// reasonOfConnect is what went wrong at each address, on one line.
func reasonOfConnect(err *pgconn.ConnectError) string {
	_, details, _ := strings.Cut(err.Error(), "`:")
	var reasons []string
	for line := range strings.Lines(details) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(reasons, line) {
			reasons = append(reasons, line)
		}
	}
	return strings.Join(reasons, "; ")
}

// Grants is the SQL that gives a role what an application needs of the log.
func Grants(spec StoreSpec, role string) (string, error) { return pgstore.Grants(spec.Schema(), role) }
