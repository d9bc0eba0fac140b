package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

const (
	sketchStream = "SKETCH"
	batchSize    = 1000 // of an atomic batch at most, says the server
	batchFrom    = 10   // events from which a batch is faster than single messages
	idle         = 20 * time.Millisecond
	window       = 4000 // messages that are delivered and not acknowledged, at most
)

func (s *sketch) createStream(ctx context.Context) error {
	_, err := s.broker.js.CreateStream(ctx, jetstream.StreamConfig{Name: sketchStream, Subjects: []string{"sketch.>"}, AllowAtomicPublish: true})
	return err
}

func (s *sketch) createConsumer(ctx context.Context) (jetstream.Consumer, error) {
	return s.broker.js.CreateOrUpdateConsumer(ctx, sketchStream, jetstream.ConsumerConfig{
		Durable: "mailer", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: window,
	})
}

// consume fetches messages and acknowledges each after it was handled, until ctx ends.
func consume(ctx context.Context, consumer jetstream.Consumer, handle func(data []byte) error) error {
	for ctx.Err() == nil {
		if err := consumeSome(consumer, handle); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func consumeSome(consumer jetstream.Consumer, handle func(data []byte) error) error {
	// Not with ctx: a fetch that is broken off forgets messages that are on their way, which come again after the acknowledgement's time.
	batch, err := consumer.Fetch(window/2, jetstream.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	for m := range batch.Messages() {
		if err := handle(m.Data()); err != nil {
			return err
		}
		if err := m.Ack(); err != nil {
			return err
		}
	}
	if err := batch.Error(); !errors.Is(err, nats.ErrTimeout) {
		return err
	}
	return nil
}

// sketchTickSQL is the tick as it was first written down.
const sketchTickSQL = `WITH last AS MATERIALIZED (SELECT n, snap, head FROM pulse.ticks ORDER BY n DESC LIMIT 1),
fresh AS MATERIALIZED (
	SELECT e.id FROM pulse.events e WHERE e.epoch = 1 AND e.xid >= (SELECT pg_snapshot_xmax(snap) FROM last)
	UNION ALL
	SELECT e.id FROM (SELECT pg_snapshot_xip(snap) AS x FROM last) q JOIN pulse.events e ON e.epoch = 1 AND e.xid = q.x
), placed AS (
	INSERT INTO pulse.positions SELECT (SELECT head FROM last) + row_number() OVER (ORDER BY id), id FROM fresh
), ticked AS (
	INSERT INTO pulse.ticks (n, head, snap) SELECT n + 1, head + (SELECT count(*) FROM fresh), pg_current_snapshot() FROM last
	WHERE EXISTS (SELECT 1 FROM fresh) RETURNING head
) SELECT coalesce((SELECT head FROM ticked), (SELECT head FROM last))`

const sketchReadSQL = `SELECT p.position, e.event_id, e.name, e.version, e.source, e.occurred_at, e.recorded_at, e.correlation_id, e.key, e.commitment, e.data
	FROM pulse.positions p JOIN pulse.events e ON e.id = p.event WHERE p.position > $1 ORDER BY p.position LIMIT $2`

// relay gives events their positions and publishes them, until ctx ends.
func (s *sketch) relay(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off"); err != nil {
		return err
	}
	for {
		var head int64
		err := conn.QueryRow(ctx, sketchTickSQL).Scan(&head)
		for err == nil && int64(s.last) < head {
			err = s.publishNext(ctx, conn)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-time.After(idle):
		}
	}
}

// publishNext publishes the next events, as one atomic batch when they are many. What position n has is message n of the stream.
func (s *sketch) publishNext(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, sketchReadSQL, s.last, batchSize)
	if err != nil {
		return err
	}
	var msgs []*nats.Msg
	for rows.Next() {
		env := pulse.Envelope{}
		var commitment []byte
		if err := rows.Scan(&env.Position, (*[16]byte)(&env.ID), &env.Name, &env.Version, &env.Source, &env.OccurredAt, &env.RecordedAt,
			&env.Correlation, &env.Key, &commitment, (*[]byte)(&env.Data)); err != nil {
			return err
		}
		copy(env.Commitment[:], commitment)
		m, err := messageOf(&env)
		if err != nil {
			return err
		}
		msgs = append(msgs, m)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return s.publish(ctx, msgs)
}

func messageOf(env *pulse.Envelope) (*nats.Msg, error) {
	headers, err := cloudevents.AppendHeaders(nil, env)
	if err != nil {
		return nil, err
	}
	m := &nats.Msg{Subject: "sketch." + env.Name, Header: make(nats.Header, len(headers)+4), Data: env.Data}
	for _, h := range headers {
		m.Header[h.Name] = []string{h.Value}
	}
	return m, nil
}

func (s *sketch) publish(ctx context.Context, msgs []*nats.Msg) error {
	if len(msgs) >= batchFrom {
		id := uuid.NewString()
		for i, m := range msgs {
			m.Header["Nats-Batch-Id"], m.Header["Nats-Batch-Sequence"] = []string{id}, []string{strconv.Itoa(i + 1)}
			if i == 0 {
				m.Header["Nats-Expected-Last-Sequence"] = []string{strconv.FormatUint(s.last, 10)}
			}
			if i < len(msgs)-1 {
				if err := s.broker.nc.PublishMsg(m); err != nil {
					return err
				}
			}
		}
		last := msgs[len(msgs)-1]
		last.Header["Nats-Batch-Commit"] = []string{"1"}
		return s.request(ctx, last, uint64(len(msgs)))
	}
	for _, m := range msgs {
		m.Header["Nats-Expected-Last-Sequence"] = []string{strconv.FormatUint(s.last, 10)}
		if err := s.request(ctx, m, 1); err != nil {
			return err
		}
	}
	return nil
}

// request publishes the last of n messages and waits for the answer.
func (s *sketch) request(ctx context.Context, m *nats.Msg, n uint64) error {
	ack, err := s.broker.js.PublishMsg(ctx, m)
	if err != nil {
		return err
	}
	if s.last += n; ack.Sequence != s.last {
		return fmt.Errorf("the stream ends at %d and not at %d", ack.Sequence, s.last)
	}
	return nil
}

func (s *sketch) published(ctx context.Context) (int64, error) {
	return s.broker.messages(ctx, sketchStream)
}
