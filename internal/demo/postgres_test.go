package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
)

// postgres is the server of the tests of this package.
var postgres pgtest.Shared

const yearSchema = "school_year"

func openPostgres(dsn string) Opener {
	return func(ctx context.Context, _ string) (Store, error) {
		store, err := pgstore.Open(ctx, dsn, &pgstore.Options{Schema: yearSchema})
		if err != nil {
			return nil, err
		}
		return store, nil
	}
}

func TestYearOnPostgres(t *testing.T) {
	const students = 100
	dataset, data, dsn := manyTables(students).write(t), filepath.Join(t.TempDir(), "data"), postgres.Database(t)
	n := manyEvents(students)
	for i, broker := range []bool{false, true} {
		report, err := Year(t.Context(), YearOptions{
			Dataset: dataset, Data: data, Open: openPostgres(dsn), Schema: yearSchema, Broker: brokerOf(broker), Emitters: 32,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := countsOf(report), (counts{emitted: n, published: wantPublished(broker, n), handled: n}); got != want {
			t.Errorf("year %d: %+v, want %+v", i+1, got, want)
		}
		noSecretIn(t, data)
	}
	checkLog(t, loggedBy(t, openPostgres(dsn), ""), 2*n)
}

// What was done to the books on PostgreSQL shows too.
func TestYearOnPostgresDoesNotTrustTheBus(t *testing.T) {
	const students = 60
	all := manyEvents(students)
	for name, tt := range map[string]struct {
		damage string
		bad    func(c counts) bool
	}{
		"effect lost":     {"DELETE FROM %s WHERE batch = (SELECT min(batch) FROM %[1]s)", func(c counts) bool { return c.lost > 0 && c.handled == all-c.lost }},
		"effect repeated": {"INSERT INTO %s (ids) SELECT ids FROM %[1]s WHERE batch = (SELECT min(batch) FROM %[1]s)", func(c counts) bool { return c.duplicates > 0 && c.lost == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			dataset, data, dsn := manyTables(students).write(t), t.TempDir(), postgres.Database(t)
			open := func(ctx context.Context, path string) (Store, error) {
				store, err := openPostgres(dsn)(ctx, path)
				return &damagingPostgres{Store: store, sql: fmt.Sprintf(tt.damage, yearSchema+".demo_handled")}, err
			}
			report, err := Year(t.Context(), YearOptions{Dataset: dataset, Data: data, Open: open, Schema: yearSchema, Emitters: 4})
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

// damagingPostgres runs a statement once most of a year is handled.
type damagingPostgres struct {
	Store
	sql  string
	done bool // used by the one handler
}

func (d *damagingPostgres) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	return d.Store.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
		if err := fn(ctx, tx); err != nil || d.done {
			return err
		}
		own, handled := tx.Unwrap().(pgx.Tx), 0
		err := own.QueryRow(ctx, "SELECT coalesce(sum(length(ids)), 0) / 16 FROM "+yearSchema+".demo_handled").Scan(&handled)
		if err == nil && handled >= 600 {
			d.done = true
			_, err = own.Exec(ctx, d.sql)
		}
		return err
	})
}
