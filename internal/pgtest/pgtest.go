// Package pgtest gives tests a PostgreSQL server: one that the tests of a package share, with a database for each, or one of their own
// that they may kill. Only tests import it.
package pgtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Variable names a PostgreSQL server the tests may create databases on, as a DSN. Without it they start their own.
const Variable = "PULSE_POSTGRES"

// Patience is how long a test waits for what must happen.
const Patience = 30 * time.Second

// Shared is the server of all tests of a package that do no harm to it. It starts when it is first asked for. The zero value is
// ready; Main or Stop stops it.
type Shared struct {
	once   sync.Once
	dsn    string // of a database to connect to for creating others
	err    error
	server *Server // nil when the server is not ours

	mu      sync.Mutex
	created int
}

// Main wraps the tests of a package, for goleak.VerifyTestMain or testscript.Main: the server is stopped after they ran.
func (s *Shared) Main(m interface{ Run() int }) Stopping { return Stopping{m, s} }

// Stopping runs tests and stops the server they shared.
type Stopping struct {
	tests  interface{ Run() int }
	shared *Shared
}

// Run returns the exit code.
func (s Stopping) Run() int {
	code := s.tests.Run()
	if err := s.shared.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "the test server:", err)
		return max(code, 1)
	}
	return code
}

// DSN returns the DSN of a database of the server to connect to for creating others.
func (s *Shared) DSN() (string, error) {
	s.once.Do(func() {
		if s.dsn = os.Getenv(Variable); s.dsn != "" {
			return
		}
		if s.server, s.err = Start(); s.err == nil {
			s.dsn = s.server.DSN()
		}
	})
	return s.dsn, s.err
}

// Stop stops the server, if it is ours and runs.
func (s *Shared) Stop() error {
	if s.server == nil {
		return nil
	}
	return s.server.Remove()
}

// Database creates a database that goes when the test ends, and returns its DSN in key=value form.
func (s *Shared) Database(t testing.TB) string {
	t.Helper()
	dsn, err := s.DSN()
	if err != nil {
		t.Fatalf("no PostgreSQL to test with, run scripts/setup.sh or set %s: %v", Variable, err)
	}
	s.mu.Lock()
	s.created++
	name := fmt.Sprintf("pulse_test_%d_%d", os.Getpid(), s.created)
	s.mu.Unlock()
	Exec(t, dsn, "CREATE DATABASE "+name)
	t.Cleanup(func() { Exec(t, dsn, "DROP DATABASE "+name+" WITH (FORCE)") })
	return OnDatabase(t, dsn, name)
}

// OnDatabase is dsn with another database.
func OnDatabase(t testing.TB, dsn, name string) string {
	t.Helper()
	c := parse(t, dsn)
	return fmt.Sprintf("host=%s port=%d user=%s password='%s' dbname=%s sslmode=disable", c.Host, c.Port, c.User, c.Password, name)
}

// URL is dsn as a URL.
func URL(t testing.TB, dsn string) string {
	t.Helper()
	c := parse(t, dsn)
	u := url.URL{
		Scheme: "postgres", User: url.User(c.User), Host: net.JoinHostPort(c.Host, Port(c)), Path: "/" + c.Database, RawQuery: "sslmode=disable",
	}
	if c.Password != "" {
		u.User = url.UserPassword(c.User, c.Password)
	}
	return u.String()
}

// Port is the port as text.
func Port(c *pgx.ConnConfig) string { return strconv.Itoa(int(c.Port)) }

func parse(t testing.TB, dsn string) *pgx.ConnConfig {
	t.Helper()
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Exec runs a statement on a connection of its own.
func Exec(t testing.TB, dsn, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// binaries finds the directory of PostgreSQL's programs, the newest version where Debian keeps several.
func binaries() (string, error) {
	if dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(dirs) > 0 {
		slices.Sort(dirs)
		return filepath.Dir(dirs[len(dirs)-1]), nil
	}
	found, err := exec.LookPath("postgres")
	return filepath.Dir(found), err
}

// pooler finds pgbouncer, which Debian keeps where only root looks.
func pooler() (string, error) {
	if found, err := exec.LookPath("pgbouncer"); err == nil {
		return found, nil
	}
	return exec.LookPath("/usr/sbin/pgbouncer")
}
