package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// BrokerRabbit is the kind of RabbitMQ.
const BrokerRabbit = "rabbitmq"

// RabbitSpec is how to reach RabbitMQ.
type RabbitSpec struct {
	User, Password string
	CA             string // file of the certificates that servers are checked against
	Cert, KeyPEM   string // files of the certificate this client shows, and of its key
	TLS            *tls.Config
	Exchange       string
	MaxBytes       int64 // the server's max_message_size; 0 for the adapter's default
}

// options are those of the adapter.
func (r *RabbitSpec) options(logger *slog.Logger) *rabbitbroker.Options {
	return &rabbitbroker.Options{Exchange: r.Exchange, User: r.User, Password: r.Password, TLS: r.TLS, MaxBytes: int(r.MaxBytes), Log: logger}
}

// exchangeName is the name of the exchange, also where no setting was read.
func (r *RabbitSpec) exchangeName() string { return cmp.Or(r.Exchange, "pulse") }

// rabbitSettings are those of RabbitMQ.
func rabbitSettings(text func(field func(*Config) *string) func(*Config, string) error) []Setting {
	rabbit := func(field func(*RabbitSpec) *string) func(*Config, string) error {
		return text(func(c *Config) *string { return field(&c.Broker.Rabbit) })
	}
	return []Setting{
		{"rabbitmq-user", "PULSE_RABBITMQ_USER", "", "`USER` to log in to RabbitMQ as", rabbit(func(r *RabbitSpec) *string { return &r.User })},
		{"rabbitmq-password", "PULSE_RABBITMQ_PASSWORD", "", "`PASSWORD` of the user; better a variable", rabbit(func(r *RabbitSpec) *string { return &r.Password })},
		{"rabbitmq-ca", "PULSE_RABBITMQ_CA", "", "`FILE` of the certificates that servers are checked against, with amqps://", rabbit(func(r *RabbitSpec) *string { return &r.CA })},
		{"rabbitmq-cert", "PULSE_RABBITMQ_CERT", "", "`FILE` of the certificate to show to servers", rabbit(func(r *RabbitSpec) *string { return &r.Cert })},
		{"rabbitmq-key", "PULSE_RABBITMQ_KEY", "", "`FILE` of the key of that certificate", rabbit(func(r *RabbitSpec) *string { return &r.KeyPEM })},
		{"rabbitmq-exchange", "PULSE_RABBITMQ_EXCHANGE", "pulse", "`NAME` of the exchange, and what queues begin with; one for each store", func(c *Config, v string) error {
			c.Broker.Rabbit.Exchange = v
			if err := pulse.ValidateName(v); err != nil {
				return fmt.Errorf("%q is no name of an exchange: use words of a-z, 0-9, '_' and '-', joined by dots, such as school", v)
			}
			return nil
		}},
		{"rabbitmq-max-bytes", "PULSE_RABBITMQ_MAX_BYTES", "16MiB", "`SIZE` of the largest message, the server's max_message_size", func(c *Config, v string) (err error) {
			c.Broker.Rabbit.MaxBytes, err = parseBytes(v)
			return err
		}},
	}
}

// parseRabbit reads the URLs of RabbitMQ servers.
func parseRabbit(v string) (BrokerSpec, error) {
	const form = "write amqp://HOST:PORT/VHOST"
	for part := range strings.SplitSeq(v, ",") {
		u, err := url.Parse(part)
		switch {
		case err != nil:
			return BrokerSpec{}, errors.New("a URL of the broker cannot be read: " + form + ", and percent-encode a password in it")
		case u.Scheme != "amqp" && u.Scheme != "amqps":
			return BrokerSpec{}, fmt.Errorf("a broker of the kind %s:// does not go with one of amqp://: give servers of one cluster", u.Scheme)
		case u.Hostname() == "":
			return BrokerSpec{}, errors.New("a URL of the broker has no host: " + form)
		case u.Port() != "" && !isPort(u.Port()):
			return BrokerSpec{}, fmt.Errorf("the port %s of the broker is none", u.Port())
		case strings.Count(u.EscapedPath(), "/") > 1:
			return BrokerSpec{}, errors.New("a URL of the broker goes on behind its virtual host: " + form + ", and percent-encode a slash in the name")
		case u.RawQuery != "" || u.Fragment != "":
			return BrokerSpec{}, errors.New("a URL of the broker goes on behind its virtual host: " + form + ", and give certificates by --rabbitmq-ca")
		}
	}
	return BrokerSpec{Kind: BrokerRabbit, URL: v}, nil
}

