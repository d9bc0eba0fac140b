package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

// An event that the server refuses is an error of the next statement and of Do, and nothing of the transaction stays, however careless fn is.
func TestDoRefuses(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "2")
	run(t, pool, "CREATE TABLE lessons (title text NOT NULL)")
	run(t, pool, "UPDATE pulse.settings SET max_event_bytes = 100") // the bus does not know
	ctx := t.Context()
	ways := map[string]func(tx pgx.Tx) error{
		"Exec":                      func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT 1"); return err },
		"Exec with a parameter":     func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT $1::int", 1); return err },
		"QueryRow with a parameter": func(tx pgx.Tx) error { var n int; return tx.QueryRow(ctx, "SELECT $1::int", 1).Scan(&n) },
		"Query with a parameter": func(tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, "SELECT $1::int", 1)
			rows.Close()
			return rows.Err()
		},
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

// A statement of fn's that fails is fn's error as it is, and whoever overlooks it commits nothing.
func TestDoOfStatementsThatFail(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "2")
	run(t, pool, "CREATE TABLE lessons (title text NOT NULL)")
	ctx := t.Context()
	var row int
	rows := func(tx pgx.Tx, sql string, args ...any) error {
		rows, _ := tx.Query(ctx, sql, args...)
		_, err := pgx.CollectRows(rows, pgx.RowTo[int])
		return err
	}
	for name, statement := range map[string]func(tx pgx.Tx) error{
		"unknown table":           func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT $1::int FROM nowhere", 1); return err },
		"unknown table for a row": func(tx pgx.Tx) error { return tx.QueryRow(ctx, "SELECT $1::int FROM nowhere", 1).Scan(&row) },
		"division":                func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT 1/$1::int", 0); return err },
		"division for a row":      func(tx pgx.Tx) error { return tx.QueryRow(ctx, "SELECT 1/$1::int", 0).Scan(&row) },
		"unknown table for rows":  func(tx pgx.Tx) error { return rows(tx, "SELECT $1::int FROM nowhere", 1) },
		"division for rows":       func(tx pgx.Tx) error { return rows(tx, "SELECT 1/$1::int", 0) },
		"division for later rows": func(tx pgx.Tx) error { return rows(tx, "SELECT 1/(2 - n) FROM generate_series(1, $1::int) n", 3) },
		"no parameter of that kind": func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO lessons VALUES ($1)", struct{}{})
			return err
		},
	} {
		for _, begun := range []bool{false, true} {
			for _, careless := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, begun %t, careless %t", name, begun, careless), func(t *testing.T) {
					var failed error
					err := pgstore.Do(ctx, pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
						if begun {
							if _, err := tx.Exec(ctx, "INSERT INTO lessons VALUES ('Fractions')"); err != nil {
								return err
							}
						}
						if _, err := e.Emit(ctx, lesson()); err != nil {
							return err
						}
						if failed = statement(tx); failed == nil {
							t.Error("it succeeded")
						}
						if careless {
							return nil
						}
						return failed
					})
					if careless {
						wantError(t, err, pulse.ErrStore, "rolled back")
					} else if err != failed { //nolint:errorlint // as it is
						t.Errorf("the error is %v, want the statement's: %v", err, failed)
					}
				})
			}
		}
	}
	if n := number(t, pool, "SELECT count(*) FROM lessons"); n != 0 || info(t, s).Head != 0 {
		t.Errorf("%d lessons and %d events stayed", n, info(t, s).Head)
	}
}

// Who rolls back to a savepoint goes on behind a statement that failed, without the events in between, as if each had been sent at once.
func TestDoRollsBackWhatFailed(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "2")
	ctx := t.Context()
	for name, sql := range map[string]string{"division": "SELECT 1/($1::int - 1)", "unknown table": "SELECT $1::int FROM nowhere", "no SQL": "SELEC $1::int"} {
		for _, emitted := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s, %d events", name, emitted), func(t *testing.T) {
				before := len(readAll(t, s))
				var kept, last uuid.UUID
				err := pgstore.Do(ctx, pool, bus, func(tx pgx.Tx, e pulse.Emitter) (err error) {
					if kept, err = e.Emit(ctx, lesson()); err != nil {
						return err
					}
					run(t, tx, "SAVEPOINT here")
					if _, err := e.EmitAll(ctx, []pulse.Event{lesson(), lesson()}[:emitted]); err != nil {
						return err
					}
					if _, err := tx.Exec(ctx, sql, 1); err == nil {
						t.Error("the statement succeeded")
					}
					run(t, tx, "ROLLBACK TO SAVEPOINT here")
					last, err = e.Emit(ctx, lesson())
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				if envs := readAll(t, s)[before:]; len(envs) != 2 || envs[0].ID != kept || envs[1].ID != last {
					t.Errorf("there are %d events, want the first and the last", len(envs))
				}
			})
		}
	}
}

