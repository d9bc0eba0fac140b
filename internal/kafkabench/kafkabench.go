// Package kafkabench lets package bench measure a Kafka cluster. It is apart so that a command that does not speak Kafka need not link its client.
package kafkabench

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/internal/bench"
	"github.com/edupulse-live/pulse/kafkabroker"
)

// cluster is a Kafka cluster, where measurements make topics of one partition of their own and remove them again.
type cluster struct{ servers, user, password string }

// Measure makes o measure a cluster, servers being as for kafkabroker.Connect. It logs in by SCRAM-SHA-512 if there is a user.
func Measure(o *bench.Options, servers, user, password string) {
	c := &cluster{servers, user, password}
	var headers []cloudevents.RecordHeader
	o.Broker = c.open
	o.Outside = &bench.Outside{Name: "Kafka", Client: c.client, Encode: func(env *pulse.Envelope) (err error) {
		headers, err = cloudevents.AppendRecordHeaders(headers[:0], env)
		return err
	}}
}

// topic is one of a measurement.
type topic struct {
	cluster *cluster
	name    string
}

func (c *cluster) open(ctx context.Context, _ string) (*bench.Broker, error) {
	b, t, err := c.place(ctx)
	if err != nil {
		return nil, err
	}
	return &bench.Broker{Publisher: b.Publisher(), Source: b.Source(), Close: func() error {
		forgotten := b.Source().Forget(context.WithoutCancel(ctx), bench.LatencyName)
		return errors.Join(forgotten, b.Close(), t.remove(ctx))
	}}, nil
}

// place makes a topic, as Pulse does.
func (c *cluster) place(ctx context.Context) (*kafkabroker.Broker, *topic, error) {
	t := &topic{c, "bench-" + uuid.NewString()}
	b, err := kafkabroker.Connect(ctx, c.servers, &kafkabroker.Options{
		Topic: t.name, Auth: kafkabroker.Auth{User: c.user, Password: c.password}, Log: slog.New(slog.DiscardHandler),
	})
	return b, t, err
}

// removeTimeout is how long a topic may take to be removed, although what was measured may have been broken off.
const removeTimeout = 30 * time.Second

func (t *topic) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	client, err := kgo.NewClient(t.cluster.options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = kadm.NewClient(client).DeleteTopic(ctx, t.name)
	return err
}

// options are those of a client.
func (c *cluster) options() []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(strings.Split(c.servers, ",")...)}
	if c.user != "" {
		opts = append(opts, kgo.SASL(scram.Auth{User: c.user, Pass: c.password}.AsSha512Mechanism()))
	}
	return opts
}

// client measures the client with and without transactions; the better one counts.
func (c *cluster) client(ctx context.Context, envs []pulse.Envelope, n int) (perSec float64, err error) {
	for _, transactional := range []bool{false, true} {
		rate, err := c.alone(ctx, envs, n, transactional)
		if err != nil {
			return 0, err
		}
		perSec = max(perSec, rate)
	}
	return perSec, nil
}

// alone is how many records in a second the client publishes to a topic of its own.
func (c *cluster) alone(ctx context.Context, envs []pulse.Envelope, n int, transactional bool) (perSec float64, err error) {
	b, t, err := c.place(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.remove(ctx)) }()
	if err := b.Close(); err != nil {
		return 0, err
	}
	p, err := t.producer(ctx, transactional)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	records, err := recordsOf(envs, n)
	if err != nil {
		return 0, err
	}
	publish := p.publish
	if transactional {
		publish = p.transact
	}
	begin := time.Now()
	err = publish(ctx, records)
	return float64(n) / time.Since(begin).Seconds(), err
}
