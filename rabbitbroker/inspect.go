package rabbitbroker

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// State is what a server has of what a Broker with the same Options would use.
type State struct {
	Version string // of the server
	Exists  bool   // the exchange is there
	Queues  []Queue
}

// Queue is that of a subscription.
type Queue struct {
	Subscription string
	Exists       bool
	Ready        int // messages waiting to be delivered
	Consumers    int // feeds that are open, of which one is active
}

// Inspect looks at a server, and changes nothing there: what Connect and Source.Open would make stays missing.
func Inspect(ctx context.Context, url string, subscriptions []string, o *Options) (state State, err error) {
	b, err := visit(url, o)
	if err != nil {
		return state, err
	}
	err = b.visiting(ctx, "inspect", func(l *link) error {
		state.Version, _ = l.conn.Properties["version"].(string)
		missing, err := l.missing(func() error {
			return l.ch.ExchangeDeclarePassive(b.opts.Exchange, amqp.ExchangeTopic, true, false, false, false, nil)
		})
		state.Exists = !missing
		for _, name := range subscriptions {
			q := Queue{Subscription: name}
			if err == nil {
				missing, err = l.missing(func() error {
					found, err := l.ch.QueueDeclarePassive(b.queue(name), true, false, false, false, nil)
					q.Ready, q.Consumers = found.Messages, found.Consumers
					return err
				})
				q.Exists = !missing
			}
			state.Queues = append(state.Queues, q)
		}
		return err
	})
	return state, err
}

// Forget removes what the broker keeps of a subscription that was dropped: its queue, with what is in it. There may be none. It changes
// nothing else. A feed of the subscription that is open fails.
func Forget(ctx context.Context, url, subscription string, o *Options) error {
	b, err := visit(url, o)
	if err != nil {
		return err
	}
	return b.Source().Forget(ctx, subscription)
}

// Forget is the function Forget, at the server of this source.
func (s *Source) Forget(ctx context.Context, subscription string) error {
	b := s.broker
	if err := b.checkSubscription(subscription); err != nil {
		return fmt.Errorf("rabbitbroker: forget: %w", err)
	}
	return b.visiting(ctx, "forget "+subscription, func(l *link) error {
		if err := l.open(); err != nil {
			return err
		}
		_, err := l.ch.QueueDelete(b.queue(subscription), false, false, false)
		if is(err, amqp.NotFound) {
			return nil
		}
		return err
	})
}

// visiting runs fn with a connection to a server, and leaves the server as it is.
func (b *Broker) visiting(ctx context.Context, op string, fn func(l *link) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	l, err := b.dial(ctx)
	if err != nil {
		return failed(op, err)
	}
	stop := context.AfterFunc(ctx, l.kill)
	err = fn(l)
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	l.close()
	if err != nil {
		return failed(op, err)
	}
	return nil
}
