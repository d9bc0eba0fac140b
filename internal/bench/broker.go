package bench

import (
	"context"
	"errors"

	"github.com/edupulse-live/pulse"
)

// Broker is an embedded NATS server or a place of its own at another broker, and the connection to it, open.
type Broker struct {
	Dir       string // where its data is: removed after use; "" elsewhere
	Publisher pulse.Publisher
	Source    pulse.Source
	Count     func(ctx context.Context) (int64, error) // how many messages are there, where the publisher cannot tell the last one
	Close     func() error
}

// destination is the name under which events are published.
const destination = "bench"

// withBroker runs fn with a new broker, and removes what it leaves.
func (b *bench) withBroker(ctx context.Context, fn func(broker *Broker) error) error {
	broker, err := b.newBroker(ctx)
	if err != nil {
		return err
	}
	err = errors.Join(fn(broker), broker.Close())
	b.removeDir(broker.Dir)
	return err
}

// newBroker starts a broker without data. clean removes what it leaves.
func (b *bench) newBroker(ctx context.Context) (*Broker, error) {
	broker, err := b.Broker(ctx, b.file())
	if err == nil {
		b.dirs = append(b.dirs, broker.Dir)
	}
	return broker, err
}

// throughBroker is latency with a broker between the log and the handler.
func (b *bench) throughBroker(ctx context.Context) (l *Latency, err error) {
	bus, done, err := b.fresh(ctx)
	if err != nil {
		return nil, err
	}
	err = b.withBroker(ctx, func(broker *Broker) error {
		if err := bus.Publish(destination, broker.Publisher); err != nil {
			return err
		}
		l, err = b.measureLatency(ctx, bus, pulse.From(destination, broker.Source))
		return err
	})
	if err = errors.Join(err, done()); err != nil {
		return nil, err
	}
	b.Say("latency through the broker of %d events at %d/s: p50 %.2f ms, p99 %.2f ms", l.Events, l.Rate, l.P50, l.P99)
	return l, nil
}
