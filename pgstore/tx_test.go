package pgstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
	"github.com/edupulse-live/pulse/storetest"
)

// userTx is a transaction of the user's, by either library.
type userTx struct {
	appender         pulse.Appender
	exec             func(sql string) error
	commit, rollback func() error
}

// beginners begin transactions in the ways a user may.
func beginners(t *testing.T, dsn string) map[string]func(t *testing.T) userTx {
	t.Helper()
	viaPgx := func(mode string) func(t *testing.T) userTx {
		pool := openPool(t, dsn+" default_query_exec_mode="+mode, "4")
		return func(t *testing.T) userTx {
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return userTx{
				pgstore.Tx(tx), func(sql string) error { _, err := tx.Exec(t.Context(), sql); return err },
				func() error { return tx.Commit(t.Context()) }, func() error { return tx.Rollback(t.Context()) },
			}
		}
	}
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return map[string]func(t *testing.T) userTx{
		"pgx": viaPgx("cache_statement"), "pgx without statements": viaPgx("exec"), "pgx, simple protocol": viaPgx("simple_protocol"),
		"database/sql": func(t *testing.T) userTx {
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			return userTx{pgstore.SQLTx(tx), func(sql string) error { _, err := tx.Exec(sql); return err }, tx.Commit, tx.Rollback}
		},
	}
}

// G3: what is appended in a transaction of the user exists if and only if it commits, as it was.
func TestTxCommitsAndRollsBack(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	origin := originOf(t, s)
	for name, begin := range beginners(t, dsn) {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 3, 40} {
				before := info(t, s).Head
				gone := begin(t)
				appendTo(t, gone.appender, lessons(origin, size)...)
				if err := gone.rollback(); err != nil {
					t.Fatal(err)
				}
				kept := begin(t)
				recs := lessons(origin, 2*size)
				recs[0] = storetest.Record(origin, func(r *pulse.Record) {
					r.Key, r.Source, r.Correlation = `a"b\c{},NULL`, "/żółw 学校", "line\nbreak\t''"
					r.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
					r.Causation, r.OccurredAt = uuid.New(), time.Date(1, 2, 3, 4, 5, 6, 7_000, time.UTC)
					r.Extensions = []byte(`{"n": "\"\\"}`)
					r.Data = []byte("{ \"b\" : \"\\u0000\\\"\\\\\",\n\"a\":1e400 }")
				})
				appendTo(t, kept.appender, recs[:size]...)
				appendTo(t, kept.appender, recs[size:]...)
				if head := info(t, s).Head; head != before {
					t.Fatalf("the head is %d before the commit, want %d", head, before)
				}
				if err := kept.commit(); err != nil {
					t.Fatal(err)
				}
				wantLast(t, s, recs)
				wantError(t, kept.appender.Append(t.Context(), lessons(origin, 1)), pulse.ErrClosed)
			}
		})
	}
}

// wantLast ends the test unless the log ends with recs, as recorded and provable.
func wantLast(t *testing.T, s *pgstore.Store, recs []pulse.Record) {
	t.Helper()
	after := info(t, s).Head - pulse.Position(len(recs))
	stored, err := s.Records(t.Context(), after, 1000)
	if err != nil || len(stored) != len(recs) {
		t.Fatalf("%d records after %d, want %d: %v", len(stored), after, len(recs), err)
	}
	for i := range recs {
		if stored[i].ID != recs[i].ID || !recs[i].Repeats(&stored[i].Envelope) || stored[i].Correlation != recs[i].Correlation ||
			stored[i].Causation != recs[i].Causation || stored[i].Trace != recs[i].Trace || !stored[i].OccurredAt.Equal(recs[i].OccurredAt) {
			t.Fatalf("came back as\n     %+v\nwant %+v", stored[i].Envelope, recs[i].Envelope)
		}
		if err := stored[i].Verify(); err != nil {
			t.Fatal(err)
		}
	}
}

