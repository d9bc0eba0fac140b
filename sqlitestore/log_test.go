package sqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/storetest"
)

// Triggers keep the log as it is, whoever writes to the file. Only a purge passes, and only whole parts.
func TestLogIsFrozen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openStore(t, path)
	appendTo(t, s, storetest.Record(originOf(t, s), lesson, func(r *pulse.Record) {
		r.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		r.Causation = uuid.New()
		r.Extensions = []byte(`{"region":"north"}`)
	}))
	db := openRaw(t, path, "_busy_timeout=10000")
	const (
		purge = "purged_by = x'00112233445566778899aabbccddeeff', "
		fact  = "data = NULL, fact_salt = NULL"
		link  = "link_salt = NULL, actor_id = NULL, key = NULL, correlation_id = NULL, causation_id = NULL, trace = NULL"
	)
	refused := []string{
		"DELETE FROM events",
		"UPDATE events SET " + fact,
		"UPDATE events SET " + purge + "data = NULL",
		"UPDATE events SET " + purge + "fact_salt = NULL",
		"UPDATE events SET " + purge + "data = '{}'",
		"UPDATE events SET " + purge + "key = NULL",
		"UPDATE events SET " + purge + "extensions = '{}'",
		"UPDATE events SET " + purge + "sealed = x'00'",
		"UPDATE events SET " + purge + strings.TrimSuffix(link, ", trace = NULL"),
		"UPDATE events SET " + purge + fact + ", key = 'other'",
	}
	for _, column := range []string{"position", "epoch", "version", "occurred_at", "recorded_at", "format"} {
		refused = append(refused, fmt.Sprintf("UPDATE events SET %s%s = %s + 1", purge, column, column))
	}
	for _, column := range []string{"name", "source", "key", "correlation_id", "trace", "data"} {
		refused = append(refused, fmt.Sprintf("UPDATE events SET %s%s = 'x'", purge, column))
	}
	for _, column := range []string{"event_id", "actor_id", "causation_id", "digests", "commitment", "fact_salt", "link_salt"} {
		refused = append(refused, fmt.Sprintf("UPDATE events SET %s%s = zeroblob(16)", purge, column))
	}
	for _, statement := range refused {
		if _, err := db.Exec(statement); err == nil || !strings.Contains(err.Error(), "events") {
			t.Errorf("%s: %v, want a refusal by a trigger", statement, err)
		}
	}
	for _, statement := range []string{
		"UPDATE events SET " + purge + "extensions = NULL",
		"UPDATE events SET " + purge + fact,
		"UPDATE events SET " + purge + link,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// What a purge left of an event is read; events of which nothing is left are passed over, and counted by Next and Head.
func TestPurgedEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openStore(t, path)
	recs := lessons(originOf(t, s), 6)
	appendTo(t, s, recs...)
	db := openRaw(t, path, "_busy_timeout=10000")
	const purge = "UPDATE events SET purged_by = x'00112233445566778899aabbccddeeff', "
	for _, statement := range []string{
		purge + "data = NULL, fact_salt = NULL WHERE position IN (2, 3, 6)",
		purge + "link_salt = NULL, actor_id = NULL, key = NULL, correlation_id = NULL WHERE position IN (3, 4, 6)",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Read(t.Context(), pulse.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var positions []pulse.Position
	for _, e := range page.Envelopes {
		positions = append(positions, e.Position)
	}
	if !slices.Equal(positions, []pulse.Position{1, 2, 4, 5}) || page.Next != 6 || info(t, s).Head != 6 {
		t.Fatalf("read %v, next %d, head %d", positions, page.Next, info(t, s).Head)
	}
	if e := page.Envelopes[1]; e.Data != nil || e.Key == "" {
		t.Errorf("without its fact part an event is read as %+v", e)
	}
	if e := page.Envelopes[2]; e.Data == nil || e.Key != "" || e.Actor != uuid.Nil || e.Correlation != "" {
		t.Errorf("without its link part an event is read as %+v", e)
	}
}

// G15: a page of large events is short, and the pages together are complete.
func TestPageOfLargeEvents(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "log.db"))
	origin := originOf(t, s)
	const events, size = 25, 500 << 10
	for range events {
		appendTo(t, s, storetest.Record(origin, func(r *pulse.Record) {
			r.Key, r.Data = "k", []byte(`"`+strings.Repeat("x", size)+`"`)
		}))
	}
	if _, err := s.Index(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]pulse.Query{"log": {}, "pattern": {Name: "lesson.*"}, "index": {Key: "k"}} {
		t.Run(name, func(t *testing.T) {
			pages := 0
			for q.After < events {
				page, err := s.Read(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				total := 0
				for _, e := range page.Envelopes {
					q.After++
					if e.Position != q.After {
						t.Fatalf("event %d follows %d", e.Position, q.After-1)
					}
					total += len(e.Data)
				}
				if page.Next != q.After || total > 5<<20 {
					t.Fatalf("a page of %d events with %d bytes, next %d", len(page.Envelopes), total, page.Next)
				}
				pages++
			}
			if pages < 3 {
				t.Fatalf("%d events were read in %d pages", events, pages)
			}
		})
	}
}

// One Read looks at a bounded number of positions, also when nothing matches.
func TestReadIsBounded(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "log.db"))
	origin := originOf(t, s)
	for range 25 {
		appendTo(t, s, lessons(origin, 1000)...)
	}
	appendTo(t, s, storetest.Record(origin, func(r *pulse.Record) { r.Name = "quiz.submitted" }))
	reads, q := 0, pulse.Query{Name: "quiz.>"}
	var found []pulse.Envelope
	for {
		page, err := s.Read(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, page.Envelopes...)
		if page.Next == q.After {
			break
		}
		if page.Next > q.After+10_000 {
			t.Fatalf("one Read went from %d to %d", q.After, page.Next)
		}
		q.After = page.Next
		reads++
	}
	if len(found) != 1 || found[0].Position != 25_001 || reads != 3 {
		t.Fatalf("%d events found in %d reads", len(found), reads)
	}
}

