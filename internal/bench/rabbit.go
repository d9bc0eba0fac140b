package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// rabbitFlight is how many messages the client alone has under way.
const rabbitFlight = 2000

// rabbit is a RabbitMQ server, where measurements make exchanges and queues of their own and remove them again.
type rabbit struct{ url string }

// Rabbit makes o measure a RabbitMQ server.
func Rabbit(o *Options, url string) {
	r := &rabbit{url}
	properties := amqp.Table{}
	o.Broker = r.open
	o.Outside = &Outside{Name: "RabbitMQ", Client: r.client, Encode: func(env *pulse.Envelope) error {
		clear(properties)
		_, err := cloudevents.SetProperties(properties, env)
		return err
	}}
}

// open makes an exchange with a queue that gets everything.
func (r *rabbit) open(ctx context.Context, _ string) (*Broker, error) {
	b, q, err := r.place(ctx)
	if err != nil {
		return nil, err
	}
	return q.broker(b), nil
}

// broker is a place whose messages come into the queue too.
func (q *rabbitQueue) broker(b *rabbitbroker.Broker) *Broker {
	return &Broker{
		Publisher: b.Publisher(), Source: b.Source(), Count: q.count,
		Close: func() error { return errors.Join(b.Close(), q.remove()) },
	}
}

func (r *rabbit) place(ctx context.Context) (*rabbitbroker.Broker, *rabbitQueue, error) {
	exchange := "bench-" + uuid.NewString()
	b, err := rabbitbroker.Connect(ctx, r.url, &rabbitbroker.Options{Exchange: exchange, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	q, err := r.bind(exchange)
	if err != nil {
		return nil, nil, errors.Join(err, b.Close())
	}
	return b, q, nil
}

// rabbitQueue is a queue that is bound to an exchange.
type rabbitQueue struct {
	name, exchange string
	conn           *amqp.Connection
	ch             *amqp.Channel
}

func (r *rabbit) bind(exchange string) (q *rabbitQueue, err error) {
	q = &rabbitQueue{name: exchange + ".all", exchange: exchange}
	if q.conn, err = amqp.Dial(r.url); err != nil {
		return nil, err
	}
	if q.ch, err = q.conn.Channel(); err == nil {
		_, err = q.ch.QueueDeclare(q.name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	}
	if err == nil {
		err = q.ch.QueueBind(q.name, "#", exchange, false, nil)
	}
	if err != nil {
		return nil, errors.Join(err, q.conn.Close())
	}
	return q, nil
}

// count is how many messages are in the queue.
func (q *rabbitQueue) count(context.Context) (int64, error) {
	found, err := q.ch.QueueDeclarePassive(q.name, true, false, false, false, nil)
	return int64(found.Messages), err
}

// remove removes the queue, that of the subscription that measurements make, and the exchanges.
func (q *rabbitQueue) remove() (err error) {
	for _, name := range []string{q.name, q.exchange + "." + LatencyName} {
		_, gone := q.ch.QueueDelete(name, false, false, false)
		err = errors.Join(err, gone)
	}
	for _, name := range []string{q.exchange, q.exchange + ".unrouted"} {
		err = errors.Join(err, q.ch.ExchangeDelete(name, false, false))
	}
	return errors.Join(err, q.conn.Close())
}

// client publishes messages that are ready, with as many on their way as are best, as the relay has.
func (r *rabbit) client(ctx context.Context, envs []pulse.Envelope, n int) (perSec float64, err error) {
	b, q, err := r.place(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close(), q.remove()) }()
	messages, err := rabbitMessages(envs)
	if err != nil {
		return 0, err
	}
	conn, err := amqp.Dial(r.url)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := pipeline(ch, q.exchange, envs, messages, n); err != nil {
		return 0, err
	}
	return perSecond(int64(n), time.Since(begin)), nil
}

// pipeline publishes n messages and waits for all confirmations.
func pipeline(ch *amqp.Channel, exchange string, envs []pulse.Envelope, messages []amqp.Publishing, n int) error {
	flying := make([]*amqp.DeferredConfirmation, 0, n)
	for i := range n {
		at := i % len(messages)
		confirmation, err := ch.PublishWithDeferredConfirm(exchange, envs[at].Name, true, false, messages[at])
		if err != nil {
			return err
		}
		if flying = append(flying, confirmation); i >= rabbitFlight {
			flying[i-rabbitFlight].Wait()
		}
	}
	for _, confirmation := range flying {
		if !confirmation.Wait() {
			return fmt.Errorf("%w: the server refuses a message", pulse.ErrBroker)
		}
	}
	return nil
}

// rabbitMessages are the messages of events.
func rabbitMessages(envs []pulse.Envelope) ([]amqp.Publishing, error) {
	messages := make([]amqp.Publishing, len(envs))
	for i := range envs {
		properties := amqp.Table{}
		contentType, err := cloudevents.SetProperties(properties, &envs[i])
		if err != nil {
			return nil, err
		}
		messages[i] = amqp.Publishing{
			Headers: properties, ContentType: contentType, DeliveryMode: amqp.Persistent, MessageId: envs[i].ID.String(), Body: envs[i].Data,
		}
	}
	return messages, nil
}
