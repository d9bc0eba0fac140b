package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// contestant carries events from who emits them to a handler, which is the tally's. Events are durable when emit and transact
// return nil, and handlers acknowledge each event by itself.
type contestant interface {
	emit(ctx context.Context, evs []lesson) error                // in no transaction of the user's
	transact(ctx context.Context, evs []lesson, work work) error // in the transaction that does work
	run(ctx context.Context) error                               // carries and handles events until ctx ends
	close() error
}

// work is what a transaction of the user's is for.
type work func(ctx context.Context, tx pgx.Tx) error

// relaying is a contestant with a relay that can run alone.
type relaying interface {
	contestant
	relay(ctx context.Context) error              // publishes events until ctx ends
	published(ctx context.Context) (int64, error) // how many the broker has
}

// entry is a contestant and how it is made ready.
type entry struct {
	name string
	open func(ctx context.Context, g ground) (contestant, error)
}

// ground is what a contestant gets: a new database, a directory without files, and whom to hand events to.
type ground struct {
	dsn   string
	dir   string
	tally *tally

	connections int
}

// pool connects as an application does.
func (g ground) pool(ctx context.Context) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(g.dsn)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(g.connections)
	config.MinIdleConns = config.MaxConns
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return pool, pool.Ping(ctx)
}

// bench is one run of the program.
type bench struct {
	settings
	dir    string
	server *postgres
	report report
	made   int // databases
}

func newBench(ctx context.Context, s settings) (*bench, error) {
	dir, err := os.MkdirTemp("", "rivals-")
	if err != nil {
		return nil, err
	}
	b := &bench{settings: s, dir: dir}
	if err := os.Chmod(dir, 0o755); err != nil { // the server may run as another user
		return nil, errors.Join(err, b.close())
	}
	if b.server, err = startPostgres(ctx, filepath.Join(dir, "postgres"), !s.unsynced); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bench) close() error {
	var err error
	if b.server != nil {
		err = b.server.stop()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// on runs fn with a contestant on a ground of its own, and removes what it leaves.
func (b *bench) on(ctx context.Context, e entry, fn func(c contestant, t *tally) error) (err error) {
	b.made++
	name := databaseName(b.made)
	dir := filepath.Join(b.dir, name)
	if err := errors.Join(os.Mkdir(dir, 0o755), b.server.administer(ctx, "postgres", "CREATE DATABASE "+name, "CHECKPOINT")); err != nil {
		return err
	}
	defer func() {
		drop := b.server.administer(context.WithoutCancel(ctx), "postgres", "DROP DATABASE "+name+" WITH (FORCE)")
		if err = errors.Join(err, drop, os.RemoveAll(dir)); err != nil {
			err = fmt.Errorf("%s: %w", e.name, err)
		}
	}()
	if err := b.server.administer(ctx, name, workTable); err != nil {
		return err
	}
	t := newTally()
	c, err := e.open(ctx, ground{dsn: b.server.dsn(name), dir: dir, tally: t, connections: b.connections})
	if err != nil {
		return err
	}
	return errors.Join(fn(c, t), c.close())
}

func databaseName(n int) string { return fmt.Sprintf("bench%d", n) }

// byTurns measures each contestant as many times as there are rounds, one after the other in each round.
func (b *bench) byTurns(ctx context.Context, entries []entry, fn func(e entry, c contestant, t *tally) error) error {
	for range b.rounds {
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := b.on(ctx, e, func(c contestant, t *tally) error { return fn(e, c, t) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// workTable is what the transactions of users write to.
const workTable = "CREATE TABLE enrolments (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, student uuid NOT NULL, course text NOT NULL, at timestamptz NOT NULL DEFAULT now())"

// enrol is the work of a user's transaction: one statement.
func enrol(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, enrolSQL, course)
	return err
}

const (
	enrolSQL = "INSERT INTO enrolments (student, course) VALUES (gen_random_uuid(), $1)"
	course   = "biology"
)
