package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
)

// YearOptions say how to play the year. Dataset, Data and Open are required.
type YearOptions struct {
	Dataset  string       // directory of the OULAD tables, gzip CSV
	Data     string       // directory for the store and its broker, created when there is none
	Open     Opener       // the store
	Schema   string       // of the store, when that is in PostgreSQL
	Broker   BrokerOpener // the broker between log and handler; nil for none. It may be another one each time
	Rate     float64      // events per second; 0 for as fast as possible
	Emitters int          // goroutines that emit; 0 for a good number
	Logger   *slog.Logger
	Progress func(Progress) // told a few times a second how far the run is, by one goroutine. nil for nobody
}

// Progress is how far a run is, in events.
type Progress struct {
	Emitted, Handled int // by this process
	Published        int // acknowledged by the broker, also to an earlier process of this year; 0 without a broker
	Planned          int // in the whole year
}

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
	path := storePath(opts.Data, opts.Schema)
	store, err := opts.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	broker, err := openBroker(ctx, opts.Broker, path)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	report, err := playYear(ctx, &opts, p, store, broker)
	return report, errors.Join(err, broker.close(), store.Close())
}

func playYear(ctx context.Context, opts *YearOptions, p *plan, store Store, broker *Broker) (*Report, error) {
	secret, fresh, err := beginYear(ctx, opts.Data, opts.Schema, store)
	if err != nil {
		return nil, err
	}
	r := newYearRun(opts, p, secret)
	r.broker, r.fresh = broker, fresh
	if err := r.play(ctx, store); err != nil {
		return nil, fmt.Errorf("the year was interrupted, start again with the same data directory to go on: %w", err)
	}
	report, err := r.report(ctx, store)
	if err != nil || !report.Clean() {
		return report, err
	}
	return report, removeSecret(opts.Data)
}

// beginYear prepares the handler's table and returns the secret of the run; fresh says that it is a new one. What a finished run left in the table goes before
// the new secret comes, so that a table beside a secret is always of its run.
func beginYear(ctx context.Context, dir, schema string, store Store) (secret []byte, fresh bool, err error) {
	secret, fresh, err = loadSecret(dir)
	if err != nil {
		return nil, false, err
	}
	err = inBooks(ctx, store, schema, func(b books) error {
		err := b.create(ctx)
		if err == nil && fresh {
			err = b.clear(ctx)
		}
		return err
	})
	if err == nil && fresh {
		secret, err = newSecret(dir)
	}
	return secret, fresh, err
}
