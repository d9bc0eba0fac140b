package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

// Do wakes the bus, commits what fn wrote and emitted, or none of it.
func TestDo(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "4")
	run(t, pool, "CREATE TABLE lessons (title text NOT NULL)")
	do := func(outcome func(tx pgx.Tx) error) error {
		return pgstore.Do(t.Context(), pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
			if _, err := tx.Exec(t.Context(), "INSERT INTO lessons VALUES ('Fractions')"); err != nil {
				return err
			}
			if _, err := e.Emit(t.Context(), lesson()); err != nil {
				return err
			}
			return outcome(tx)
		})
	}
	if err := do(func(pgx.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := do(func(pgx.Tx) error { return errRollback }); err != errRollback { //nolint:errorlint // as it is
		t.Fatalf("error is %v, want the function's own", err)
	}
	wantError(t, do(func(tx pgx.Tx) error { _, _ = tx.Exec(t.Context(), "SELECT 1/0"); return nil }), pulse.ErrStore, "rolled back")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic of the function was swallowed")
			}
		}()
		_ = do(func(pgx.Tx) error { panic("out of chalk") })
	}()
	if n := number(t, pool, "SELECT count(*) FROM lessons"); n != 1 || info(t, s).Head != 1 {
		t.Fatalf("%d lessons and %d events, want 1 and 1", n, info(t, s).Head)
	}
}

// writes counts what is written to the connections of a pool.
type writes struct{ atomic.Int64 }

type countedConn struct {
	net.Conn
	writes *writes
}

func (c countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// countedPool is a pool whose writes are counted. Who does one thing after the other uses one connection of it.
func countedPool(t *testing.T, dsn string) (*pgxpool.Pool, *writes) {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn + " pool_max_conns=2")
	if err != nil {
		t.Fatal(err)
	}
	sent := &writes{}
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return countedConn{conn, sent}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool, sent
}

