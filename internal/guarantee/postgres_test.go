//go:build unix

package guarantee

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
)

// withPostgres is the variable that has the promises proved with PostgreSQL too, as make stress does.
const withPostgres = "PULSE_GUARANTEE_POSTGRES"

// server is that of all logs in PostgreSQL; it starts when the first one is created.
var server pgtest.Shared

// postgresPlace is a database.
type postgresPlace struct{ dsn string }

func createPostgres(ctx context.Context, _ string) (place, error) {
	p, err := createDatabase(ctx, "template1")
	if err != nil {
		return nil, err
	}
	_, closeStore, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	return p, errors.Join(closeStore(), execute(ctx, p.dsn, "CREATE TABLE effects (place bigint GENERATED ALWAYS AS IDENTITY, n int NOT NULL)"))
}

// createDatabase makes one of the server's as a copy of another that nobody is connected to.
func createDatabase(ctx context.Context, template string) (*postgresPlace, error) {
	dsn, err := server.DSN()
	if err != nil {
		return nil, err
	}
	database := "guarantee_" + strings.ToLower(rand.Text())
	if err := execute(ctx, dsn, "CREATE DATABASE "+database+" TEMPLATE "+template); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	return &postgresPlace{fmt.Sprintf("host=%s port=%d user=%s password='%s' dbname=%s sslmode=disable",
		config.Host, config.Port, config.User, config.Password, database)}, nil
}

// copy is the database as it is now, under another name.
func (p *postgresPlace) copy(t *testing.T) place {
	t.Helper()
	config, err := pgx.ParseConfig(p.dsn)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := createDatabase(t.Context(), config.Database)
	if err != nil {
		t.Fatal(err)
	}
	return copied
}

func execute(ctx context.Context, dsn, statement string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func (p *postgresPlace) location() string { return p.dsn }

func (p *postgresPlace) open(ctx context.Context) (full, func() error, error) {
	store, err := pgstore.Open(ctx, p.dsn, nil)
	if err != nil {
		return nil, nil, err
	}
	return store, store.Close, nil
}

func (p *postgresPlace) transactions(w *world) map[string]transaction {
	return map[string]transaction{
		"Transact": w.transact,
		"Do": func(ctx context.Context, fn func(tx any, e pulse.Emitter) error) error {
			return p.withPool(ctx, func(pool *pgxpool.Pool) error {
				return pgstore.Do(ctx, pool, w.bus, func(tx pgx.Tx, e pulse.Emitter) error { return fn(tx, e) })
			})
		},
		"Tx": func(ctx context.Context, fn func(tx any, e pulse.Emitter) error) error {
			return p.withPool(ctx, func(pool *pgxpool.Pool) error {
				return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return fn(tx, w.bus.In(pgstore.Tx(tx))) })
			})
		},
	}
}

// withPool runs fn with a connection of the user's own.
func (p *postgresPlace) withPool(ctx context.Context, fn func(pool *pgxpool.Pool) error) error {
	pool, err := pgxpool.New(ctx, p.dsn+" pool_max_conns=1")
	if err != nil {
		return err
	}
	defer pool.Close()
	return fn(pool)
}

func (p *postgresPlace) onTx(fn func(ctx context.Context, tx any, e lesson) error) pulse.SubscribeOption {
	return pgstore.OnTx(func(ctx context.Context, tx pgx.Tx, e lesson) error { return fn(ctx, tx, e) })
}

func (p *postgresPlace) write(ctx context.Context, tx any, _ pulse.Emitter, n int) error {
	_, err := tx.(pgx.Tx).Exec(ctx, "INSERT INTO effects (n) VALUES ($1)", n)
	return err
}

func (p *postgresPlace) written(ctx context.Context, _ pulse.Store) (effects []int, err error) {
	err = p.withPool(ctx, func(pool *pgxpool.Pool) error {
		rows, err := pool.Query(ctx, "SELECT n FROM effects ORDER BY place")
		if err != nil {
			return err
		}
		effects, err = pgx.CollectRows(rows, pgx.RowTo[int])
		return err
	})
	return effects, err
}

// check looks for positions of no event, and for gaps between them.
func (p *postgresPlace) check(ctx context.Context) error {
	return p.withPool(ctx, func(pool *pgxpool.Pool) error {
		var positions, last, events int64
		err := pool.QueryRow(ctx, `SELECT count(*), coalesce(max(position), 0), count(e.id)
			FROM pulse.positions p LEFT JOIN pulse.events e ON e.id = p.event`).Scan(&positions, &last, &events)
		if err == nil && (positions != last || events != last) {
			err = fmt.Errorf("%d positions up to %d, of %d events", positions, last, events)
		}
		return err
	})
}
