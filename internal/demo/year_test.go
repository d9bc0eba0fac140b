package demo

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/edupulse-live/pulse"
)

// counts is what a report says, without what depends on the machine.
type counts struct{ emitted, published, handled, lost, duplicates, outOfOrder int }

func countsOf(r *Report) counts {
	return counts{r.Emitted, r.Published, r.Handled, r.Lost, r.Duplicates, r.OutOfOrder}
}

func noSecretIn(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, secretFile+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("secrets were left behind: %v, %v", left, err)
	}
}

// logged returns the log in a data directory.
func logged(t *testing.T, dir string) []pulse.Envelope {
	t.Helper()
	return loggedBy(t, openSQLite, filepath.Join(dir, StoreFile))
}

func loggedBy(t *testing.T, open Opener, path string) []pulse.Envelope {
	t.Helper()
	store, err := open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	bus, err := pulse.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []pulse.Envelope
	for env, err := range bus.Log(t.Context(), pulse.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, env)
	}
	return all
}

// TestYearCountsEverythingOnceAndInOrder plays one year after the other into the same log, with a broker or without.
func TestYearCountsEverythingOnceAndInOrder(t *testing.T) {
	const students = 150
	dataset, data := manyTables(students).write(t), filepath.Join(t.TempDir(), "data")
	n := manyEvents(students)
	years := []struct {
		name   string
		broker bool
	}{{"first", false}, {"second", false}, {"first published", true}, {"second published", true}, {"not published again", false}, {"published again", true}}
	for _, y := range years {
		year := y.name
		want := counts{emitted: n, published: wantPublished(y.broker, n), handled: n}
		var last Progress
		report, err := Year(t.Context(), YearOptions{
			Dataset: dataset, Data: data, Open: openSQLite, Broker: brokerOf(y.broker), Emitters: 32,
			Progress: func(p Progress) { last = p },
		})
		if err != nil {
			t.Fatal(year, err)
		}
		if got := countsOf(report); got != want {
			t.Errorf("%s year: %+v, want %+v", year, got, want)
		}
		if report.Seconds <= 0 || report.EventsPerSecond <= 0 || report.Latency.P50 <= 0 || report.Latency.P99 < report.Latency.P50 || report.PeakRSS <= 0 {
			t.Errorf("%s year: not measured: %+v", year, report)
		}
		if want := (Progress{Emitted: n, Published: want.published, Handled: n, Planned: n}); last != want {
			t.Errorf("%s year: progress ended with %+v, want %+v", year, last, want)
		}
		noSecretIn(t, data)
	}
	checkLog(t, logged(t, data), len(years)*n)
}

// checkLog looks at the events themselves.
func checkLog(t *testing.T, log []pulse.Envelope, want int) {
	t.Helper()
	if len(log) != want {
		t.Errorf("%d events in the log, want %d", len(log), want)
	}
	latest := map[string]pulse.Envelope{}
	for _, env := range log {
		if before := latest[env.Key]; env.OccurredAt.Before(before.OccurredAt) && env.Name != courseOpened {
			t.Errorf("%s of %s at position %d comes after one of %s", env.Name, env.OccurredAt, env.Position, before.OccurredAt)
		}
		latest[env.Key] = env
		if isStudents := env.Name != courseOpened && env.Name != quizPublished; isStudents && env.Actor.String() != env.Key {
			t.Errorf("%s with the key %s was triggered by %s", env.Name, env.Key, env.Actor)
		}
	}
}

func TestYearGoesOnAfterAnInterruption(t *testing.T) {
	const students = 400
	dataset, data := manyTables(students).write(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Year(ctx, YearOptions{
		Dataset: dataset, Data: data, Open: openSQLite, Emitters: 4, Rate: 2000,
		Progress: func(p Progress) {
			if p.Handled > 0 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the interrupted year ended with %v", err)
	}
	info, err := os.Stat(filepath.Join(data, secretFile))
	if err != nil {
		t.Fatalf("the secret of the interrupted run: %v", err)
	}
	if runtime.GOOS != "windows" && info.Mode() != fs.FileMode(0o600) {
		t.Errorf("the secret has mode %s", info.Mode())
	}
	begun := len(logged(t, data))
	if begun == 0 || begun >= manyEvents(students) {
		t.Fatalf("%d events were stored before the interruption of %d: it proves nothing", begun, manyEvents(students))
	}
	report, err := Year(t.Context(), YearOptions{Dataset: dataset, Data: data, Open: openSQLite})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := countsOf(report), (counts{emitted: manyEvents(students), handled: manyEvents(students)}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	noSecretIn(t, data)
	checkLog(t, logged(t, data), manyEvents(students))
}

// TestYearDoesNotTrustTheBus damages what the handler wrote, behind the bus's back: the report shows each damage, and the secret stays.
func TestYearDoesNotTrustTheBus(t *testing.T) {
	const students = 60
	all := manyEvents(students)
	tests := map[string]struct {
		damage string // SQL
		bad    func(c counts) bool
	}{
		"effect lost":     {"DELETE FROM demo_handled WHERE batch = 1", func(c counts) bool { return c.lost > 0 && c.handled == all-c.lost }},
		"effect repeated": {"INSERT INTO demo_handled (ids) SELECT ids FROM demo_handled WHERE batch = 1", func(c counts) bool { return c.duplicates > 0 && c.lost == 0 }},
		"order changed": {"UPDATE demo_handled SET batch = -batch", func(c counts) bool {
			return c.outOfOrder > 0 && c.lost == 0 && c.duplicates == 0
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dataset, data := manyTables(students).write(t), t.TempDir()
			open := func(ctx context.Context, path string) (Store, error) {
				store, err := openSQLite(ctx, path)
				return &damaging{Store: store, sql: tt.damage}, err
			}
			report, err := Year(t.Context(), YearOptions{Dataset: dataset, Data: data, Open: open, Emitters: 4})
			if err != nil {
				t.Fatal(err)
			}
			if got := countsOf(report); !tt.bad(got) || report.Clean() {
				t.Errorf("the damage does not show: %+v", got)
			}
			if _, err := os.Stat(filepath.Join(data, secretFile)); err != nil {
				t.Errorf("the secret is needed to look into it: %v", err)
			}
		})
	}
}

// damaging runs a statement once most of a year is handled.
type damaging struct {
	Store
	sql  string
	done bool // used by the one handler
}

func (d *damaging) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	return d.Store.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
		if err := fn(ctx, tx); err != nil || d.done {
			return err
		}
		own, handled := tx.Unwrap().(*sql.Tx), 0
		err := own.QueryRowContext(ctx, "SELECT coalesce(sum(length(ids)), 0) / 16 FROM demo_handled").Scan(&handled)
		if err == nil && handled >= 600 {
			d.done = true
			_, err = own.ExecContext(ctx, d.sql)
		}
		return err
	})
}
