//go:build unix

package guarantee

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/natsbroker"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// outside is a connection to a broker that the promises are proved with.
type outside interface {
	Publisher() pulse.Publisher
	Source() pulse.Source
	Close() error

	// address is where other processes find it.
	address() string
	// read returns what was published, from the beginning, by the client library of the broker alone.
	read(ctx context.Context) ([]message, error)
}

// The brokers.
const (
	onNATS   = "nats"
	onRabbit = "rabbitmq"
	onKafka  = "kafka"
)

// withRabbit makes the promises about brokers be proved with RabbitMQ too, which takes long.
const withRabbit = "PULSE_GUARANTEE_RABBITMQ"

// systems are the brokers that tests are run with.
func systems() []string {
	if os.Getenv(withRabbit) == "" {
		return []string{onNATS, onKafka}
	}
	return []string{onNATS, onKafka, onRabbit}
}

// eachSystem runs a test for every store and broker.
func eachSystem(t *testing.T, fn func(t *testing.T, k kind, system string)) {
	each(t, func(t *testing.T, k kind) {
		for _, system := range systems() {
			t.Run(system, func(t *testing.T) {
				t.Parallel()
				fn(t, k, system)
			})
		}
	})
}

// newOutside is a broker of a sort, without messages.
func newOutside(t testing.TB, system string) outside {
	t.Helper()
	switch system {
	case onRabbit:
		return newRabbit(t)
	case onKafka:
		return newKafka(t)
	}
	return newBroker(t, t.TempDir())
}

// dialOutside is another connection to where b is.
func dialOutside(t testing.TB, b outside) outside {
	t.Helper()
	other, err := dialAddress(t.Context(), b.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	return other
}

// dialAddress connects to an address.
func dialAddress(ctx context.Context, address string) (outside, error) {
	log := slog.New(slog.DiscardHandler)
	if exchange, url, ok := strings.Cut(address, rabbitMark); ok {
		b, err := rabbitbroker.Connect(ctx, url, &rabbitbroker.Options{Exchange: exchange, Log: log})
		return rabbitOutside{b, exchange, url}, err
	}
	if servers, ok := strings.CutPrefix(address, kafkaScheme); ok {
		return dialKafka(ctx, servers, log)
	}
	b, err := natsbroker.Connect(ctx, address, &natsbroker.Options{Auth: natsbroker.Auth{Token: brokerToken}, Log: log})
	return natsOutside{b}, err
}

// natsOutside is NATS.
type natsOutside struct{ *natsbroker.Broker }

func (b natsOutside) Publisher() pulse.Publisher { return b.Broker.Publisher() }
func (b natsOutside) Source() pulse.Source       { return b.Broker.Source() }
func (b natsOutside) address() string            { return b.URL() }

func (b natsOutside) read(ctx context.Context) ([]message, error) { return readStream(ctx, b.URL()) }

// rabbits is the RabbitMQ server of all tests.
var rabbits rabbittest.Shared

// rabbitMark is between the exchange and the URL in an address.
const rabbitMark = "@"

// rabbitOutside is an exchange at RabbitMQ, with a queue of a stranger that gets everything.
type rabbitOutside struct {
	*rabbitbroker.Broker
	exchange, url string
}

func newRabbit(t testing.TB) outside {
	t.Helper()
	b, err := rabbitAt(t, rabbits.Server(t).URL(), rabbits.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rabbitAt makes an exchange at a server.
func rabbitAt(t testing.TB, url, exchange string) (outside, error) {
	b, err := rabbitbroker.Connect(t.Context(), url, &rabbitbroker.Options{Exchange: exchange, Log: quiet(t)})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = b.Close() })
	r := rabbitOutside{b, exchange, url}
	return r, r.client(func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(r.queue(), true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
			return err
		}
		return ch.QueueBind(r.queue(), "#", exchange, false, nil)
	})
}

func (b rabbitOutside) Publisher() pulse.Publisher { return b.Broker.Publisher() }
func (b rabbitOutside) Source() pulse.Source       { return b.Broker.Source() }
func (b rabbitOutside) address() string            { return b.exchange + rabbitMark + b.url }
func (b rabbitOutside) queue() string              { return b.exchange + ".stranger" }

// client runs fn with a channel of a plain client.
func (b rabbitOutside) client(fn func(ch *amqp.Channel) error) error {
	conn, err := amqp.Dial(b.url)
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	return fn(ch)
}

// read takes all messages out of the queue without acknowledging them, so that they come back in their order.
func (b rabbitOutside) read(ctx context.Context) (msgs []message, err error) {
	return msgs, b.client(func(ch *amqp.Channel) error {
		q, err := ch.QueueDeclarePassive(b.queue(), true, false, false, false, nil)
		if err != nil {
			return err
		}
		if err := ch.Qos(1<<16-1, 0, false); err != nil { // else a queue keeps back what is behind 2,000
			return err
		}
		deliveries, err := ch.ConsumeWithContext(ctx, q.Name, "", false, false, false, false, nil)
		for err == nil && len(msgs) < q.Messages {
			d, ok := <-deliveries
			if !ok {
				return fmt.Errorf("after %d of %d messages: %w", len(msgs), q.Messages, context.Cause(ctx))
			}
			m := message{seq: uint64(len(msgs) + 1), subject: "pulse.0." + d.RoutingKey, data: string(d.Body)}
			text, _ := d.Headers["cloudEvents_id"].(string)
			m.id, err = uuid.Parse(text)
			msgs = append(msgs, m)
		}
		return err
	})
}

// throughWire is an address with another place in it, and the place that was there.
func throughWire(address string, to net.Addr) (through, place string) {
	mark, rest, ok := strings.Cut(address, rabbitMark)
	if !ok {
		mark, rest = "", address
	} else {
		mark += rabbitMark
	}
	u, err := url.Parse(rest)
	if err != nil {
		return address, ""
	}
	place = u.Host
	if to != nil {
		u.Host = to.String()
	}
	return mark + u.String(), place
}
