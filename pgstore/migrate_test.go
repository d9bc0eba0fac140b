package pgstore_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
)

// Plan tells what would be done and does nothing of it; Migrate does that and tells it; then there is nothing left to do.
func TestPlanAndMigrate(t *testing.T) {
	dsn := newDatabase(t)
	opts := &pgstore.Options{Schema: "school", Origin: `o'rigin \ @x`, MaxEventBytes: 3000}
	all, err := pgstore.Migrations(opts)
	if err != nil || len(all) == 0 || all[0].Version != 1 || all[0].Name == "" {
		t.Fatalf("migrations %+v: %v", all, err)
	}
	plan, err := pgstore.Plan(t.Context(), dsn, opts)
	if err != nil || len(plan) != len(all) || plan[0] != all[0] {
		t.Fatalf("for an empty database the plan has %d migrations, want %d: %v", len(plan), len(all), err)
	}
	pool := openPool(t, dsn, "2")
	if n := schemas(t, pool, "school"); n != 0 {
		t.Fatal("the plan was carried out")
	}
	done, err := pgstore.Migrate(t.Context(), dsn, opts)
	if err != nil || len(done) != len(all) {
		t.Fatalf("%d migrations were carried out, want %d: %v", len(done), len(all), err)
	}
	for what, ask := range map[string]func(context.Context, string, *pgstore.Options) ([]pgstore.Migration, error){"plan": pgstore.Plan, "migrate": pgstore.Migrate} {
		if left, err := ask(t.Context(), dsn, opts); err != nil || len(left) != 0 {
			t.Errorf("%s: %d migrations are left: %v", what, len(left), err)
		}
	}
	if i := info(t, openWith(t, dsn, &pgstore.Options{Schema: "school"})); i.Origin != opts.Origin || i.MaxBytes != 3000 {
		t.Fatalf("the log is %+v", i)
	}
}

// A person may carry out the text of the migrations, in one transaction, with whatever program.
func TestMigrationsAreCompleteText(t *testing.T) {
	dsn := newDatabase(t)
	all, err := pgstore.Migrations(nil)
	if err != nil {
		t.Fatal(err)
	}
	grants, err := pgstore.Grants("", newRole(t, dsn))
	if err != nil {
		t.Fatal(err)
	}
	pool := openPool(t, dsn, "1")
	if _, err := pool.Exec(t.Context(), "BEGIN; "+all[0].SQL+grants+"COMMIT", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if left, err := pgstore.Plan(t.Context(), dsn, nil); err != nil || len(left) != 0 {
		t.Fatalf("%d migrations are left: %v", len(left), err)
	}
	s := openStore(t, dsn)
	if origin := originOf(t, s); !strings.HasPrefix(origin, "pulse/") || len(origin) < 40 {
		t.Fatalf("the log is named %q", origin)
	}
	appendTo(t, s, lessons(originOf(t, s), 2)...)
}

// schemas counts those of a name.
func schemas(t testing.TB, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, name string,
) int64 {
	t.Helper()
	return number(t, db, "SELECT count(*) FROM pg_namespace WHERE nspname = $1", name)
}

// What does not fit is refused in a sentence that says what to do, and nothing is changed.
func TestOpenRefusesServersItCannotUse(t *testing.T) {
	dsn := newDatabase(t)
	admin := openPool(t, dsn, "2")
	run(t, admin, "CREATE SCHEMA fake")
	run(t, admin, `CREATE FUNCTION fake.current_setting(name text) RETURNS text LANGUAGE sql
		AS $$ SELECT CASE name WHEN 'server_version_num' THEN '130012' WHEN 'server_version' THEN '13.12' ELSE pg_catalog.current_setting(name) END $$`)
	run(t, admin, "CREATE ROLE visitor LOGIN")
	t.Cleanup(func() { pgtest.Exec(t, dsn, "DROP ROLE visitor") })
	latin := admin.Config().ConnConfig.Database + "_latin"
	run(t, admin, "CREATE DATABASE "+latin+" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
	t.Cleanup(func() { pgtest.Exec(t, dsn, "DROP DATABASE "+latin+" WITH (FORCE)") })
	for _, c := range []struct {
		name, dsn string
		want      error
		says      string
	}{
		{"an old server", dsn + " options='-c search_path=fake,pg_catalog'", pulse.ErrInvalid, "use 14 or newer"},
		{"another encoding", pgtest.OnDatabase(t, dsn, latin), pulse.ErrInvalid, "ENCODING 'UTF8'"},
		{"no rights", onRole(dsn, "visitor"), pulse.ErrInvalid, "what Grants returns"},
		{"no such role", onRole(dsn, "nobody_at_all"), pulse.ErrInvalid, "user and password"},
		{"no such database", pgtest.OnDatabase(t, dsn, "nowhere"), pulse.ErrInvalid, "create it"},
		{"a standby", dsn + " options='-c default_transaction_read_only=on'", pulse.ErrStore, "use the primary"},
		{"not a DSN", "://", pulse.ErrInvalid, "such as postgres://"},
		{"nobody there", "host=127.0.0.1 port=1 dbname=x", pulse.ErrStore, "cannot be reached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := pgstore.Open(t.Context(), c.dsn, nil)
			if err == nil {
				_ = s.Close()
			}
			wantError(t, err, c.want, c.says)
			if strings.Count(err.Error(), "dial error") > 1 || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), ":;") {
				t.Errorf("the error is not one sentence: %v", err)
			}
			_, err = pgstore.Migrate(t.Context(), c.dsn, nil)
			wantError(t, err, c.want, c.says)
		})
	}
	for _, db := range []string{dsn, pgtest.OnDatabase(t, dsn, latin)} {
		if pool := openPool(t, db, "1"); schemas(t, pool, "pulse") != 0 {
			t.Error("something was created")
		}
	}
}

