package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
	"github.com/edupulse-live/pulse/pgstore"
)

// Pulse as its documentation has it: a relay to an embedded JetStream and an ordered subscription fed from there, or from the log.
var (
	pulseEntry = entry{"pulse", func(ctx context.Context, g ground) (contestant, error) { return openPulse(ctx, g, true, true) }}
	pulseRelay = entry{"pulse", func(ctx context.Context, g ground) (contestant, error) { return openPulse(ctx, g, true, false) }}
	pulseLog   = entry{"pulse, from the log", func(ctx context.Context, g ground) (contestant, error) { return openPulse(ctx, g, false, true) }}
	// The whole transaction sent as one pgx.Batch, which neither Watermill's nor River's API allows.
	pulseQueue = entry{"pulse, queued", func(ctx context.Context, g ground) (contestant, error) {
		c, err := openPulse(ctx, g, true, true)
		return queued{c}, err
	}}
	pulseElsewhere = entry{"pulse, Tx elsewhere", func(ctx context.Context, g ground) (contestant, error) {
		c, err := openPulse(ctx, g, true, true)
		if err != nil {
			return nil, err
		}
		return openElsewhere(ctx, g, c)
	}}
)

const destination = "nats"

// pulsed is Pulse.
type pulsed struct {
	store  *pgstore.Store
	bus    *pulse.Bus
	pool   *pgxpool.Pool // the application's
	broker *natsbroker.Broker
	last   *natsbroker.Publisher // to ask for the end of the stream
}

func openPulse(ctx context.Context, g ground, published, handled bool) (_ *pulsed, err error) {
	p := &pulsed{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.store, err = pgstore.Open(ctx, g.dsn, nil); err != nil {
		return nil, err
	}
	if p.bus, err = pulse.New(p.store, &pulse.Options{Source: "/school"}); err != nil {
		return nil, err
	}
	if p.pool, err = g.pool(ctx); err != nil {
		return nil, err
	}
	handler := []pulse.SubscribeOption{pulse.Ordered(), pulse.On(func(_ context.Context, e lesson) error {
		g.tally.handle(e)
		return nil
	})}
	if published {
		if p.broker, err = natsbroker.Embed(ctx, filepath.Join(g.dir, "nats"), nil); err != nil {
			return nil, err
		}
		p.last = p.broker.Publisher()
		if err := p.bus.Publish(destination, p.broker.Publisher()); err != nil {
			return nil, err
		}
		handler = append(handler, pulse.From(destination, p.broker.Source()))
	}
	if handled {
		return p, p.bus.Subscribe("mailer", handler...)
	}
	return p, nil
}

func (p *pulsed) emit(ctx context.Context, evs []lesson) (err error) {
	if len(evs) == 1 {
		_, err = p.bus.Emit(ctx, evs[0])
		return err
	}
	_, err = p.bus.EmitAll(ctx, events(evs))
	return err
}

func events(evs []lesson) []pulse.Event {
	all := make([]pulse.Event, len(evs))
	for i := range evs {
		all[i] = evs[i]
	}
	return all
}

func (p *pulsed) transact(ctx context.Context, evs []lesson, work work) error {
	return pgstore.Do(ctx, p.pool, p.bus, func(tx pgx.Tx, e pulse.Emitter) error { return emitAfter(ctx, tx, e, evs, work) })
}

// emitAfter emits in a transaction after the work of it is done.
func emitAfter(ctx context.Context, tx pgx.Tx, e pulse.Emitter, evs []lesson, work work) (err error) {
	if err = work(ctx, tx); err != nil || len(evs) == 0 {
		return err
	}
	if len(evs) == 1 {
		_, err = e.Emit(ctx, evs[0])
		return err
	}
	_, err = e.EmitAll(ctx, events(evs))
	return err
}

func (p *pulsed) run(ctx context.Context) error { return p.bus.Run(ctx) }

func (p *pulsed) relay(ctx context.Context) error { return p.bus.Run(ctx) }

func (p *pulsed) published(ctx context.Context) (int64, error) {
	last, _, err := p.last.Last(ctx)
	return int64(last.Position), err
}

func (p *pulsed) close() error {
	var errs []error
	if p.bus != nil {
		errs = append(errs, p.bus.Close())
	}
	if p.broker != nil {
		errs = append(errs, p.broker.Close())
	}
	if p.pool != nil {
		p.pool.Close()
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	return errors.Join(errs...)
}

// queued sends work and events of a transaction as one batch.
type queued struct{ *pulsed }

func (q queued) transact(ctx context.Context, evs []lesson, _ work) error {
	batch := &pgx.Batch{} // of enrol's work
	batch.Queue(enrolSQL, course)
	for _, ev := range evs {
		if _, err := pgstore.Queue(ctx, batch, q.bus, ev); err != nil {
			return err
		}
	}
	if err := q.pool.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	q.bus.Wake()
	return nil
}

// elsewhere emits in transactions of another bus, which has its own store and connections as another process has, and wakes nobody.
type elsewhere struct {
	*pulsed
	other *pulsed
}

func openElsewhere(ctx context.Context, g ground, here *pulsed) (contestant, error) {
	other, err := openPulse(ctx, g, false, false)
	if err != nil {
		return nil, errors.Join(err, here.close())
	}
	return elsewhere{here, other}, nil
}

func (e elsewhere) transact(ctx context.Context, evs []lesson, work work) error {
	return pgx.BeginFunc(ctx, e.other.pool, func(tx pgx.Tx) error {
		return emitAfter(ctx, tx, e.other.bus.In(pgstore.Tx(tx)), evs, work)
	})
}

func (e elsewhere) close() error { return errors.Join(e.other.close(), e.pulsed.close()) }