// With the index, without it and with a part of it a query selects the same, in the same order.
func TestIndexChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openStore(t, path)
	origin := originOf(t, s)
	random := rand.New(rand.NewPCG(7, 7))
	actors := []uuid.UUID{uuid.New(), uuid.New(), {}}
	pick := func(of string, n int) string { return fmt.Sprintf("%s-%d", of, random.IntN(n)) }
	const events = 1500
	for range events / 10 {
		recs := make([]pulse.Record, 10)
		for i := range recs {
			recs[i] = storetest.Record(origin, func(r *pulse.Record) {
				r.Name = []string{"lesson.published", "lesson.withdrawn", "quiz.submitted"}[random.IntN(3)]
				r.Actor = actors[random.IntN(3)]
				r.Correlation = pick("c", 300)
				if random.IntN(3) > 0 {
					r.Key = pick("k", 20)
				}
			})
		}
		appendTo(t, s, recs...)
	}
	if _, err := openRaw(t, path, "_busy_timeout=10000").Exec(`UPDATE events SET purged_by = zeroblob(16), data = NULL, fact_salt = NULL,
		link_salt = NULL, actor_id = NULL, key = NULL, correlation_id = NULL WHERE position % 7 = 0`); err != nil {
		t.Fatal(err)
	}
	var queries []pulse.Query
	for range 60 {
		q := pulse.Query{After: pulse.Position(random.IntN(events)), Limit: random.IntN(40)}
		if random.IntN(2) == 0 {
			q.Through = q.After + pulse.Position(random.IntN(700))
		}
		switch random.IntN(4) {
		case 0:
			q.Key, q.Actor = pick("k", 20), actors[random.IntN(3)]
		case 1:
			q.Key = pick("k", 20)
		case 2:
			q.Actor = actors[0]
		case 3:
			q.Correlation = pick("c", 300)
		}
		if random.IntN(2) == 0 {
			q.Names = []string{"quiz.*", "lesson.withdrawn"}
		}
		queries = append(queries, q)
	}
	results := func() (all [][]pulse.Position) {
		for _, q := range queries {
			var positions []pulse.Position
			for _, e := range readAll(t, s, q) {
				positions = append(positions, e.Position)
			}
			all = append(all, positions)
		}
		return all
	}
	want := results()
	selected := 0
	for _, positions := range want {
		selected += len(positions)
	}
	if selected < 500 {
		t.Fatalf("the queries select %d events: the test does too little", selected)
	}
	compare := func(when string) {
		t.Helper()
		for i, got := range results() {
			if !slices.Equal(got, want[i]) {
				t.Fatalf("%s %+v selects\n     %v\nwant %v", when, queries[i], got, want[i])
			}
		}
	}
	index := func(limit int) (more bool) {
		t.Helper()
		more, err := s.Index(t.Context(), limit)
		if err != nil {
			t.Fatal(err)
		}
		return more
	}
	if !index(400) {
		t.Fatal("400 of 1500 events were indexed, and there is said to be no more")
	}
	compare("with 400 events indexed")
	for index(400) {
	}
	compare("with the whole log indexed")
	if index(0) {
		t.Fatal("there is said to be more after the end")
	}
	if err := s.DropIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	compare("after the index was dropped")
	for index(0) {
	}
	compare("with the index built anew")
}

