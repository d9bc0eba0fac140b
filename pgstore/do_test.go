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

// An event emitted in Do makes no round trip: it goes to the server together with COMMIT.
func TestDoCostsNoRoundTrip(t *testing.T) {
	dsn := newDatabase(t)
	bus := openBus(t, openStore(t, dsn))
	config, err := pgxpool.ParseConfig(dsn + " pool_max_conns=1")
	if err != nil {
		t.Fatal(err)
	}
	var sent writes
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return countedConn{conn, &sent}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for _, events := range []int{0, 1, 3} {
		do := func() error {
			return pgstore.Do(t.Context(), pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
				if _, err := tx.Exec(t.Context(), "SELECT"); err != nil {
					return err
				}
				for range events {
					if _, err := e.Emit(t.Context(), lesson()); err != nil {
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
		if n := sent.Load() - before; n != 3 {
			t.Errorf("a transaction of one statement and %d events was sent by %d writes, want 3", events, n)
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

// An event that the server refuses is an error of the next statement and of Do, and nothing of the transaction stays, however careless fn is.
func TestDoRefuses(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "2")
	run(t, pool, "CREATE TABLE lessons (title text NOT NULL)")
	run(t, pool, "UPDATE pulse.settings SET max_event_bytes = 100") // the bus does not know
	ctx := t.Context()
	ways := map[string]func(tx pgx.Tx) error{
		"Exec":     func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT 1"); return err },
		"Query":    func(tx pgx.Tx) error { rows, _ := tx.Query(ctx, "SELECT 1"); rows.Close(); return rows.Err() },
		"QueryRow": func(tx pgx.Tx) error { var n int; return tx.QueryRow(ctx, "SELECT 1").Scan(&n) },
		"SendBatch": func(tx pgx.Tx) error {
			batch := &pgx.Batch{}
			batch.Queue("SELECT 1")
			return tx.SendBatch(ctx, batch).Close()
		},
		"CopyFrom": func(tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"lessons"}, []string{"title"}, pgx.CopyFromRows([][]any{{"x"}}))
			return err
		},
		"Prepare": func(tx pgx.Tx) error { _, err := tx.Prepare(ctx, "", "SELECT 1"); return err },
		"Begin":   func(tx pgx.Tx) error { _, err := tx.Begin(ctx); return err },
		"Conn":    func(tx pgx.Tx) error { _, err := tx.Conn().Exec(ctx, "SELECT 1"); return err },
		"LargeObjects": func(tx pgx.Tx) error {
			objects := tx.LargeObjects()
			_, err := objects.Create(ctx, 0)
			return err
		},
		"COMMIT": nil,
	}
	for name, way := range ways {
		for _, careless := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, careless %t", name, careless), func(t *testing.T) {
				err := pgstore.Do(ctx, pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
					if _, err := tx.Exec(ctx, "INSERT INTO lessons VALUES ('Fractions')"); err != nil {
						return err
					}
					if _, err := e.Emit(ctx, lesson()); err != nil {
						return err
					}
					if way == nil {
						return nil
					}
					err := way(tx)
					if err == nil {
						t.Error("the statement after a refused event succeeded")
					}
					if _, again := e.Emit(ctx, lesson()); again == nil {
						t.Error("and so did the next event")
					}
					if careless {
						return nil
					}
					return err
				})
				wantError(t, err, pulse.ErrTooLarge, "100 bytes")
			})
		}
	}
	if n := number(t, pool, "SELECT count(*) FROM lessons"); n != 0 || info(t, s).Head != 0 {
		t.Errorf("%d lessons and %d events stayed", n, info(t, s).Head)
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

// Once Do has returned its transaction takes nothing, and the connection is somebody else's. A transaction that fn ended is an error of Do.
func TestDoThatIsOver(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "1")
	ctx := t.Context()
	for _, events := range []int{0, 1} {
		var leftTx pgx.Tx
		var left pulse.Emitter
		err := pgstore.Do(ctx, pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
			leftTx, left = tx, e
			_, err := e.EmitAll(ctx, []pulse.Event{lesson(), lesson()}[:events])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = leftTx.Exec(ctx, "SELECT 1")
		wantError(t, err, pgx.ErrTxClosed)
		wantError(t, leftTx.Commit(ctx), pgx.ErrTxClosed)
		wantError(t, leftTx.Rollback(ctx), pgx.ErrTxClosed)
		_, err = left.Emit(ctx, lesson())
		wantError(t, err, pulse.ErrClosed)
		for what, end := range map[string]func(pgx.Tx) error{
			"commits": func(tx pgx.Tx) error { return tx.Commit(ctx) }, "rolls back": func(tx pgx.Tx) error { return tx.Rollback(ctx) },
		} {
			before := info(t, s).Head
			err := pgstore.Do(ctx, pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
				if _, err := e.EmitAll(ctx, []pulse.Event{lesson(), lesson()}[:events]); err != nil {
					return err
				}
				return end(tx)
			})
			wantError(t, err, pulse.ErrClosed, "the transaction is over")
			if n := info(t, s).Head - before; n != pulse.Position(map[string]int{"commits": events}[what]) {
				t.Errorf("fn %s: %d events of %d", what, n, events)
			}
		}
	}
}