// A caller that has gone gets nothing committed, also of a transaction in which nothing was done yet.
func TestDoOfACallerThatHasGone(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "2")
	for name, step := range map[string]func(ctx context.Context, tx pgx.Tx, e pulse.Emitter) error{
		"nothing": func(context.Context, pgx.Tx, pulse.Emitter) error { return nil },
		"an event": func(ctx context.Context, _ pgx.Tx, e pulse.Emitter) error {
			_, err := e.Emit(ctx, lesson())
			return err
		},
		"statement": func(ctx context.Context, tx pgx.Tx, _ pulse.Emitter) error {
			_, err := tx.Exec(ctx, "SELECT 1")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			err := pgstore.Do(ctx, pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
				defer cancel()
				return step(ctx, tx, e)
			})
			wantError(t, err, context.Canceled, "nothing was done")
		})
	}
	if head := info(t, s).Head; head != 0 {
		t.Errorf("%d events are stored", head)
	}
}

// A Do that fails gives its connection back as it was.
func TestDoThatFailsKeepsItsConnection(t *testing.T) {
	dsn := newDatabase(t)
	bus, pool := openBus(t, openStore(t, dsn)), openPool(t, dsn, "1")
	ctx := t.Context()
	backend := number(t, pool, "SELECT pg_backend_pid()::int8")
	for name, fn := range map[string]func(tx pgx.Tx, e pulse.Emitter) error{
		"at once": func(pgx.Tx, pulse.Emitter) error { return errRollback },
		"after a statement": func(tx pgx.Tx, _ pulse.Emitter) error {
			_, err := tx.Exec(ctx, "SELECT 1")
			return errors.Join(errRollback, err)
		},
		"after an event": func(_ pgx.Tx, e pulse.Emitter) error {
			_, err := e.Emit(ctx, lesson())
			return errors.Join(errRollback, err)
		},
		"by a statement": func(tx pgx.Tx, _ pulse.Emitter) error {
			_, err := tx.Exec(ctx, "SELECT 1/$1::int", 0)
			return errors.Join(errRollback, err)
		},
		"by an event": func(tx pgx.Tx, e pulse.Emitter) error {
			_, err := tx.Exec(ctx, "UPDATE pulse.settings SET max_event_bytes = $1", 100)
			if err == nil {
				_, err = e.Emit(ctx, lesson())
			}
			return err
		},
		"in COMMIT": func(tx pgx.Tx, e pulse.Emitter) error {
			_, err := tx.Exec(ctx, "CREATE TEMPORARY TABLE later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
			if err == nil {
				_, err = tx.Exec(ctx, "INSERT INTO later VALUES (1), ($1)", 1)
			}
			if err == nil {
				_, err = e.Emit(ctx, lesson())
			}
			return err
		},
	} {
		if err := pgstore.Do(ctx, pool, bus, fn); err == nil || errors.Is(err, pulse.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		if now := number(t, pool, "SELECT pg_backend_pid()::int8"); now != backend {
			t.Errorf("%s: the connection was given up", name)
			backend = now
		}
	}
}

// Once Do has returned its transaction takes nothing, and the connection is somebody else's. A transaction that fn rolled back is an error of Do, one that it
// committed is not.
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
			if what == "rolls back" {
				wantError(t, err, pulse.ErrClosed, "the transaction is over")
			} else if err != nil {
				t.Error(err)
			}
			if n := info(t, s).Head - before; n != pulse.Position(map[string]int{"commits": events}[what]) {
				t.Errorf("fn %s: %d events of %d", what, n, events)
			}
		}
	}
}

