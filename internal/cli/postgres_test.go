package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/edupulse-live/pulse/internal/pgtest"
)

// postgres is the server of the tests of this package.
var postgres pgtest.Shared

// setupPostgres gives a script whose name begins with pg_ a database of its own: $DB is its URL, $OTHER one of a database that is not there.
func setupPostgres(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok || !strings.HasPrefix(t.Name(), "TestScripts/pg_") {
		return nil
	}
	dsn := postgres.Database(t)
	env.Setenv("DB", pgtest.URL(t, dsn))
	env.Setenv("OTHER", pgtest.URL(t, pgtest.OnDatabase(t, dsn, "not_there")))
	env.Setenv("PULSE_STORE", pgtest.URL(t, dsn))
	return nil
}

// scriptPSQL is the script command `psql [-f FILE] STATEMENT...`, which runs SQL on $DB.
func scriptPSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: psql [-f FILE] [STATEMENT]...")
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, ts.Getenv("DB"))
	ts.Check(err)
	defer conn.Close(ctx)
	if args[0] == "-f" {
		args = []string{ts.ReadFile(args[1])}
	}
	_, err = conn.Exec(ctx, strings.Join(args, " "), pgx.QueryExecModeSimpleProtocol)
	ts.Check(err)
}