// What is refused leaves nothing behind that a careless caller could commit.
func TestTxRefuses(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	origin := originOf(t, s)
	taken := storetest.Record(origin)
	appendTo(t, s, taken)
	info(t, s)
	other := storetest.Record(origin, func(r *pulse.Record) { r.ID, r.Data = taken.ID, []byte(`{}`) })
	large := storetest.Record(origin, func(r *pulse.Record) { r.Data = []byte(`"` + string(slices.Repeat([]byte("x"), 600<<10)) + `"`) })
	together := slices.Repeat([]pulse.Record{large}, 500)
	foreign := storetest.Record("someone/else")
	broken := storetest.Record(origin, func(r *pulse.Record) { r.Data = []byte(`{`) })
	for name, begin := range beginners(t, dsn) {
		for _, c := range []struct {
			name string
			recs []pulse.Record
			want error
			says string
		}{
			{"conflict", []pulse.Record{other}, pulse.ErrConflict, "position 1"},
			{"conflict in a unit", append(lessons(origin, 3), other), pulse.ErrConflict, "position 1"},
			{"another log", []pulse.Record{foreign}, pulse.ErrInvalid, origin},
			{"another log in a unit", append(lessons(origin, 3), foreign), pulse.ErrInvalid, "someone/else"},
			{"too large", []pulse.Record{large}, pulse.ErrTooLarge, "524288"},
			{"too large together", together, pulse.ErrTooLarge, "emit them in 2 parts"},
			{"no JSON", []pulse.Record{broken}, pulse.ErrInvalid, "JSON"},
		} {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				tx := begin(t)
				wantError(t, tx.appender.Append(t.Context(), c.recs), c.want, c.says)
				_ = tx.commit() // careless
				if head := info(t, s).Head; head != 1 {
					t.Fatalf("the head is %d after a refused append, want 1", head)
				}
			})
		}
		t.Run(name+"/goes on after the conflict of one event, and too many bytes", func(t *testing.T) {
			tx := begin(t)
			wantError(t, tx.appender.Append(t.Context(), together), pulse.ErrTooLarge)
			wantError(t, tx.appender.Append(t.Context(), []pulse.Record{other}), pulse.ErrConflict)
			appendTo(t, tx.appender, taken)
			if err := errors.Join(tx.exec("SELECT 1"), tx.commit()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A transaction that is over takes nothing, and the error says so.
func TestTxThatIsOver(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	origin := originOf(t, s)
	for name, begin := range beginners(t, dsn) {
		for how, end := range map[string]func(tx userTx) error{
			"committed": func(tx userTx) error { return tx.commit() }, "rolled back": func(tx userTx) error { return tx.rollback() },
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				tx := begin(t)
				if err := end(tx); err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{1, 2} {
					wantError(t, tx.appender.Append(t.Context(), lessons(origin, n)), pulse.ErrClosed, "emit before you commit")
				}
			})
		}
	}
	if head := info(t, s).Head; head != 0 {
		t.Errorf("the head is %d", head)
	}
}

func TestTxOfADatabaseWithoutALog(t *testing.T) {
	pool := openPool(t, newDatabase(t), "2")
	for schema, want := range map[pgstore.Schema]error{"pulse": pulse.ErrStore, "school": pulse.ErrStore, `x"; --`: pulse.ErrInvalid, "pg_x": pulse.ErrInvalid} {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, schema.Tx(tx).Append(t.Context(), lessons("x", 1)), want, "schema")
		_ = tx.Rollback(t.Context())
	}
}

// One emit in the user's transaction is one statement, which takes no lock that another emit waits for.
func TestTxCostsOneStatement(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus := openBus(t, s)
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	counter := &counting{}
	config.ConnConfig.Tracer = counter
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	first, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Rollback(context.Background())
	emit := func(tx pgx.Tx) {
		before := counter.queries
		if _, err := bus.In(pgstore.Tx(tx)).Emit(t.Context(), lesson()); err != nil {
			t.Fatal(err)
		}
		if n := counter.queries - before; n != 1 {
			t.Fatalf("an emit took %d statements", n)
		}
		if n := counter.prepared; n > 1 {
			t.Fatalf("an emit prepared %d statements", n)
		}
	}
	emit(first)
	counter.prepared = 0
	emit(first)
	if counter.prepared != 0 {
		t.Fatal("the second emit on a connection prepared a statement")
	}
	for range 3 { // beside it
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		counter.prepared = 0
		emit(tx)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if head := info(t, s).Head; head != 3 {
		t.Fatalf("the head is %d, want 3", head)
	}
}

type counting struct{ queries, prepared int }

func (c *counting) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.queries++
	return ctx
}
func (c *counting) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *counting) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	c.prepared++
	return ctx
}
func (c *counting) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

