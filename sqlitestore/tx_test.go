package sqlitestore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/sqlitestore"
	"github.com/edupulse-live/pulse/storetest"
)

const immediate = "_txlock=immediate&_busy_timeout=10000"

func begin(t testing.TB, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func run(t testing.TB, tx *sql.Tx, statement string) {
	t.Helper()
	if _, err := tx.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// G3: what is appended in a transaction of the user exists if and only if it commits.
func TestTxCommitsAndRollsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openStore(t, path)
	origin := originOf(t, s)
	db := openRaw(t, path, immediate)
	for _, size := range []int{1, 3, 40} {
		before := info(t, s).Head
		for _, commit := range []bool{false, true} {
			tx := begin(t, db)
			run(t, tx, "CREATE TABLE IF NOT EXISTS lessons (title TEXT)")
			run(t, tx, "INSERT INTO lessons VALUES ('Fractions')")
			appender := sqlitestore.Tx(tx)
			appendTo(t, appender, lessons(origin, size)...)
			appendTo(t, appender, lessons(origin, size)...)
			if head := info(t, s).Head; head != before {
				t.Fatalf("the head is %d before the commit, want %d", head, before)
			}
			if commit {
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
			} else if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
		if head := info(t, s).Head; int(head-before) != 2*size {
			t.Fatalf("%d events were stored, want %d", head-before, 2*size)
		}
	}
	wantIntact(t, path)
}

// A unit that is refused leaves nothing in the transaction, which goes on.
func TestTxGoesOnAfterRefusal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openStore(t, path)
	origin := originOf(t, s)
	taken := storetest.Record(origin)
	appendTo(t, s, taken)
	other := storetest.Record(origin, func(r *pulse.Record) { r.ID, r.Data = taken.ID, []byte(`{}`) })
	tx := begin(t, openRaw(t, path, immediate))
	appender := sqlitestore.Tx(tx)
	for _, n := range []int{0, 1, 30} {
		err := appender.Append(t.Context(), append(lessons(origin, n), other))
		var conflict *pulse.ConflictError
		if !errors.As(err, &conflict) || conflict.ID != taken.ID || conflict.Position != 1 {
			t.Fatalf("after %d others: %v, want a ConflictError at position 1", n, err)
		}
	}
	wantError(t, appender.Append(t.Context(), []pulse.Record{storetest.Record("someone/else")}), pulse.ErrInvalid, "someone/else")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, appender.Append(cancelled, lessons(origin, 1)), context.Canceled)
	appendTo(t, appender, taken)
	appendTo(t, appender, lessons(origin, 2)...)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if head := info(t, s).Head; head != 3 {
		t.Fatalf("the head is %d, want 3", head)
	}
	wantIntact(t, path)
}

// A ConflictError names a position only if the event keeps it: one of the refused unit itself does not.
func TestConflictInsideUnit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openStore(t, path)
	origin := originOf(t, s)
	appendTo(t, s, lessons(origin, 2)...)
	refuse := func(t *testing.T, appender pulse.Appender) {
		for _, n := range []int{0, 1, 40} {
			one := storetest.Record(origin)
			other := storetest.Record(origin, func(r *pulse.Record) { r.ID, r.Data = one.ID, []byte(`{}`) })
			err := appender.Append(t.Context(), append(append(lessons(origin, n), one), other))
			var conflict *pulse.ConflictError
			if !errors.As(err, &conflict) || conflict.Position != 0 {
				t.Errorf("after %d others: %v, want a ConflictError without a position", n, err)
			}
		}
	}
	t.Run("store", func(t *testing.T) { refuse(t, s) })
	t.Run("transaction", func(t *testing.T) { refuse(t, sqlitestore.Tx(begin(t, openRaw(t, path, immediate)))) })
}

