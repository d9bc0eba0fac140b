package pgstore_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
	"github.com/edupulse-live/pulse/storetest"
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
		{"direct, and the DSN lets none be kept", func() *pgstore.Store { return openStore(t, direct+" statement_cache_capacity=0") }, false},
		{"a pool as pgx makes it", func() *pgstore.Store { return openOn(t, openPool(t, direct, "4")) }, true},
		{"a pool for poolers", func() *pgstore.Store { return openOn(t, openPool(t, direct+" default_query_exec_mode=exec", "4")) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.open()
			appendTo(t, s, lessons(originOf(t, s), 1)...)
			info(t, s)
			if got := namesStatements(t, s); got != c.want {
				t.Errorf("statements are named: %t, want %t", got, c.want)
			}
		})
	}
}

func namesStatements(t *testing.T, s *pgstore.Store) bool {
	t.Helper()
	names, err := pgstore.NamesStatements(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A pooler comes between a store and its server: new connections are found to lead to it, and nothing fails but what was under way.
func TestAPoolerAppears(t *testing.T) {
	direct, proxied, p := throughProxy(t)
	server, err := shared.DSN()
	if err != nil {
		t.Fatal(err)
	}
	pooled, err := pgx.ParseConfig(pgtest.Bouncer(t, server)(direct))
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, proxied)
	origin := originOf(t, s)
	work := func() error { // all that a store sends, by ten at a time, so that they meet on the pooler's connections
		var group sync.WaitGroup
		errs := make([]error, 10)
		for i := range errs {
			group.Go(func() {
				errs[i] = errors.Join(
					s.Append(t.Context(), lessons(origin, 1)),
					s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
						var n int
						err := tx.Unwrap().(pgx.Tx).QueryRow(ctx, "SELECT $1::int", i).Scan(&n)
						return errors.Join(err, tx.Append(ctx, lessons(origin, 1)))
					}))
				_, err := s.Info(t.Context())
				errs[i] = errors.Join(errs[i], err)
			})
		}
		group.Wait()
		return errors.Join(errs...)
	}
	if err := work(); err != nil {
		t.Fatal(err)
	}
	p.server.Store(addressOf(&pooled.Config))
	p.cut()
	_ = work() // finds connections that were cut
	for range 5 {
		if err := work(); err != nil {
			t.Fatal(err)
		}
	}
}

// Where a statement is gone that was prepared, as behind a pooler that the store does not see, the error says what to do.
func TestAPoolerUnseen(t *testing.T) {
	s := openStore(t, newDatabase(t))
	recs := lessons(originOf(t, s), 2)
	recs[0].IDNew, recs[1].IDNew = true, true
	err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		if err := tx.Append(ctx, recs[:1]); err != nil {
			return err
		}
		if _, err := tx.Unwrap().(pgx.Tx).Exec(ctx, "DEALLOCATE ALL"); err != nil {
			return err
		}
		return tx.Append(ctx, recs[1:])
	})
	wantError(t, err, pulse.ErrStore, "default_query_exec_mode=exec")
	if head := info(t, s).Head; head != 0 {
		t.Errorf("%d events are stored", head)
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

// A look brings along what it finds: all that was appended through its store, also in transactions of others, and else what is not much.
func TestInfoBringsTheNewest(t *testing.T) {
	dsn := newDatabase(t)
	s, elsewhere, pool := openStore(t, dsn), openStore(t, dsn), openPool(t, dsn, "2")
	origin := originOf(t, s)
	large := storetest.Record(origin, func(r *pulse.Record) { r.Data = []byte(`"` + strings.Repeat("x", 4<<10) + `"`) })
	own := func(recs ...pulse.Record) { appendTo(t, s, recs...) }
	others := func(recs ...pulse.Record) { appendTo(t, elsewhere, recs...) }
	inTx := func(recs ...pulse.Record) {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		appendTo(t, pgstore.Tx(tx), recs...)
		s.Expect(recs)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	rolledBack := lessons(origin, 9000) // more than are kept
	s.Expect(rolledBack)
	for _, c := range []struct {
		what   string
		append func()
		want   int
	}{
		{"nothing", func() {}, 0},
		{"one", func() { own(lessons(origin, 1)...) }, 1},
		{"a hundred", func() { own(lessons(origin, 100)...) }, 100},
		{"several units", func() { own(lessons(origin, 2)...); own(lessons(origin, 50)...) }, 52},
		{"one in a transaction", func() { inTx(lessons(origin, 1)...) }, 1},
		{"a hundred in a transaction", func() { inTx(lessons(origin, 100)...) }, 100},
		{"others, after own ones", func() { others(lessons(origin, 3)...) }, 0}, // it was not prepared for them
		{"others again", func() { others(lessons(origin, 3)...) }, 3},
		{"many others", func() { others(lessons(origin, 100)...) }, 0},
		{"own ones behind others", func() { others(lessons(origin, 3)...); own(lessons(origin, 40)...) }, 40},
		{"others behind own ones", func() { own(lessons(origin, 40)...); others(lessons(origin, 3)...) }, 0},
		{"a large one between", func() { own(lessons(origin, 40)...); own(large); own(lessons(origin, 2)...) }, 2},
		{"no event of an attempt before", func() {
			first, second := lessons(origin, 1), lessons(origin, 1)
			s.Expect(first)
			second[0].ID = first[0].ID
			if err := second[0].Commit(); err != nil {
				t.Fatal(err)
			}
			others(second...)
		}, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.append()
			i := info(t, s)
			if len(i.Newest) != c.want {
				t.Fatalf("%d came, want %d", len(i.Newest), c.want)
			}
			page, err := s.Read(t.Context(), pulse.Query{After: i.Head - pulse.Position(c.want)})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(i.Newest, page.Envelopes) {
				t.Errorf("there came\n%+v\nand to be read are\n%+v", i.Newest, page.Envelopes)
			}
		})
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
			pool := openPool(t, newDatabase(t), "2") // of which one is used, as nothing is done at the same time
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
			if namesStatements(t, s) {
				t.Error("statements are named still")
			}
		})
	}
}
