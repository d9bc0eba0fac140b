package app

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
)

// postgres is the server of the tests of this package.
var postgres pgtest.Shared

// onPostgres is the configuration of a log in a database of the test's own.
func onPostgres(t *testing.T) Config {
	t.Helper()
	return Config{Store: specOf(t, pgtest.URL(t, postgres.Database(t))), Source: "/test"}
}

func specOf(t *testing.T, url string) StoreSpec {
	t.Helper()
	spec, err := ParseStore(url)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// as is the configuration with another user.
func as(t *testing.T, cfg Config, user, password string) Config {
	t.Helper()
	u, err := url.Parse(cfg.Store.Path)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	cfg.Store = specOf(t, u.String())
	return cfg
}

// with is the configuration with a parameter in the URL.
func with(t *testing.T, cfg Config, parameter string) Config {
	t.Helper()
	cfg.Store = specOf(t, cfg.Store.Path+"&"+parameter)
	return cfg
}

// newRole makes a role that can log in, and takes it away in the end.
func newRole(t *testing.T, cfg Config, name string) {
	t.Helper()
	pgtest.Exec(t, cfg.Store.DSN(), "CREATE ROLE "+name+" LOGIN")
	t.Cleanup(func() {
		pgtest.Exec(t, cfg.Store.DSN(), "SET transaction_read_only = off; DROP OWNED BY "+name+"; DROP ROLE "+name)
	})
}

const secret = "s3cr3t"

func TestParsePostgres(t *testing.T) {
	for in, want := range map[string]string{ // want is what is shown, or else an error
		"postgres://db/school":                                       "postgres://db/school",
		"postgresql://app@db:5433/school?sslmode=require":            "postgresql://app@db:5433/school?sslmode=require",
		"postgres://app:s3cr3t@db/school":                            "postgres://app@db/school",
		"postgres://app:s3cr3t@a:5432,b:5433/school?schema=exams":    "postgres://app@a:5432,b:5433/school?schema=exams",
		"postgres://db/school?password=s3cr3t&user=app":              "postgres://db/school?user=app",
		"postgres://db/school?%70assword=s3cr3t":                     "postgres://db/school",
		"postgres:///school?host=/run/postgresql&sslpassword=s3cr3t": "postgres:///school?host=/run/postgresql",
		"postgres://":                                                      "postgres://",
		"postgres:school":                                                  "no URL",
		"postgres://app:s3cr3t@db:port/school":                             "cannot be read, ",
		"postgres://app:s3cr3t@db/school?sslmode=never":                    "cannot be read, failed to configure TLS:",
		"postgres://app:s3cr3t/x@db/school":                                "percent-encode",
		"postgres://app:s3cr3t@x@db/school":                                "percent-encode",
		"postgres://app:s3cr3t?x@db/school":                                "percent-encode",
		"postgres://app:12/s3cr3t@db":                                      "percent-encode",
		"postgres://app:s3cr3t#x@db/school":                                "postgres://app@db/school",
		"postgres://app:s3cr3t%zz@db/school":                               "cannot be read",
		"postgres://app:s3cr3t@db/school?schema=Exams":                     `"Exams" is no name of a schema`,
		"postgres://app:s3cr3t@db/school?schema=pg_exams":                  "is no name of a schema",
		"postgres://app:s3cr3t@db/school?pool_max_conns=0":                 "pool_max_conns too small",
		"Postgres://app:s3cr3t@db/school":                                  "of no known kind",
		"mysql://app:s3cr3t@db/school":                                     "of no known kind",
		"host=db user=app password=s3cr3t":                                 "of no known kind: use sqlite:PATH or postgres://",
		"sqlite://app:s3cr3t@db/school":                                    "",
		"postgres:host=db password=s3cr3t":                                 "no URL",
		"postgresql://app:s3cr3t@[::1]:5432/school?application_name=pulse": "postgresql://app@[::1]:5432/school?application_name=pulse",
	} {
		t.Run(in, func(t *testing.T) {
			spec, err := ParseStore(in)
			if err == nil {
				if spec.Kind != KindPostgres || spec.String() != want || fmt.Sprintf("%v %+v", spec, Config{Store: spec}.Store) != want+" "+want {
					t.Errorf("shown as %s, want %s", spec, want)
				}
				return
			}
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) && want != "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}

func TestSchemaOfURL(t *testing.T) {
	for in, want := range map[string][3]string{ // the DSN, the schema, and the URL with another default
		"postgres://db/school":                                 {"postgres://db/school", "pulse", "postgres://db/school?schema=demo"},
		"postgres://db/school?schema=":                         {"postgres://db/school", "pulse", "postgres://db/school?schema=demo"},
		"postgres://db/school?schema=exams":                    {"postgres://db/school", "exams", "postgres://db/school?schema=exams"},
		"postgres://db/school?sslmode=disable":                 {"postgres://db/school?sslmode=disable", "pulse", "postgres://db/school?sslmode=disable&schema=demo"},
		"postgres://db/school?sslmode=disable&schema=exams":    {"postgres://db/school?sslmode=disable", "exams", "postgres://db/school?sslmode=disable&schema=exams"},
		"postgres://db/school?schema=exams&sslmode=disable":    {"postgres://db/school?sslmode=disable", "exams", "postgres://db/school?schema=exams&sslmode=disable"},
		"postgres://a:1@db/school?application_name=schema%3Dx": {"postgres://a:1@db/school?application_name=schema%3Dx", "pulse", "postgres://a@db/school?application_name=schema%3Dx&schema=demo"},
	} {
		t.Run(in, func(t *testing.T) {
			s := specOf(t, in)
			if got := [3]string{s.DSN(), string(s.Schema()), s.InSchema("demo").String()}; got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func TestPostgresIsCreatedOnlyWhenAsked(t *testing.T) {
	for _, parameter := range []string{"application_name=test", "schema=exams"} {
		t.Run(parameter, func(t *testing.T) {
			cfg := with(t, onPostgres(t), parameter)
			if _, err := Open(t.Context(), cfg, OpenOptions{}); !errors.Is(err, ErrNoStore) || !strings.Contains(err.Error(), "pulse migrate") {
				t.Fatalf("error %v", err)
			}
			for _, created := range []bool{true, false} {
				a, err := Open(t.Context(), cfg, OpenOptions{Create: true})
				if err != nil {
					t.Fatal(err)
				}
				if a.Created != created {
					t.Errorf("Created is %v, want %v", a.Created, created)
				}
				if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "a.b", Data: []byte(`1`)}); err != nil {
					t.Error(err)
				}
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			}
			pgtest.Exec(t, cfg.Store.DSN(), "SELECT 1 / (count(*) - 1) FROM "+cfg.Store.table("events")) // fails unless there are two
		})
	}
}

// What can be wrong with a server is said in one sentence, with what to do, and without the password.
func TestOpenPostgresRefuses(t *testing.T) {
	cfg := onPostgres(t)
	newRole(t, cfg, "guest")
	old := with(t, cfg, "schema=newer")
	if _, err := Migrate(t.Context(), old.Store); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, cfg.Store.DSN(), "UPDATE newer.settings SET schema_version = 99")
	nowhere := cfg
	nowhere.Store = specOf(t, "postgres://app:"+secret+"@127.0.0.1:1/school?sslmode=prefer")
	elsewhere := cfg
	elsewhere.Store.Path = strings.Replace(cfg.Store.Path, "/pulse_test_", "/missing_", 1)
	for name, tc := range map[string]struct {
		cfg   Config
		kind  error
		wants []string
	}{
		"no server":         {nowhere, pulse.ErrStore, []string{"postgres://app@127.0.0.1:1/school?sslmode=prefer cannot be reached: ", "connection refused", "does it run"}},
		"no database":       {as(t, elsewhere, "pulse", secret), pulse.ErrInvalid, []string{"there is no database missing_", "ENCODING 'UTF8'"}},
		"no role":           {as(t, cfg, "nobody_at_all", secret), pulse.ErrInvalid, []string{"does not let the user nobody_at_all in", "PGPASSWORD"}},
		"no right":          {as(t, cfg, "guest", secret), pulse.ErrInvalid, []string{"the user guest of ", "may not create the tables", "as the role that owns the tables"}},
		"no right to use":   {as(t, old, "guest", secret), pulse.ErrInvalid, []string{"the user guest of ", "may not use the tables", "pulse migrate --grants guest"}},
		"tables of another": {old, pulse.ErrInvalid, []string{"newer pulse (version 99", "upgrade pulse"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), tc.cfg, OpenOptions{Create: true})
			if !errors.Is(err, tc.kind) {
				t.Fatalf("error %v, want one that is %v", err, tc.kind)
			}
			for _, want := range tc.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not tell of %q", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q", err)
			}
		})
	}
}

// The role of an application opens the store that its owner has made, and emits.
func TestPostgresOfAnApplicationsRole(t *testing.T) {
	cfg := onPostgres(t)
	newRole(t, cfg, "app")
	done, err := Migrate(t.Context(), cfg.Store)
	if err != nil || len(done) == 0 {
		t.Fatalf("%d migrations, %v", len(done), err)
	}
	if done, err = Migrate(t.Context(), cfg.Store); err != nil || len(done) != 0 {
		t.Fatalf("the second time %d migrations, %v", len(done), err)
	}
	grant(t, cfg, "app")
	a, err := Open(t.Context(), as(t, cfg, "app", secret), OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "a.b", Data: []byte(`1`)}); err != nil {
		t.Error(err)
	}
}