// BEGIN and events travel with statements and COMMIT, where these have parameters, as nearly all have.
func TestDoCostsFewRoundTrips(t *testing.T) {
	dsn := newDatabase(t)
	bus := openBus(t, openStore(t, dsn))
	pool, sent := countedPool(t, dsn)
	ctx := t.Context()
	emit := func(_ pgx.Tx, e pulse.Emitter) error { _, err := e.Emit(ctx, lesson()); return err }
	exec := func(tx pgx.Tx, _ pulse.Emitter) error { _, err := tx.Exec(ctx, "SELECT $1::int", 1); return err }
	bare := func(tx pgx.Tx, _ pulse.Emitter) error { _, err := tx.Exec(ctx, "SELECT 1"); return err }
	get := func(tx pgx.Tx, _ pulse.Emitter) error {
		var n int
		err := tx.QueryRow(ctx, "SELECT $1::int + 1", 1).Scan(&n)
		if err == nil && n != 2 {
			err = fmt.Errorf("1 and 1 is %d", n)
		}
		return err
	}
	list := func(tx pgx.Tx, _ pulse.Emitter) error {
		rows, _ := tx.Query(ctx, "SELECT generate_series(1, $1::int)", 3)
		all, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err == nil && len(all) != 3 {
			err = fmt.Errorf("there are %d rows, want 3", len(all))
		}
		return err
	}
	type steps []func(pgx.Tx, pulse.Emitter) error
	for _, c := range []struct {
		what  string
		steps steps
		want  int64
	}{
		{"nothing", steps{}, 0},
		{"an event", steps{emit}, 1},
		{"three events", steps{emit, emit, emit}, 1},
		{"a statement", steps{exec}, 2},
		{"a statement and an event", steps{exec, emit}, 2},
		{"an event and a statement", steps{emit, exec}, 2},
		{"a row and an event", steps{get, emit}, 2},
		{"rows and an event", steps{list, emit}, 2},
		{"an event, rows and a statement", steps{emit, list, exec}, 3},
		{"a row, a statement and two events", steps{get, exec, emit, emit}, 3},
		{"events between statements", steps{emit, get, emit, exec, emit}, 3},
		{"a statement without parameters", steps{bare, emit}, 3},
	} {
		do := func() error {
			return pgstore.Do(ctx, pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
				for _, step := range c.steps {
					if err := step(tx, e); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := do(); err != nil { // the connection gets to know the statements
			t.Fatal(err)
		}
		before := sent.Load()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if n := sent.Load() - before; n != c.want {
			t.Errorf("%s: sent by %d writes, want %d", c.what, n, c.want)
		}
	}
}

// What fn does and what it emits reach the server in that order, whatever of tx it uses: after the savepoint is rolled back nothing is left of what was
// emitted behind it, and what was emitted before it stays.
func TestDoKeepsTheOrder(t *testing.T) {
	const savepoint, back = "SAVEPOINT here", "ROLLBACK TO SAVEPOINT here"
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus := openBus(t, s)
	run(t, openPool(t, dsn, "2"), "CREATE TABLE copied (n int)")
	type pair struct {
		set, back func(ctx context.Context, tx pgx.Tx) error
	}
	both := func(do func(ctx context.Context, tx pgx.Tx, sql string) error) pair {
		return pair{
			func(ctx context.Context, tx pgx.Tx) error { return do(ctx, tx, savepoint) },
			func(ctx context.Context, tx pgx.Tx) error { return do(ctx, tx, back) },
		}
	}
	exec := func(ctx context.Context, tx pgx.Tx, sql string) error { _, err := tx.Exec(ctx, sql); return err }
	var conn *pgx.Conn
	var nested pgx.Tx
	ways := map[string]pair{
		"Exec": both(exec),
		"Query": both(func(ctx context.Context, tx pgx.Tx, sql string) error {
			rows, err := tx.Query(ctx, sql)
			rows.Close()
			return errors.Join(err, rows.Err())
		}),
		"QueryRow": both(func(ctx context.Context, tx pgx.Tx, sql string) error {
			if err := tx.QueryRow(ctx, sql).Scan(); !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			return nil
		}),
		"SendBatch": both(func(ctx context.Context, tx pgx.Tx, sql string) error {
			batch := &pgx.Batch{}
			batch.Queue(sql)
			return tx.SendBatch(ctx, batch).Close()
		}),
		"Begin": {
			func(ctx context.Context, tx pgx.Tx) (err error) { nested, err = tx.Begin(ctx); return err },
			func(ctx context.Context, _ pgx.Tx) error { return nested.Rollback(ctx) },
		},
		"Conn": {
			func(ctx context.Context, tx pgx.Tx) error {
				conn = tx.Conn()
				_, err := conn.Exec(ctx, savepoint)
				return err
			},
			func(ctx context.Context, _ pgx.Tx) error { _, err := conn.Exec(ctx, back); return err },
		},
	}
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		pool := openPool(t, dsn+" default_query_exec_mode="+mode, "2")
		for name, way := range ways {
			t.Run(mode+"/"+name, func(t *testing.T) {
				before := len(readAll(t, s))
				var kept, gone, last uuid.UUID
				err := pgstore.Do(t.Context(), pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
					emit := func(id *uuid.UUID) (err error) { *id, err = e.Emit(t.Context(), lesson()); return err }
					for _, step := range []func() error{
						func() error { return emit(&kept) }, func() error { return way.set(t.Context(), tx) },
						func() error { return emit(&gone) }, func() error { return way.back(t.Context(), tx) },
						func() error { return emit(&last) },
					} {
						if err := step(); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if envs := readAll(t, s)[before:]; len(envs) != 2 || envs[0].ID != kept || envs[1].ID != last {
					t.Errorf("there are %d events, want the first and the last of three", len(envs))
				}
			})
		}
	}
	pool := openPool(t, dsn, "2")
	for name, use := range map[string]func(ctx context.Context, tx pgx.Tx) error{ // a statement that fails shows that it came after the event
		"CopyFrom": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}}))
			return err
		},
		"Prepare": func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Prepare(ctx, "", "SELECT 1"); return err },
		"LargeObjects": func(ctx context.Context, tx pgx.Tx) error {
			objects := tx.LargeObjects()
			_, err := objects.Create(ctx, 0)
			return err
		},
		"Exec with a parameter": func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, "INSERT INTO copied SELECT $1::int FROM pulse.events WHERE xid = pg_current_xact_id()", 1)
			if err == nil && tag.RowsAffected() != 1 {
				err = fmt.Errorf("it saw %d events", tag.RowsAffected())
			}
			return err
		},
		"Exec with a named parameter": func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, "INSERT INTO copied SELECT @n::int FROM pulse.events WHERE xid = pg_current_xact_id()", pgx.NamedArgs{"n": 1})
			if err == nil && tag.RowsAffected() != 1 {
				err = fmt.Errorf("it saw %d events", tag.RowsAffected())
			}
			return err
		},
		"QueryRow with a parameter": func(ctx context.Context, tx pgx.Tx) error {
			var n int
			err := tx.QueryRow(ctx, "SELECT count(*) FROM pulse.events WHERE xid = pg_current_xact_id() AND $1", true).Scan(&n)
			if err == nil && n != 1 {
				err = fmt.Errorf("it saw %d events", n)
			}
			return err
		},
		"Query with a parameter": func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "SELECT count(*) FROM pulse.events WHERE xid = pg_current_xact_id() AND $1", true)
			if err != nil {
				return err
			}
			defer rows.Close()
			n := 0
			for rows.Next() {
				if err := rows.Scan(&n); err != nil {
					return err
				}
			}
			if rows.Err() == nil && n != 1 {
				err = fmt.Errorf("it saw %d events", n)
			}
			return errors.Join(err, rows.Err())
		},
		"Query that is left early": func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "SELECT generate_series(1, $1::int)", 1000)
			if err != nil || !rows.Next() {
				return errors.Join(err, errors.New("no rows"))
			}
			rows.Close()
			return rows.Err()
		},
		"QueryRow with options": func(ctx context.Context, tx pgx.Tx) error {
			var n int
			err := tx.QueryRow(ctx, "SELECT count(*) FROM pulse.events WHERE xid = pg_current_xact_id() AND $1", pgx.QueryExecModeExec, true).Scan(&n)
			if err == nil && n != 1 {
				err = fmt.Errorf("it saw %d events", n)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := pgstore.Do(t.Context(), pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
				if _, err := e.Emit(t.Context(), lesson()); err != nil {
					return err
				}
				if err := use(t.Context(), tx); err != nil {
					return err
				}
				if n := number(t, tx, "SELECT count(*) FROM pulse.events WHERE xid = pg_current_xact_id()"); n != 1 {
					return fmt.Errorf("the server has %d events, want 1", n)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// An id of the caller's is compared while Emit waits.
func TestDoComparesIDs(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "2")
	id := uuid.New()
	for range 2 {
		err := pgstore.Do(t.Context(), pool, bus, func(_ pgx.Tx, e pulse.Emitter) error {
			if _, err := e.Emit(t.Context(), lesson()); err != nil {
				return err
			}
			if _, err := e.Emit(t.Context(), lesson(), pulse.ID(id)); err != nil {
				return err
			}
			_, err := e.Emit(t.Context(), pulse.Raw{Name: "lesson.published", Data: []byte("{}")}, pulse.ID(id))
			wantError(t, err, pulse.ErrConflict)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if envs := readAll(t, s); len(envs) != 3 || envs[1].ID != id {
		t.Errorf("%d events, want three, the second with the id", len(envs))
	}
}

// Any number of events of any size, alone and in units, are stored in the order in which they were emitted.
func TestDoOfManyEvents(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "2")
	large := pulse.Raw{Name: "lesson.published", Data: []byte(`"` + strings.Repeat("x", 300<<10) + `"`)}
	var want []uuid.UUID
	err := pgstore.Do(t.Context(), pool, bus, func(_ pgx.Tx, e pulse.Emitter) error {
		for _, ev := range []pulse.Raw{lesson(), large} {
			for range map[bool]int{true: 10, false: 600}[len(ev.Data) > 1000] {
				id, err := e.Emit(t.Context(), ev)
				if err != nil {
					return err
				}
				want = append(want, id)
			}
		}
		for _, size := range []int{2, 200, 300} {
			evs := make([]pulse.Event, size)
			for i := range evs {
				evs[i] = lesson()
			}
			ids, err := e.EmitAll(t.Context(), evs)
			if err != nil {
				return err
			}
			want = append(want, ids...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	envs := readAll(t, s)
	if len(envs) != len(want) {
		t.Fatalf("%d events, want %d", len(envs), len(want))
	}
	for i := range want {
		if envs[i].ID != want[i] {
			t.Fatalf("event %d is not in its place", i)
		}
	}
}