func TestTxOfAnotherDatabase(t *testing.T) {
	dir := t.TempDir()
	foreign, empty, newer := filepath.Join(dir, "foreign.db"), filepath.Join(dir, "empty.db"), filepath.Join(dir, "newer.db")
	sqliteFile(t, foreign, "", "INSERT INTO settings VALUES ('origin', 'pulse/x'), ('epoch', 1), ('max_event_bytes', 100000)")
	storeFile(t, newer)
	sqliteExec(t, newer, "PRAGMA user_version = 7")
	for path, says := range map[string]string{
		foreign: "another database than a Pulse store",
		empty:   "another database than a Pulse store",
		newer:   "schema 7",
	} {
		tx := begin(t, openRaw(t, path, immediate))
		err := sqlitestore.Tx(tx).Append(t.Context(), lessons("pulse/x", 1))
		wantError(t, err, pulse.ErrInvalid, says)
	}
}

// A store of another origin is another log: the digests do not fit.
func TestTxOfAnotherStore(t *testing.T) {
	dir := t.TempDir()
	mine := openStore(t, filepath.Join(dir, "mine.db"))
	storeFile(t, filepath.Join(dir, "other.db"))
	tx := begin(t, openRaw(t, filepath.Join(dir, "other.db"), immediate))
	wantError(t, sqlitestore.Tx(tx).Append(t.Context(), lessons(originOf(t, mine), 1)), pulse.ErrInvalid, "was made for the log")
}

func TestTxFinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	origin := originOf(t, openStore(t, path))
	db := openRaw(t, path, immediate)
	for name, finish := range map[string]func(*sql.Tx) error{"committed": (*sql.Tx).Commit, "rolled back": (*sql.Tx).Rollback} {
		tx := begin(t, db)
		used := sqlitestore.Tx(tx)
		appendTo(t, used, lessons(origin, 1)...)
		if err := finish(tx); err != nil {
			t.Fatal(err)
		}
		for _, appender := range []pulse.Appender{used, sqlitestore.Tx(tx)} {
			for _, n := range []int{1, 2} {
				if err := appender.Append(t.Context(), lessons(origin, n)); !errors.Is(err, pulse.ErrClosed) {
					t.Errorf("%s: %v, want an ErrClosed", name, err)
				}
			}
		}
	}
}