// given lists the settings of RabbitMQ that are set.
func (r *RabbitSpec) given() []string {
	return named([]setting{
		{"rabbitmq-user", r.User},
		{"rabbitmq-password", r.Password},
		{"rabbitmq-ca", r.CA},
		{"rabbitmq-cert", r.Cert},
		{"rabbitmq-key", r.KeyPEM},
	})
}

// problems are what is wrong with the settings of RabbitMQ together.
func (r *RabbitSpec) problems(s *BrokerSpec, fault faultFunc) {
	if s.Kind != BrokerRabbit {
		for _, setting := range r.given() {
			fault(setting, "is for RabbitMQ: the broker is %s", s)
		}
		return
	}
	if ways := r.ways(s.URL); len(ways) > 1 {
		fault("rabbitmq-user", "is another way to log in beside the broker's URL: give one")
	}
	if r.Password != "" && r.User == "" {
		fault("rabbitmq-password", "has no rabbitmq-user to go with it")
	}
	if (r.CA != "" || r.Cert != "") && !strings.HasPrefix(s.URL, "amqps://") {
		fault("broker", "is not reached over TLS, for which there are certificates: write amqps://")
	}
	r.TLS = readTLS("rabbitmq", r.CA, r.Cert, r.KeyPEM, fault)
}

// ways lists the settings by which to log in.
func (r *RabbitSpec) ways(servers string) []string {
	var names []string
	if credentials(servers) {
		names = append(names, "broker")
	}
	if r.User != "" {
		names = append(names, "rabbitmq-user")
	}
	return names
}

// openRabbit connects to RabbitMQ.
func openRabbit(ctx context.Context, spec *BrokerSpec, logger *slog.Logger) (*Destination, error) {
	b, err := rabbitbroker.Connect(ctx, spec.URL, spec.Rabbit.options(logger))
	if err != nil {
		return nil, err
	}
	return &Destination{Name: spec.Destination(), Publisher: b.Publisher(), Source: b.Source(), close: b.Close}, nil
}

// rabbit says what is at RabbitMQ. What was published last it cannot tell.
func (d *doctor) rabbit(ctx context.Context) {
	spec := &d.app.Config.Broker
	exchange := spec.Rabbit.exchangeName()
	state, err := rabbitbroker.Inspect(ctx, spec.URL, d.readers(ctx), spec.Rabbit.options(d.logger))
	switch {
	case err != nil:
		d.found("broker", Fail, "%v", err)
		return
	case state.Exists:
		d.found("broker", OK, "RabbitMQ %s has the exchange %s; it cannot tell what was published last", state.Version, exchange)
	case d.relayed(ctx) > 0:
		d.found("broker", Warn, "the exchange %s is gone, to which the log was published up to position %d: pulse serve makes it anew; subscriptions of Pulse read from the log what they miss; for the queues of other programs there is pulse republish", exchange, d.relayed(ctx))
	default:
		d.found("broker", OK, "RabbitMQ %s has no exchange %s yet: pulse serve makes it", state.Version, exchange)
	}
	for _, q := range state.Queues {
		name := exchange + "." + q.Subscription
		if !q.Exists {
			d.found("broker", Warn, "the queue %s is not there: the application makes it when the subscription runs, and reads from the log what it misses", name)
			continue
		}
		d.found("broker", OK, "the queue %s has %d waiting, for %s", name, q.Ready, many(int64(q.Consumers), "consumer"))
	}
}

// readers are the subscriptions that are fed by the broker.
func (d *doctor) readers(ctx context.Context) (names []string) {
	states, err := d.app.Bus.Subscriptions(ctx)
	if err != nil {
		return nil // the check of subscriptions tells
	}
	for i := range states {
		if states[i].Source == d.app.Config.Broker.Destination() {
			names = append(names, states[i].Name)
		}
	}
	return names
}
