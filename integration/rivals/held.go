package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// measureOpen measures from emit to handler while transactions stay open: one that has written, a snapshot, and one in another
// database of the server.
func measureOpen(ctx context.Context, b *bench) error {
	const what = "200/s beside open transactions"
	err := b.handling(ctx, pulseEntry, func(ctx context.Context, c contestant, t *tally) error {
		release, err := b.hold(ctx, holds)
		if err != nil {
			return err
		}
		first := t.emitted.Load()
		part := *b
		part.time = b.held
		err = part.atRate(ctx, usualRate, func(ctx context.Context) error { return c.emit(ctx, t.next(1)) })
		if err == nil {
			err = t.await(ctx, drainWait)
		}
		waits := t.waits(first)
		b.report.add("open", what+", p50", pulseEntry.name, "ms", quantile(waits, 0.5))
		b.report.add("open", what+", longest", pulseEntry.name, "ms", quantile(waits, 1))
		return errors.Join(err, release())
	})
	if err != nil {
		return err
	}
	b.report.atMost("open", "longest, ms", b.report.median("open", what+", longest", pulseEntry), 1000)
	return nil
}

// Before and while a snapshot is open, so many parts of the time are measured.
const (
	partsBefore = 5
	partsWhile  = 20
	unitOfLoad  = 25 // events, 200 times a second
)

// measureSnapshot measures what events cost while a snapshot gets old, and what they cost before.
func measureSnapshot(ctx context.Context, b *bench) error {
	const what, before, old = "5,000/s", "5,000/s, no snapshot", "5,000/s, at the end of a snapshot"
	err := b.handling(ctx, pulseEntry, func(ctx context.Context, c contestant, t *tally) error {
		release := func() error { return nil }
		for part := range partsBefore + partsWhile {
			if part == partsBefore {
				var err error
				if release, err = b.hold(ctx, holds[1:2]); err != nil {
					return err
				}
			}
			cpu, p50, err := b.load(ctx, c, t)
			if err != nil {
				return errors.Join(err, release())
			}
			name := what
			switch {
			case part < partsBefore:
				name = before
			case part >= partsWhile:
				name = old
			}
			b.report.add("snapshot", name+processors, pulseEntry.name, cpuUnit, cpu)
			b.report.add("snapshot", name+", p50", pulseEntry.name, "ms", p50)
		}
		return release()
	})
	if err != nil {
		return err
	}
	m := func(what string) float64 { return b.report.median("snapshot", what+processors, pulseEntry) }
	b.report.atMost("snapshot", "processors, of those without a snapshot", m(old)/m(before), 1.2)
	return nil
}

// load emits at a rate for a part of the time that a snapshot is open, and returns what an event costs and how long it takes.
func (b *bench) load(ctx context.Context, c contestant, t *tally) (cpu, p50 float64, err error) {
	first := t.emitted.Load()
	part := *b
	part.time = snapshotTimes * b.held / partsWhile
	f, err := part.metered(pulseEntry, shape{unit: unitOfLoad}, func() (int64, error) {
		if err := part.atRate(ctx, usualRate, func(ctx context.Context) error { return c.emit(ctx, t.next(unitOfLoad)) }); err != nil {
			return 0, err
		}
		return t.emitted.Load() - first, t.await(ctx, drainWait)
	})
	if err != nil {
		return 0, 0, err
	}
	return f.cpu, quantile(t.waits(first), 0.5), nil
}

// handling runs fn with a contestant that carries events.
func (b *bench) handling(ctx context.Context, e entry, fn func(ctx context.Context, c contestant, t *tally) error) error {
	return b.on(ctx, e, func(c contestant, t *tally) error {
		return during(ctx, c.run, func(ctx context.Context) error {
			if err := b.warm(ctx, c, t); err != nil {
				return err
			}
			return fn(ctx, c, t)
		})
	})
}

// held is a transaction that stays open.
type held struct {
	elsewhere bool // in another database
	options   pgx.TxOptions
	statement string
}

var holds = []held{
	{statement: "INSERT INTO enrolments (student, course) VALUES (gen_random_uuid(), 'biology')"},
	{options: pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, statement: "SELECT count(*) FROM pulse.events"},
	{elsewhere: true, statement: "SELECT pg_current_xact_id()"},
}

// hold opens transactions and returns what ends them.
func (b *bench) hold(ctx context.Context, all []held) (release func() error, err error) {
	var conns []*pgx.Conn
	release = func() error {
		var errs []error
		for _, conn := range conns {
			errs = append(errs, conn.Close(context.WithoutCancel(ctx)))
		}
		return errors.Join(errs...)
	}
	for _, h := range all {
		database := databaseName(b.made)
		if h.elsewhere {
			database = "postgres"
		}
		conn, err := pgx.Connect(ctx, b.server.dsn(database))
		if err != nil {
			return nil, errors.Join(err, release())
		}
		conns = append(conns, conn)
		tx, err := conn.BeginTx(ctx, h.options)
		if err == nil {
			_, err = tx.Exec(ctx, h.statement)
		}
		if err != nil {
			return nil, errors.Join(err, release())
		}
	}
	return release, nil
}

// deadRows counts the dead rows of the log in the database at hand.
func (b *bench) deadRows(ctx context.Context) (n int64, err error) {
	conn, err := pgx.Connect(ctx, b.server.dsn(databaseName(b.made)))
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pgstattuple"); err != nil {
		return 0, err
	}
	const count = "SELECT (pgstattuple('pulse.events')).dead_tuple_count + (pgstattuple('pulse.positions')).dead_tuple_count"
	err = conn.QueryRow(ctx, count).Scan(&n)
	return n, err
}
