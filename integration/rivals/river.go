package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// River inserts jobs and works them from the same database: there is no broker on the way.
var (
	// Defaults: those of Config, with the number of workers of the README's example.
	riverDefault = entry{"river, defaults", func(ctx context.Context, g ground) (contestant, error) {
		return openRiver(ctx, g, false, &river.Config{Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}}})
	}}
	// Best: the numbers of River's own benchmark (cmd/river, package riverbench), which its authors chose for throughput, and InsertManyFast,
	// which its documentation recommends for many jobs.
	riverBest = entry{"river, best", func(ctx context.Context, g ground) (contestant, error) {
		return openRiver(ctx, g, true, &river.Config{
			FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond,
			Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2000}},
		})
	}}
)

type riverJobs struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	fast   bool
}

func openRiver(ctx context.Context, g ground, fast bool, config *river.Config) (*riverJobs, error) {
	r := &riverJobs{fast: fast}
	var err error
	if r.pool, err = g.pool(ctx); err != nil {
		return nil, err
	}
	driver := riverpgxv5.New(r.pool)
	config.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: config.Logger})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	config.Workers = river.NewWorkers()
	river.AddWorker(config.Workers, river.WorkFunc(func(_ context.Context, job *river.Job[lesson]) error {
		g.tally.handle(job.Args)
		return nil
	}))
	r.client, err = river.NewClient(driver, config)
	return r, err
}

func jobs(evs []lesson) []river.InsertManyParams {
	all := make([]river.InsertManyParams, len(evs))
	for i := range evs {
		all[i].Args = evs[i]
	}
	return all
}

func (r *riverJobs) emit(ctx context.Context, evs []lesson) (err error) {
	switch {
	case len(evs) == 1:
		_, err = r.client.Insert(ctx, evs[0], nil)
	case r.fast:
		_, err = r.client.InsertManyFast(ctx, jobs(evs))
	default:
		_, err = r.client.InsertMany(ctx, jobs(evs))
	}
	return err
}

func (r *riverJobs) transact(ctx context.Context, evs []lesson, work work) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
		if err = work(ctx, tx); err != nil {
			return err
		}
		switch {
		case len(evs) == 0:
		case len(evs) == 1:
			_, err = r.client.InsertTx(ctx, tx, evs[0], nil)
		case r.fast:
			_, err = r.client.InsertManyFastTx(ctx, tx, jobs(evs))
		default:
			_, err = r.client.InsertManyTx(ctx, tx, jobs(evs))
		}
		return err
	})
}

func (r *riverJobs) run(ctx context.Context) error {
	background := context.WithoutCancel(ctx)
	if err := r.client.Start(background); err != nil {
		return err
	}
	<-ctx.Done()
	stop, cancel := context.WithTimeout(background, patience)
	defer cancel()
	if err := r.client.Stop(stop); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (r *riverJobs) close() error {
	r.pool.Close()
	return nil
}