func grant(t *testing.T, cfg Config, role string) {
	t.Helper()
	sql, err := Grants(cfg.Store, role)
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, cfg.Store.DSN(), sql)
}

func TestReconcile(t *testing.T) {
	cfg := onPostgres(t)
	if _, err := Foreign(t.Context(), cfg.Store); !errors.Is(err, ErrNoStore) {
		t.Fatalf("no store: %v", err)
	}
	a := createOn(t, cfg, 3)
	if foreign, err := Foreign(t.Context(), cfg.Store); foreign || err != nil {
		t.Fatalf("in its own cluster: %v, %v", foreign, err)
	}
	carryAway(t, cfg)
	emit(t, a, 2) // wait
	if foreign, err := Foreign(t.Context(), cfg.Store); !foreign || err != nil {
		t.Fatalf("carried away: %v, %v", foreign, err)
	}
	if _, err := Open(t.Context(), cfg, OpenOptions{}); !errors.Is(err, pulse.ErrDiverged) || !strings.Contains(err.Error(), "pulse reconcile") {
		t.Fatalf("opened: %v", err)
	}
	r, err := Reconcile(t.Context(), cfg.Store)
	if want := (Reconciled{Events: 2, Epoch: 2}); r != want || err != nil {
		t.Fatalf("got %+v, want %+v: %v", r, want, err)
	}
}

// createOn makes a log with n events that have a position. It is open until the test ends.
func createOn(t *testing.T, cfg Config, n int) *App {
	t.Helper()
	a, err := Open(t.Context(), cfg, OpenOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	emit(t, a, n)
	if info, err := a.Store.Info(t.Context()); err != nil || info.Head != pulse.Position(n) {
		t.Fatalf("%+v, %v", info, err)
	}
	return a
}

func emit(t *testing.T, a *App, n int) {
	t.Helper()
	for range n {
		if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "lesson.published", Data: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
}

// carryAway makes the log one that was written in another cluster.
func carryAway(t *testing.T, cfg Config) {
	t.Helper()
	pgtest.Exec(t, cfg.Store.DSN(), "UPDATE "+cfg.Store.table("settings")+" SET system_identifier = 1")
}