// A role with what Grants gives cannot change the log. That it can do all else is shown by TestConformance.
func TestTheApplicationsRole(t *testing.T) {
	dsn := newDatabase(t)
	owner := openPool(t, dsn, "2")
	const role = `an "app`
	run(t, owner, `CREATE ROLE "an ""app" LOGIN`)
	t.Cleanup(func() { pgtest.Exec(t, dsn, `DROP ROLE "an ""app"`) })
	app := dsn + ` user='an "app'`
	t.Cleanup(func() { pgtest.Exec(t, dsn, `DROP OWNED BY "an ""app"`) })

	openStore(t, dsn)
	_, err := pgstore.Open(t.Context(), app, nil)
	wantError(t, err, pulse.ErrInvalid, "what Grants returns")
	run(t, owner, `GRANT USAGE ON SCHEMA pulse TO "an ""app"`)
	run(t, owner, `GRANT DELETE, UPDATE ON pulse.events TO "an ""app"`) // too much: taken back
	grants, err := pgstore.Grants("", role)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again is no error
		if _, err := owner.Exec(t.Context(), grants, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	taking, err := pgstore.Grants("", owner.Config().ConnConfig.User)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := owner.Exec(t.Context(), taking, pgx.QueryExecModeSimpleProtocol); err == nil || !strings.Contains(err.Error(), "owns the tables of the log") {
		t.Errorf("grants to the owner: %v", err)
	}
	s, pool := openStore(t, app), openPool(t, app, "2")
	recs := lessons(originOf(t, s), 3)
	appendTo(t, s, recs...)
	appendTo(t, s, recs...)
	if len(readAll(t, s)) != 3 {
		t.Fatal("events are missing")
	}
	for _, statement := range []string{
		"UPDATE pulse.events SET name = 'x'", "DELETE FROM pulse.events", "TRUNCATE pulse.events", "UPDATE pulse.positions SET position = 9",
		"DELETE FROM pulse.positions", "UPDATE pulse.settings SET origin = 'x'", "ALTER TABLE pulse.events DISABLE TRIGGER ALL", "CREATE TABLE pulse.mine ()",
		"SELECT setval('pulse.event_units', 1)",
	} {
		_, err := pool.Exec(t.Context(), statement)
		if err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v, want permission denied", statement, err)
		}
	}
	run(t, owner, "UPDATE pulse.settings SET system_identifier = 1") // as if it was restored
	_, err = s.Reconcile(t.Context())
	wantError(t, err, pulse.ErrInvalid, "owner")
}

// Grants that fail halfway, carried out by psql, which commits each statement, take nothing from a role that had them.
func TestGrantsAreGivenTogether(t *testing.T) {
	server := pgtest.New(t)
	role := newRole(t, server.DSN())
	grant(t, server.DSN(), "pulse", role)
	owner := openPool(t, server.DSN(), "1")
	rights := func() int64 {
		return number(t, owner, "SELECT count(*) FROM information_schema.table_privileges WHERE table_schema = 'pulse' AND grantee = $1", role)
	}
	before := rights()
	run(t, owner, "ALTER TABLE pulse.lookup RENAME TO elsewhere")
	grants, err := pgstore.Grants("", role)
	if err != nil {
		t.Fatal(err)
	}
	psql := server.Command("psql", "-q", server.DSN())
	psql.Stdin = strings.NewReader(grants)
	if out, err := psql.CombinedOutput(); err != nil || !strings.Contains(string(out), `"pulse.lookup" does not exist`) {
		t.Fatalf("psql: %v: %s", err, out)
	}
	if after := rights(); after != before || before == 0 {
		t.Errorf("the role has %d rights on tables, it had %d", after, before)
	}
}

func TestGrantsRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		schema pgstore.Schema
		role   string
	}{"no role": {"", ""}, "a schema to be quoted": {"My Schema", "app"}} {
		t.Run(name, func(t *testing.T) {
			sql, err := pgstore.Grants(c.schema, c.role)
			if sql != "" {
				t.Errorf("it returned %q", sql)
			}
			wantError(t, err, pulse.ErrInvalid)
		})
	}
}
