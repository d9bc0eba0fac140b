package pgstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

func openStore(t testing.TB, dsn string) *pgstore.Store {
	t.Helper()
	return openWith(t, dsn, nil)
}

func openWith(t testing.TB, dsn string, opts *pgstore.Options) *pgstore.Store {
	t.Helper()
	s, err := pgstore.Open(t.Context(), dsn, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openPool returns connections of the user's own.
func openPool(t testing.TB, dsn string, connections string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn+" pool_max_conns="+connections)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// openBus returns a bus over s.
func openBus(t testing.TB, s pulse.Store) *pulse.Bus {
	t.Helper()
	bus, err := pulse.New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
	return bus
}

func info(t testing.TB, s pulse.Store) pulse.Info {
	t.Helper()
	i, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func originOf(t testing.TB, s pulse.Store) string { return info(t, s).Origin }

func appendTo(t testing.TB, a pulse.Appender, recs ...pulse.Record) {
	t.Helper()
	if err := a.Append(t.Context(), recs); err != nil {
		t.Fatal(err)
	}
}

// readAll returns the whole log, after everything committed has got its position, and ends the test if there is a gap.
func readAll(t testing.TB, s pulse.Store) (envs []pulse.Envelope) {
	t.Helper()
	info(t, s)
	for q := (pulse.Query{}); ; {
		page, err := s.Read(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, env := range page.Envelopes {
			if env.Position != pulse.Position(len(envs)+1) {
				t.Fatalf("position %d follows %d", env.Position, len(envs))
			}
			envs = append(envs, env)
		}
		if page.Next == q.After {
			return envs
		}
		q.After = page.Next
	}
}

// run carries out a statement of the user's.
func run(t testing.TB, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, sql string, args ...any,
) {
	t.Helper()
	rows, err := db.Query(t.Context(), sql, args...)
	if err == nil {
		rows.Close()
		err = rows.Err()
	}
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// number asks for one number.
func number(t testing.TB, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, sql string, args ...any,
) (n int64) {
	t.Helper()
	if err := db.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// wantError ends the test unless err is target and its text contains each of the parts.
func wantError(t testing.TB, err, target error, parts ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v, want one that is %q", err, target)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Fatalf("error is %q, want it to say %q", err, part)
		}
	}
}

// eventually waits until what is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after %s: %s", patience, what)
		}
	}
}
