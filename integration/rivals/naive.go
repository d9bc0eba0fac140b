package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
)

// An outbox as many write it themselves: a table, workers that take rows with SKIP LOCKED, publish them and delete them. Events of one
// key overtake each other between the workers.
var naiveEntry = entry{"skip locked", func(ctx context.Context, g ground) (contestant, error) { return openNaive(ctx, g) }}

const (
	naiveWorkers = 4
	naiveBatch   = 500
	naivePoll    = 5 * time.Millisecond
	naiveStream  = "NAIVE"
)

type naive struct {
	pool   *pgxpool.Pool
	broker *broker
	tally  *tally
}

func openNaive(ctx context.Context, g ground) (*naive, error) {
	n := &naive{tally: g.tally}
	var err error
	if n.pool, err = g.pool(ctx); err != nil {
		return nil, err
	}
	_, err = n.pool.Exec(ctx, "CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created timestamptz NOT NULL DEFAULT now(), payload json NOT NULL)")
	if err != nil {
		return nil, err
	}
	if n.broker, err = embed(g.dir); err != nil {
		return nil, err
	}
	_, err = n.broker.js.CreateStream(ctx, jetstream.StreamConfig{Name: naiveStream, Subjects: []string{"naive"}})
	return n, err
}

func insertPayloads(ctx context.Context, db execer, evs []lesson) error {
	payloads := make([]string, len(evs))
	for i := range evs {
		data, err := json.Marshal(evs[i])
		if err != nil {
			return err
		}
		payloads[i] = string(data)
	}
	_, err := db.Exec(ctx, "INSERT INTO outbox (payload) SELECT unnest($1::json[])", payloads)
	return err
}

func (n *naive) emit(ctx context.Context, evs []lesson) error {
	return insertPayloads(ctx, n.pool, evs)
}

func (n *naive) transact(ctx context.Context, evs []lesson, work work) error {
	return pgx.BeginFunc(ctx, n.pool, func(tx pgx.Tx) error {
		if err := work(ctx, tx); err != nil || len(evs) == 0 {
			return err
		}
		return insertPayloads(ctx, tx, evs)
	})
}

// relay moves rows to the broker until ctx ends.
func (n *naive) relay(ctx context.Context) error {
	var group sync.WaitGroup
	errs := make([]error, naiveWorkers)
	for i := range naiveWorkers {
		group.Go(func() {
			for ctx.Err() == nil && errs[i] == nil {
				moved, err := n.move(ctx)
				if errs[i] = err; moved == 0 {
					pauseAfter(ctx, naivePoll)
				}
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(errs...)
}

// move publishes some rows at once, and deletes them when all are acknowledged.
func (n *naive) move(ctx context.Context) (moved int, err error) {
	err = pgx.BeginFunc(ctx, n.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING payload`, naiveBatch)
		if err != nil {
			return err
		}
		payloads, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			return err
		}
		acks := make([]jetstream.PubAckFuture, len(payloads))
		for i, data := range payloads {
			if acks[i], err = n.broker.js.PublishAsync("naive", data); err != nil {
				return err
			}
		}
		for _, ack := range acks {
			select {
			case <-ack.Ok():
			case err := <-ack.Err():
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		moved = len(payloads)
		return nil
	})
	return moved, err
}

func (n *naive) run(ctx context.Context) error {
	consumer, err := n.broker.js.CreateOrUpdateConsumer(ctx, naiveStream, jetstream.ConsumerConfig{
		Durable: "mailer", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: window,
	})
	if err != nil {
		return err
	}
	var relayed error
	var relay sync.WaitGroup
	relay.Go(func() { relayed = n.relay(ctx) })
	err = consume(ctx, consumer, func(data []byte) error {
		var e lesson
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		n.tally.handle(e)
		return nil
	})
	relay.Wait()
	return errors.Join(err, relayed)
}

func (n *naive) published(ctx context.Context) (int64, error) {
	return n.broker.messages(ctx, naiveStream)
}

func (n *naive) close() error {
	n.pool.Close()
	return n.broker.close()
}
