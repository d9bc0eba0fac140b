package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// YearOptions say how to play the year. Dataset, Data and Open are required.
type YearOptions struct {
	Dataset  string                                                // directory of the OULAD tables, gzip CSV
	Data     string                                                // directory for the store, created when there is none
	Open     Opener                                                // the store
	Broker   func(ctx context.Context, dir string) (Broker, error) // the broker between log and handler; nil for none
	Rate     float64                                               // events per second; 0 for as fast as possible
	Emitters int                                                   // goroutines that emit; 0 for a good number
	Logger   *slog.Logger
	// Progress is told a few times a second how far the run is, by one goroutine. nil for nobody.
	Progress func(emitted, handled, planned int)
}

// yearTable holds the effect of the handler: which events it handled, in which order. A batch is one row.
const yearTable = `CREATE TABLE IF NOT EXISTS demo_handled (batch INTEGER PRIMARY KEY, ids BLOB NOT NULL) STRICT`

// Year plays the year in the dataset: it emits every event from many goroutines, handles all of them in one ordered transactional
// subscription, and counts. When it was interrupted, even by a kill, the next call on the same data directory goes on and
// ends with the same counts. After a run that ended, a call plays another year, with new pseudonyms, into the same log.
func Year(ctx context.Context, opts YearOptions) (*Report, error) {
	p, err := readPlan(opts.Dataset)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Data, 0o700); err != nil {
		return nil, err
	}
	store, err := opts.Open(ctx, filepath.Join(opts.Data, storeFile))
	if err != nil {
		return nil, err
	}
	report, err := playYear(ctx, &opts, p, store)
	return report, errors.Join(err, store.Close())
}

func playYear(ctx context.Context, opts *YearOptions, p *plan, store Store) (*Report, error) {
	secret, err := beginYear(ctx, opts.Data, store)
	if err != nil {
		return nil, err
	}
	r := newYearRun(opts, p, secret)
	if err := r.play(ctx, store); err != nil {
		return nil, fmt.Errorf("the year was interrupted, start again with the same data directory to go on: %w", err)
	}
	report, err := r.report(ctx, store)
	if err != nil || !report.Clean() {
		return report, err
	}
	return report, removeSecret(opts.Data)
}

// beginYear prepares the handler's table and returns the secret of the run. What a finished run left in the table goes before
// the new secret comes, so that a table beside a secret is always of its run.
func beginYear(ctx context.Context, dir string, store Store) ([]byte, error) {
	secret, fresh, err := loadSecret(dir)
	if err != nil {
		return nil, err
	}
	err = inSQL(ctx, store, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, yearTable)
		if err == nil && fresh {
			_, err = tx.ExecContext(ctx, "DELETE FROM demo_handled")
		}
		return err
	})
	if err == nil && fresh {
		secret, err = newSecret(dir)
	}
	return secret, err
}