func lesson() pulse.Raw {
	return pulse.Raw{Name: "lesson.published", Key: "0199c0a2-1111-7000-8000-000000000001", Data: []byte(lessonData)}
}

// Queue: the event exists if and only if what the batch is part of commits.
func TestQueue(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "4")
	run(t, pool, "CREATE TABLE lessons (title text NOT NULL)")
	id := uuid.New()
	for _, c := range []struct {
		name   string
		insert string
		opts   []pulse.EmitOption
		fails  bool
	}{
		{"commits", "INSERT INTO lessons VALUES ('Fractions')", []pulse.EmitOption{pulse.ID(id)}, false},
		{"the batch fails", "INSERT INTO lessons VALUES (NULL)", nil, true},
		{"the id is taken", "INSERT INTO lessons VALUES ('Decimals')", []pulse.EmitOption{pulse.ID(id)}, true},
		{"commits again", "INSERT INTO lessons VALUES ('Decimals')", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			batch := &pgx.Batch{}
			before := info(t, s).Head
			queued, err := pgstore.Queue(t.Context(), batch, bus, lesson(), c.opts...)
			if err != nil {
				t.Fatal(err)
			}
			batch.Queue(c.insert)
			err = pool.SendBatch(t.Context(), batch).Close()
			if (err != nil) != c.fails {
				t.Fatalf("the batch ended with %v", err)
			}
			envs := readAll(t, s)
			switch got := pulse.Position(len(envs)); {
			case c.fails && got != before:
				t.Fatalf("%d events, want %d as before", got, before)
			case !c.fails && (got != before+1 || envs[before].ID != queued):
				t.Fatalf("%d events, want one more than %d", got, before)
			}
		})
	}
	batch := &pgx.Batch{}
	if _, err := pgstore.Queue(t.Context(), batch, bus, pulse.Raw{Name: "No name", Data: []byte("{}")}); !errors.Is(err, pulse.ErrInvalid) || batch.Len() != 0 {
		t.Fatalf("an invalid event: %v, and the batch has %d statements", err, batch.Len())
	}
}

type published struct {
	N int `json:"n"`
}

func (published) EventName() string { return "lesson.published" }

// G7: the effect of a handler in the database happens once, though the handler fails after it now and then.
func TestOnTx(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "4")
	run(t, pool, "CREATE TABLE mails (n int PRIMARY KEY, tries int NOT NULL)")
	tries := map[int]int{}
	err := bus.Subscribe("mailer", pulse.Start(pulse.Beginning), pulse.Concurrency(1), pulse.Retry(pulse.RetryPolicy{First: time.Millisecond, Attempts: 5}),
		pgstore.OnTx(func(ctx context.Context, tx pgx.Tx, e published) error {
			tries[e.N]++
			if _, err := tx.Exec(ctx, "INSERT INTO mails VALUES ($1, $2)", e.N, tries[e.N]); err != nil {
				return err
			}
			if _, err := bus.Emit(ctx, pulse.Raw{Name: "mail.sent", Data: fmt.Appendf(nil, `{"n":%d}`, e.N)}); err != nil {
				return err
			}
			if e.N%3 == 0 && tries[e.N] < 3 {
				return errRollback
			}
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 12 {
		if _, err := bus.Emit(t.Context(), published{n}); err != nil {
			t.Fatal(err)
		}
	}
	if err := bus.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := number(t, pool, "SELECT count(*) FROM mails WHERE tries = CASE WHEN n % 3 = 0 THEN 3 ELSE 1 END"); n != 12 {
		t.Fatalf("%d effects of 12 happened at the try that succeeded", n)
	}
	if head := info(t, s).Head; head != 24 {
		t.Fatalf("%d events, want 12 and 12 mails sent", head)
	}
}

// What was just emitted is in the log, though no bus runs that would give it a position.
func TestLogHasWhatWasJustEmitted(t *testing.T) {
	bus := openBus(t, openStore(t, newDatabase(t)))
	id, err := bus.Emit(t.Context(), published{1})
	if err != nil {
		t.Fatal(err)
	}
	for env, err := range bus.Log(t.Context(), pulse.Query{}) {
		if err != nil || env.ID != id || env.Position != 1 {
			t.Errorf("%v at %d, %v", env.ID, env.Position, err)
		}
		return
	}
	t.Error("the log is empty")
}