// The index is used: a rare correlation at the end of a long log is found in one Read.
func TestIndexIsUsed(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "log.db"))
	origin := originOf(t, s)
	for range 15 {
		appendTo(t, s, lessons(origin, 1000)...)
	}
	appendTo(t, s, storetest.Record(origin, func(r *pulse.Record) { r.Correlation = "rare" }))
	for more := true; more; {
		var err error
		if more, err = s.Index(t.Context(), 5000); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Read(t.Context(), pulse.Query{Correlation: "rare"})
	if err != nil || len(page.Envelopes) != 1 || page.Next != 15_001 {
		t.Fatalf("%d events, next %d, %v", len(page.Envelopes), page.Next, err)
	}
}

// A call that waits for the writer ends with its context, and nothing of it is stored.
func TestCancelledWhileWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openStore(t, path)
	origin := originOf(t, s)
	waits := map[string]func(then func()) error{
		"for a transaction of this store": func(then func()) error {
			return s.Transact(t.Context(), func(context.Context, pulse.Tx) error { then(); return nil })
		},
		"for another connection": func(then func()) error {
			tx, err := openRaw(t, path, "_txlock=immediate&_busy_timeout=10000").Begin()
			if err != nil {
				return err
			}
			defer tx.Rollback()
			then()
			return nil
		},
	}
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			err := wait(func() {
				for _, call := range []struct {
					name string
					call func(ctx context.Context) error
				}{
					{"Append", func(ctx context.Context) error { return s.Append(ctx, lessons(origin, 1)) }},
					{"Transact", func(ctx context.Context) error {
						return s.Transact(ctx, func(context.Context, pulse.Tx) error { return errors.New("was called") })
					}},
					{"Register", func(ctx context.Context) error {
						_, err := s.Register(ctx, pulse.Registration{Name: "x", Start: pulse.Now})
						return err
					}},
				} {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
					began := time.Now()
					err := call.call(ctx)
					cancel()
					if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, pulse.ErrUnknown) {
						t.Errorf("%s: %v, want the context's error", call.name, err)
					}
					if waited := time.Since(began); waited > 5*time.Second {
						t.Errorf("%s went on for %s", call.name, waited)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if head := info(t, s).Head; head != 0 {
				t.Fatalf("%d events were stored", head)
			}
		})
	}
}

// countdown is a context that is cancelled when it is asked for its error the n-th time.
type countdown struct {
	context.Context
	cancel context.CancelFunc
	n      int
}

func (c *countdown) Err() error {
	if c.n--; c.n < 0 {
		c.cancel()
	}
	return c.Context.Err()
}

// G16: whenever a context ends, an event is stored if and only if the call succeeded.
func TestCancelledAtEveryPoint(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "log.db"))
	origin := originOf(t, s)
	for name, call := range map[string]func(ctx context.Context) error{
		"Append one":  func(ctx context.Context) error { return s.Append(ctx, lessons(origin, 1)) },
		"Append many": func(ctx context.Context) error { return s.Append(ctx, lessons(origin, 40)) },
		"Append repeated": func(ctx context.Context) error {
			recs := lessons(origin, 2)
			return s.Append(ctx, append(recs, recs...))
		},
		"Transact": func(ctx context.Context) error {
			return s.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
				return errors.Join(tx.Append(ctx, lessons(origin, 1)), tx.Append(ctx, lessons(origin, 2)))
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			failures := 0
			for n := 0; ; n++ {
				before := info(t, s).Head
				inner, cancel := context.WithCancel(t.Context())
				err := call(&countdown{inner, cancel, n})
				cancel()
				stored := info(t, s).Head > before
				if err != nil && (!errors.Is(err, context.Canceled) || errors.Is(err, pulse.ErrUnknown)) {
					t.Fatalf("cancelled at point %d: %v", n, err)
				}
				if stored != (err == nil) {
					t.Fatalf("cancelled at point %d: %v, and stored is %v", n, err, stored)
				}
				if err == nil {
					break
				}
				failures++
			}
			if failures < 2 {
				t.Fatalf("%d points: the test did too little", failures)
			}
		})
	}
}

// VACUUM INTO does not copy the journal mode.
func TestCopyIsInWALMode(t *testing.T) {
	dir := t.TempDir()
	original, path := filepath.Join(dir, "school.db"), filepath.Join(dir, "copy.db")
	storeFile(t, original)
	if _, err := openRaw(t, original, "").Exec("VACUUM INTO ?", path); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, path)
	rows, err := openRaw(t, path, "").Query("SELECT position FROM events") // keeps no writer waiting in WAL mode
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() {
		t.Fatal("the copy is empty")
	}
	appendTo(t, s, lessons(originOf(t, s), 1)...)
}