// Events may be emitted, however many, while the rows of a query are read; what else is sent has to wait for their end, and says so.
func TestDoWhileRowsAreRead(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "2")
	const n = 1000
	read := func(fn func(rows pgx.Rows, tx pgx.Tx, e pulse.Emitter) error) error {
		return pgstore.Do(t.Context(), pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
			rows, err := tx.Query(t.Context(), "SELECT generate_series(1, $1::int)", n)
			if err != nil {
				return err
			}
			return fn(rows, tx, e)
		})
	}
	err := read(func(rows pgx.Rows, _ pgx.Tx, e pulse.Emitter) error {
		for rows.Next() {
			if _, err := e.Emit(t.Context(), lesson()); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if head := info(t, s).Head; err != nil || head != n {
		t.Fatalf("%d of %d events: %v", head, n, err)
	}
	for name, fn := range map[string]func(rows pgx.Rows, tx pgx.Tx, e pulse.Emitter) error{
		"the end": func(rows pgx.Rows, _ pgx.Tx, e pulse.Emitter) error {
			rows.Next()
			_, err := e.Emit(t.Context(), lesson())
			return err
		},
		"a statement": func(rows pgx.Rows, tx pgx.Tx, e pulse.Emitter) error {
			rows.Next()
			if _, err := e.Emit(t.Context(), lesson()); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), "SELECT $1::int", 1)
			return err
		},
		"a way past it": func(rows pgx.Rows, tx pgx.Tx, e pulse.Emitter) error {
			rows.Next()
			if _, err := e.Emit(t.Context(), lesson()); err != nil {
				return err
			}
			conn := tx.Conn()
			rows.Close()
			_, err := conn.Exec(t.Context(), "SELECT 1") // which was to come behind the event
			return err
		},
		"an id that is compared": func(rows pgx.Rows, _ pgx.Tx, e pulse.Emitter) error {
			rows.Next()
			if _, err := e.Emit(t.Context(), lesson()); err != nil {
				return err
			}
			_, err := e.Emit(t.Context(), lesson(), pulse.ID(uuid.New()))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, read(fn), pulse.ErrInvalid, "rows of a query are open")
		})
	}
	if head := info(t, s).Head; head != n {
		t.Errorf("%d events were stored beside open rows", head-n)
	}
}

// The server ends a transaction in which nothing is done for too long, or a connection before BEGIN was sent: nothing was committed, and that is known.
func TestDoThatIdles(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, look := openBus(t, s), openPool(t, dsn, "2")
	for setting, begin := range map[string]string{"idle_in_transaction_session_timeout": "SELECT 1", "idle_session_timeout": ""} {
		pool := openPool(t, dsn+" application_name=idler default_query_exec_mode=exec "+setting+"=50", "1")
		err := pgstore.Do(t.Context(), pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
			if begin != "" {
				run(t, tx, begin)
			}
			if _, err := e.Emit(t.Context(), lesson()); err != nil {
				return err
			}
			awaitEnd(t, look)
			return nil
		})
		wantError(t, err, pulse.ErrStore, "idle-", "timeout")
		if errors.Is(err, pulse.ErrUnknown) {
			t.Errorf("%s: the outcome is said to be unknown: %v", setting, err)
		}
		pool.Close()
	}
	if head := info(t, s).Head; head != 0 {
		t.Errorf("%d events are stored", head)
	}
}

// Where the server ends connections that idle, an event is stored by another one.
func TestAppendOnAConnectionThatIdled(t *testing.T) {
	dsn := newDatabase(t)
	s, look := openStore(t, dsn+" application_name=idler idle_session_timeout=50"), openPool(t, dsn, "2")
	origin := originOf(t, s)
	for range 3 {
		appendTo(t, s, lessons(origin, 1)...)
		awaitEnd(t, look)
	}
	if head := info(t, openStore(t, dsn)).Head; head != 3 {
		t.Errorf("the head is %d, want 3", head)
	}
}

// awaitEnd waits until the server has ended the connections that are set to end.
func awaitEnd(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	eventually(t, "the server has ended the connection", func() bool {
		return number(t, pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'idler'") == 0
	})
}