// A transaction that began by reading cannot emit while or after somebody else writes: the error says how to do better.
func TestTxDeferred(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openStore(t, path)
	origin := originOf(t, s)
	read := func(tx *sql.Tx) {
		var n int
		if err := tx.QueryRow("SELECT count(*) FROM events").Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	db := openRaw(t, path, "_busy_timeout=50")
	t.Run("somebody wrote meanwhile", func(t *testing.T) {
		tx := begin(t, db)
		read(tx)
		appendTo(t, s, lessons(origin, 1)...)
		err := sqlitestore.Tx(tx).Append(t.Context(), lessons(origin, 1))
		wantError(t, err, pulse.ErrStore, "BEGIN IMMEDIATE", "_txlock=immediate", "sqlitestore.Do")
	})
	t.Run("somebody is writing", func(t *testing.T) {
		tx := begin(t, db)
		read(tx)
		writing := begin(t, openRaw(t, path, immediate))
		err := sqlitestore.Tx(tx).Append(t.Context(), lessons(origin, 1))
		wantError(t, err, pulse.ErrStore, "BEGIN IMMEDIATE")
		if err := writing.Rollback(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("nobody else writes", func(t *testing.T) {
		tx := begin(t, db)
		before := info(t, s).Head
		read(tx)
		appendTo(t, sqlitestore.Tx(tx), lessons(origin, 2)...)
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if head := info(t, s).Head; head != before+2 {
			t.Fatalf("the head is %d, want %d", head, before+2)
		}
	})
}

// Writing through the store from inside one of its transactions would wait for itself: it is refused at once. Reading is fine,
// and so is writing with the same context once the transaction is over.
func TestWritingInsideTransact(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "log.db"))
	origin := originOf(t, s)
	var inside context.Context
	err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		inside = ctx
		for name, err := range map[string]error{
			"Append":   s.Append(ctx, lessons(origin, 1)),
			"Transact": s.Transact(ctx, func(context.Context, pulse.Tx) error { return nil }),
			"Control":  s.Control(ctx, "mailer", pulse.Control{Resume: true}),
		} {
			if !errors.Is(err, pulse.ErrInvalid) {
				t.Errorf("%s inside a transaction: %v, want an ErrInvalid", name, err)
			}
		}
		if _, err := s.Read(ctx, pulse.Query{}); err != nil {
			t.Error(err)
		}
		own, ok := tx.Unwrap().(*sql.Tx)
		if !ok {
			t.Fatalf("Unwrap returns a %T", tx.Unwrap())
		}
		run(t, own, "CREATE TABLE lessons (title TEXT)")
		return tx.Append(ctx, lessons(origin, 1))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(inside, lessons(origin, 1)); err != nil {
		t.Fatalf("after the transaction: %v", err)
	}
}

// Close does not wait for functions given to Transact. They can no longer commit, and their end closes the file for good.
func TestCloseDuringTransact(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log.db")
	s := openStore(t, path)
	origin := originOf(t, s)
	appendTo(t, s, lessons(origin, 3)...)
	err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		if err := tx.Append(ctx, lessons(origin, 1)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, tx.Append(ctx, lessons(origin, 1)), pulse.ErrClosed)
		return nil
	})
	wantError(t, err, pulse.ErrClosed)
	if files := snapshot(t, dir); len(files) != 1 {
		t.Fatalf("after the end there are %v, want the database alone", sizes(files))
	}
	if head := info(t, openStore(t, path)).Head; head != 3 {
		t.Fatalf("the head is %d, want 3", head)
	}
}

// Close leaves one file, also after every kind of write.
func TestCloseLeavesOneFile(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, filepath.Join(dir, "log.db"))
	appendTo(t, s, lessons(originOf(t, s), 20)...)
	lease := subscribed(t, s, "mailer", "a")
	mark(t, s, lease, 1, 2, 3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if files := snapshot(t, dir); len(files) != 1 {
		t.Fatalf("there are %v, want the database alone", sizes(files))
	}
}

// A full disk may make SQLite undo the whole transaction. A function that ignores that must not write on outside of it.
func TestNothingIsStoredAfterATransactionWasUndone(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "school.db"))
	origin := originOf(t, s)
	large := storetest.Record(origin, func(r *pulse.Record) { r.Data = []byte(`"` + strings.Repeat("a", 100_000) + `"`) })
	err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		own := tx.Unwrap().(*sql.Tx)
		appendTo(t, tx, lessons(origin, 1)...)
		maxPages(t, own, 1) // as many as there are
		wantError(t, tx.Append(ctx, []pulse.Record{large}), pulse.ErrStore, "disk full")
		wantError(t, tx.Append(ctx, lessons(origin, 1)), pulse.ErrClosed)
		if _, err := own.Exec("CREATE TABLE pupils (name TEXT)"); !errors.Is(err, sql.ErrTxDone) {
			t.Errorf("a statement after the transaction was undone: %v", err)
		}
		return nil
	})
	wantError(t, err, pulse.ErrClosed)
	if head := info(t, s).Head; head != 0 {
		t.Fatalf("head is %d, want nothing of a transaction that failed", head)
	}
	err = s.Transact(t.Context(), func(_ context.Context, tx pulse.Tx) error {
		maxPages(t, tx.Unwrap().(*sql.Tx), 1<<20)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, lessons(origin, 1)...)
}

func maxPages(t testing.TB, tx *sql.Tx, n int) {
	t.Helper()
	var now int
	if err := tx.QueryRow(fmt.Sprintf("PRAGMA max_page_count = %d", n)).Scan(&now); err != nil {
		t.Fatal(err)
	}
}
