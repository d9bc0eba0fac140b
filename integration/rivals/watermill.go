package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	wmsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
)

// Watermill as its guide "Publishing messages in transactions (and why we should care)" has it: the SQL publisher writes to a table, in the user's
// transaction or not, the Forwarder reads it and publishes to JetStream. The pgx adapter, the default schema for PostgreSQL, and
// the package pkg/nats, which its newer neighbour's comments recommend for production. The broker syncs as for all others.
var (
	watermillDefault = entry{"watermill, defaults", func(ctx context.Context, g ground) (contestant, error) {
		return openWatermill(ctx, g, watermillSettings{batch: 100, poll: time.Second, subscribers: 1})
	}}
	// Best: comments on SubscriberConfig.PollInterval and DefaultPostgreSQLSchema.SubscribeBatchSize say what they cost; 1000 and 1 ms are past the
	// point where it matters. No AckDeadline saves a timer for each message. AckAsync and several subscribers in a queue group
	// are pkg/nats' own means for consumers.
	watermillBest = entry{"watermill, best", func(ctx context.Context, g ground) (contestant, error) {
		return openWatermill(ctx, g, watermillSettings{batch: 1000, poll: time.Millisecond, noDeadline: true, async: true, subscribers: 4, group: "mailers"})
	}}
)

type watermillSettings struct {
	batch       int           // rows read at once
	poll        time.Duration // when there was none
	noDeadline  bool
	async       bool   // acknowledging does not wait for the broker
	subscribers int    // of the broker
	group       string // they share messages
}

const (
	outboxTopic = "outbox"
	topic       = "lessons"
)

type watermillOutbox struct {
	settings watermillSettings
	pool     *pgxpool.Pool
	broker   *broker
	tally    *tally
	schema   wmsql.DefaultPostgreSQLSchema
	outside  message.Publisher // outside of transactions
}

func openWatermill(ctx context.Context, g ground, s watermillSettings) (*watermillOutbox, error) {
	w := &watermillOutbox{settings: s, tally: g.tally, schema: wmsql.DefaultPostgreSQLSchema{SubscribeBatchSize: s.batch}}
	var err error
	if w.pool, err = g.pool(ctx); err != nil {
		return nil, err
	}
	if w.broker, err = embed(g.dir); err != nil {
		return nil, err
	}
	reader, err := w.reader()
	if err != nil {
		return nil, err
	}
	if err := reader.SubscribeInitialize(outboxTopic); err != nil {
		return nil, err
	}
	w.outside, err = w.publisher(wmsql.BeginnerFromPgx(w.pool))
	return w, errors.Join(err, reader.Close())
}

// publisher publishes to the table, for the forwarder.
func (w *watermillOutbox) publisher(db wmsql.ContextExecutor) (message.Publisher, error) {
	p, err := wmsql.NewPublisher(db, wmsql.PublisherConfig{SchemaAdapter: w.schema}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	return forwarder.NewPublisher(p, forwarder.PublisherConfig{ForwarderTopic: outboxTopic}), nil
}

// reader reads the table.
func (w *watermillOutbox) reader() (*wmsql.Subscriber, error) {
	config := wmsql.SubscriberConfig{SchemaAdapter: w.schema, OffsetsAdapter: wmsql.DefaultPostgreSQLOffsetsAdapter{}, PollInterval: w.settings.poll}
	if w.settings.noDeadline {
		config.AckDeadline = new(time.Duration)
	}
	return wmsql.NewSubscriber(wmsql.BeginnerFromPgx(w.pool), config, watermill.NopLogger{})
}

func (w *watermillOutbox) emit(ctx context.Context, evs []lesson) error {
	return publishLessons(ctx, w.outside, evs)
}

func publishLessons(ctx context.Context, p message.Publisher, evs []lesson) error {
	msgs := make([]*message.Message, len(evs))
	for i, ev := range evs {
		data, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		msgs[i] = message.NewMessage(watermill.NewUUID(), data)
		msgs[i].SetContext(ctx)
	}
	return p.Publish(topic, msgs...)
}

func (w *watermillOutbox) transact(ctx context.Context, evs []lesson, work work) error {
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if err := work(ctx, tx); err != nil || len(evs) == 0 {
			return err
		}
		p, err := w.publisher(wmsql.TxFromPgx(tx))
		if err != nil {
			return err
		}
		return publishLessons(ctx, p, evs)
	})
}

// jetStream is the configuration of both sides of the broker.
func (w *watermillOutbox) jetStream() wmnats.JetStreamConfig {
	return wmnats.JetStreamConfig{
		AutoProvision: true, AckAsync: w.settings.async, DurablePrefix: w.settings.group,
		SubscribeOptions: []nats.SubOpt{nats.DeliverAll(), nats.AckExplicit()},
	}
}

func (w *watermillOutbox) relay(ctx context.Context) error {
	reader, err := w.reader()
	if err != nil {
		return err
	}
	nc, err := w.broker.connect()
	if err != nil {
		return err
	}
	out, err := wmnats.NewPublisherWithNatsConn(nc, wmnats.PublisherPublishConfig{Marshaler: &wmnats.NATSMarshaler{}, SubjectCalculator: wmnats.DefaultSubjectCalculator, JetStream: w.jetStream()}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	f, err := forwarder.NewForwarder(reader, out, watermill.NopLogger{}, forwarder.Config{ForwarderTopic: outboxTopic})
	if err != nil {
		return err
	}
	err = f.Run(ctx)
	return errors.Join(err, f.Close(), reader.Close(), out.Close())
}

func (w *watermillOutbox) run(ctx context.Context) error {
	nc, err := w.broker.connect()
	if err != nil {
		return err
	}
	in, err := wmnats.NewSubscriberWithNatsConn(nc, wmnats.SubscriberSubscriptionConfig{
		SubscribersCount: w.settings.subscribers, QueueGroupPrefix: w.settings.group, JetStream: w.jetStream(), CloseTimeout: time.Second,
	}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	msgs, err := in.Subscribe(ctx, topic)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	var relayed error
	var relay sync.WaitGroup
	relay.Go(func() { relayed = w.relay(ctx) })
	for m := range msgs {
		var e lesson
		if err := json.Unmarshal(m.Payload, &e); err != nil {
			return err
		}
		w.tally.handle(e)
		m.Ack()
	}
	relay.Wait()
	return errors.Join(relayed, in.Close())
}

func (w *watermillOutbox) published(ctx context.Context) (int64, error) {
	n, err := w.broker.messages(ctx, topic)
	if err != nil { // the stream is made with the first message
		return 0, nil
	}
	return n, nil
}

func (w *watermillOutbox) close() error {
	err := w.outside.Close()
	w.pool.Close()
	return errors.Join(err, w.broker.close())
}
