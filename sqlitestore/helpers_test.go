package sqlitestore_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/sqlitestore"
	"github.com/edupulse-live/pulse/storetest"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func openStore(t testing.TB, path string) *sqlitestore.Store {
	t.Helper()
	s, err := sqlitestore.Open(t.Context(), path, nil)
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

func originOf(t testing.TB, s pulse.Store) string { return info(t, s).Origin }

func info(t testing.TB, s pulse.Store) pulse.Info {
	t.Helper()
	i, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// lessons returns n records of an ordinary size.
func lessons(origin string, n int) []pulse.Record {
	recs := make([]pulse.Record, n)
	for i := range recs {
		recs[i] = storetest.Record(origin, lesson)
	}
	return recs
}

func lesson(r *pulse.Record) {
	r.Key = "0199c0a2-1111-7000-8000-000000000001"
	r.Actor = r.ID
	r.Correlation = r.ID.String()
	r.Data = []byte(`{"lesson_id":"0199c0a2-1111-7000-8000-000000000001","course_id":"0199c0a2-2222-7000-8000-000000000001","title":"Introduction to biology, chapter one"}`)
}

func appendTo(t testing.TB, s pulse.Appender, recs ...pulse.Record) {
	t.Helper()
	if err := s.Append(t.Context(), recs); err != nil {
		t.Fatal(err)
	}
}

// readAll returns the envelopes that q selects, over as many pages as it takes.
func readAll(t testing.TB, s pulse.Store, q pulse.Query) (envs []pulse.Envelope) {
	t.Helper()
	for {
		page, err := s.Read(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		envs = append(envs, page.Envelopes...)
		if page.Next == q.After {
			return envs
		}
		q.After = page.Next
	}
}

// subscribed registers a subscription from the beginning and takes its lease.
func subscribed(t testing.TB, s *sqlitestore.Store, name, holder string) pulse.Lease {
	t.Helper()
	if _, err := s.Register(t.Context(), pulse.Registration{Name: name, Start: pulse.Beginning}); err != nil {
		t.Fatal(err)
	}
	lease, err := s.Acquire(t.Context(), pulse.Lease{Name: name, Holder: holder}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func mark(t testing.TB, s *sqlitestore.Store, lease pulse.Lease, positions ...pulse.Position) (seen []pulse.Position) {
	t.Helper()
	err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) (err error) {
		seen, err = tx.Mark(ctx, lease, positions)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// openRaw opens the file as any program would.
func openRaw(t testing.TB, path, options string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?"+options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
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

// wantIntact ends the test unless SQLite finds the file sound and its positions have no gap.
func wantIntact(t testing.TB, path string) {
	t.Helper()
	db := openRaw(t, path, "_busy_timeout=10000")
	var answer string
	if err := db.QueryRow("PRAGMA quick_check").Scan(&answer); err != nil || answer != "ok" {
		t.Fatalf("quick_check says %q, %v", answer, err)
	}
	var count, head int64
	if err := db.QueryRow("SELECT count(*), coalesce(max(position), 0) FROM events").Scan(&count, &head); err != nil {
		t.Fatal(err)
	}
	if count != head {
		t.Fatalf("%d events up to position %d", count, head)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
