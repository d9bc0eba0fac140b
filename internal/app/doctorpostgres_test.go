package app

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse/internal/pgtest"
)

func TestDoctorOnASoundPostgres(t *testing.T) {
	cfg := onPostgres(t)
	createOn(t, cfg, 3)
	got := findings(t, cfg)
	for _, want := range []string{
		"ok server: PostgreSQL ", ", UTF8, the database has ", "warn durability: fsync is off", "ok autovacuum: ", "ok wraparound: ", "ok transactions: none has been open for 5m0s",
		"ok prepared: ", "ok replication: ", "ok rights: the user pulse owns the schema pulse", "ok triggers: ", "ok epoch: epoch 1, in the cluster", "ok positions: 0 events wait",
		"ok store: postgres://", "3 events", "ok sequence: no gap in all 3 events", "ok commitments: ", "ok subscriptions: there are none",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("found nothing of %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "fail ") || strings.Count(got, "warn ") != 1 || strings.Contains(got, "space:") {
		t.Errorf("found:\n%s", got)
	}
}

func TestDoctorWithoutALogInPostgres(t *testing.T) {
	cfg := onPostgres(t)
	got := findings(t, cfg)
	if !strings.Contains(got, "ok server: ") || !strings.Contains(got, "fail store: no store in schema pulse of postgres://") || strings.Contains(got, "rights:") {
		t.Errorf("found:\n%s", got)
	}
	cfg.Store = specOf(t, "postgres://app:"+secret+"@127.0.0.1:1/school")
	if got := findings(t, cfg); !strings.HasPrefix(got, "fail store: the server of postgres://app@127.0.0.1:1/school cannot be reached: ") || strings.Contains(got, "\n") {
		t.Errorf("found:\n%s", got)
	}
}

// Each thing that can be wrong with a server or a log on it is found, with what to do.
func TestDoctorOnPostgres(t *testing.T) {
	for name, tc := range map[string]struct {
		harm string // statements that do it
		want string
		look func(cfg Config) Config // nil for as it is
	}{
		"commits that do not wait": {"ALTER ROLE pulse IN DATABASE %d SET synchronous_commit = off", "warn durability: synchronous_commit is off for this role", nil},
		"read-only":                {"ALTER DATABASE %d SET default_transaction_read_only = on", "fail server: transactions are read-only here", nil},
		"a trigger dropped":        {"DROP TRIGGER events_stay ON pulse.events", "fail triggers: the trigger events_stay on events is gone", nil},
		"a trigger disabled":       {"ALTER TABLE pulse.events DISABLE TRIGGER events_frozen", "fail triggers: the trigger events_frozen on events is gone or disabled", nil},
		"triggers out of force":    {"ALTER DATABASE %d SET session_replication_role = replica", "fail triggers: session_replication_role is replica", nil},
		"restored":                 {"UPDATE pulse.settings SET system_identifier = 1", "fail epoch: the log was restored or copied from another cluster, and 0 events wait for a position", nil},
		"promoted":                 {"UPDATE pulse.settings SET timeline = '00000000'", "ok epoch: epoch 1; the server was promoted since, the next who reads the log begins epoch 2", nil},
		"rights taken": {
			"GRANT INSERT ON pulse.inbox TO app; REVOKE DELETE ON pulse.deliveries FROM app; REVOKE USAGE ON SEQUENCE pulse.lease_tokens FROM app",
			"fail rights: the user app lacks DELETE on deliveries, USAGE on sequence lease_tokens: run the SQL that pulse migrate --grants app prints",
			func(cfg Config) Config { return as(t, cfg, "app", secret) },
		},
		"no subscription to be dropped": {
			"REVOKE DELETE ON pulse.subscriptions, pulse.leases FROM app", "fail rights: the user app lacks DELETE on leases, DELETE on subscriptions: run the SQL",
			func(cfg Config) Config { return as(t, cfg, "app", secret) },
		},
		"functions and columns taken": {
			"REVOKE EXECUTE ON FUNCTION pulse.tick, pulse.near FROM app, PUBLIC; REVOKE UPDATE (timeline) ON pulse.settings FROM app",
			"fail rights: the user app lacks EXECUTE on function near, EXECUTE on function tick, UPDATE on settings (timeline): run the SQL that pulse migrate --grants app prints",
			func(cfg Config) Config { return as(t, cfg, "app", secret) },
		},
		"the schema taken": {
			"REVOKE USAGE ON SCHEMA pulse FROM app",
			"may not use the tables (permission denied for schema pulse): give it the rights by the SQL that pulse migrate --grants app prints",
			func(cfg Config) Config { return as(t, cfg, "app", secret) },
		},
		"a pool of one": {
			"SELECT 1", "fail store: pgstore: open: invalid: a pool of one connection, for which all else would wait while a handler has its transaction: set pool_max_conns to 4 or more",
			func(cfg Config) Config { return with(t, cfg, "pool_max_conns=1") },
		},
		"settings of the pool": {"SELECT 1", "ok sequence: no gap in all 1 event\n", func(cfg Config) Config {
			return with(t, cfg, "pool_max_conns=4&pool_min_conns=1&pool_max_conn_lifetime=1h&default_query_exec_mode=exec")
		}},
		"nothing harmed": {
			"SELECT 1", "ok rights: the user app has what an application needs in schema pulse", func(cfg Config) Config { return as(t, cfg, "app", secret) },
		},
		"others not to be seen": {
			"SELECT 1", "ok transactions: none of this role has been open for 5m0s; to see others, GRANT pg_read_all_stats to it",
			func(cfg Config) Config { return as(t, cfg, "app", secret) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := onPostgres(t)
			createOn(t, cfg, 1)
			newRole(t, cfg, "app")
			grant(t, cfg, "app")
			database := cfg.Store.Path[strings.LastIndex(cfg.Store.Path, "/")+1 : strings.Index(cfg.Store.Path, "?")]
			pgtest.Exec(t, cfg.Store.DSN(), strings.ReplaceAll(tc.harm, "%d", database))
			if tc.look != nil {
				cfg = tc.look(cfg)
			}
			if got := findings(t, cfg); !strings.Contains(got, tc.want) || strings.Contains(got, secret) {
				t.Errorf("found nothing of %q in:\n%s", tc.want, got)
			}
		})
	}
}

// Transactions and slots that are left open are found by their age.
func TestDoctorOnWhatIsLeftOpen(t *testing.T) {
	server := pgtest.New(t, "wal_level=logical", "autovacuum=off")
	cfg := Config{Store: specOf(t, pgtest.URL(t, server.DSN()))}
	a := createOn(t, cfg, 1)
	emit(t, a, 2) // nobody gives them positions
	conn, err := pgx.Connect(t.Context(), server.DSN()+" application_name=forgotten")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, statement := range []string{
		"SELECT pg_create_logical_replication_slot('unread', 'test_decoding')",
		"BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'halfway'",
		"BEGIN; SELECT pg_current_xact_id()",
	} {
		if _, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'nowhere'", "SELECT pg_reload_conf()"} {
		pgtest.Exec(t, server.DSN(), statement)
	}
	awaitSetting(t, server.DSN(), "synchronous_standby_names", "nowhere")
	var lines []string
	d := &doctor{tell: func(f Finding) error {
		lines = append(lines, string(f.Verdict)+" "+f.Check+": "+f.Detail)
		return nil
	}}
	if !d.postgres(t.Context(), cfg.Store, 0) {
		t.Error("the store is not worth opening")
	}
	got := strings.Join(lines, "\n")
	for _, want := range []string{
		"warn autovacuum: ", `application "forgotten", idle in transaction) has had a transaction open for `, "SELECT pg_terminate_backend(",
		`warn prepared: the prepared transaction "halfway" of pulse has waited for `, "warn replication: nobody reads the replication slot unread (reserved), which keeps ",
		"fail standbys: commits wait for one of synchronous_standby_names (nowhere), and none is connected",
		"warn positions: 2 events wait for a position, the oldest for ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("found nothing of %q in:\n%s", want, got)
		}
	}
}

// awaitSetting waits until new connections have a setting.
func awaitSetting(t *testing.T, dsn, name, want string) {
	t.Helper()
	for deadline := time.Now().Add(pgtest.Patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		err = conn.QueryRow(t.Context(), "SELECT current_setting($1::text)", name).Scan(&got)
		_ = conn.Close(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%s is %q, not %q: %v", name, got, want, err)
		}
		if got == want {
			return
		}
	}
}

func TestVerdictOnXIDs(t *testing.T) {
	for left, want := range map[int64]Verdict{allXIDs: OK, warnXIDs: OK, warnXIDs - 1: Warn, failXIDs: Warn, failXIDs - 1: Fail, 0: Fail} {
		if got := verdictOnXIDs(left); got != want {
			t.Errorf("%d left: %s, want %s", left, got, want)
		}
	}
}
