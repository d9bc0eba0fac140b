package pgstore_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
)

// Statements are named on the way to the server itself, or where the user says that they may be.
func TestWhereStatementsAreNamed(t *testing.T) {
	direct := newDatabase(t)
	server, err := shared.DSN()
	if err != nil {
		t.Fatal(err)
	}
	pooled := pgtest.Bouncer(t, server)(direct)
	for _, c := range []struct {
		name string
		open func() *pgstore.Store
		want bool
	}{
		{"direct", func() *pgstore.Store { return openStore(t, direct) }, true},
		{"behind a pooler", func() *pgstore.Store { return openStore(t, pooled) }, false},
		{"direct, and the DSN says no", func() *pgstore.Store { return openStore(t, direct+" default_query_exec_mode=exec") }, false},
		{"a pool as pgx makes it", func() *pgstore.Store { return openOn(t, openPool(t, direct, "4")) }, true},
		{"a pool for poolers", func() *pgstore.Store { return openOn(t, openPool(t, direct+" default_query_exec_mode=exec", "4")) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.open()
			appendTo(t, s, lessons(originOf(t, s), 1)...)
			info(t, s)
			if got := pgstore.NamesStatements(s); got != c.want {
				t.Errorf("statements are named: %t, want %t", got, c.want)
			}
		})
	}
}

func openOn(t *testing.T, pool *pgxpool.Pool) *pgstore.Store {
	t.Helper()
	s, err := pgstore.OpenPool(t.Context(), pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// A look brings along what it finds, unless that is much.
func TestInfoBringsTheNewest(t *testing.T) {
	s := openStore(t, newDatabase(t))
	origin := originOf(t, s)
	for _, c := range []struct{ events, want int }{{1, 1}, {3, 3}, {100, 0}} {
		appendTo(t, s, lessons(origin, c.events)...)
		if got := info(t, s).Newest; len(got) != c.want {
			t.Errorf("with %d new events came %d, want %d", c.events, len(got), c.want)
		}
	}
}

// A named statement that the server has forgotten, or knows another way, is nobody's error: everything is stored, once, and read.
func TestNamedStatementsThatAreNotWhatTheyWere(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, pool *pgxpool.Pool){
		"forgotten": func(t *testing.T, pool *pgxpool.Pool) { run(t, pool, "DEALLOCATE ALL") },
		"another result": func(t *testing.T, pool *pgxpool.Pool) {
			run(t, pool, `DO $do$ DECLARE near text := pg_get_functiondef('pulse.near'::regproc); BEGIN
				DROP FUNCTION pulse.near; EXECUTE replace(near, 'trace text', 'traced text'); END $do$`)
		},
		"the name is taken": func(t *testing.T, pool *pgxpool.Pool) {
			var names []string
			if err := pool.QueryRow(t.Context(), "SELECT array_agg(name) FROM pg_prepared_statements WHERE name LIKE 'stmt\\_%'").Scan(&names); err != nil {
				t.Fatal(err)
			}
			pool.Reset()
			for _, name := range names {
				run(t, pool, "PREPARE "+name+" AS SELECT 1")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool := openPool(t, newDatabase(t), "1")
			s := openOn(t, pool)
			origin := originOf(t, s)
			appendTo(t, s, lessons(origin, 1)...)
			info(t, s)
			spoil(t, pool)
			appendTo(t, s, lessons(origin, 1)...)
			appendTo(t, s, lessons(origin, 3)...)
			head := info(t, s).Head
			page, err := s.Read(t.Context(), pulse.Query{})
			if err != nil || head != 5 || len(page.Envelopes) != 5 {
				t.Errorf("the head is %d and %d events are read, want 5 and 5; %v", head, len(page.Envelopes), err)
			}
			if pgstore.NamesStatements(s) {
				t.Error("statements are named still")
			}
		})
	}
}
