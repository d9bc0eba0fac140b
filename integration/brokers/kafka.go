package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/internal/bench"
	"github.com/edupulse-live/pulse/kafkabroker"
)

// inTransaction is how many records kafkabroker puts into one transaction.
const inTransaction = 4000

// kafka measures clusters in this process, each new, with a topic that has one partition.
type kafka struct {
	dir                      string    // of their files
	idempotent, transactions []float64 // records in a second, of each round
}

func openKafka(_ context.Context, dir string, o *bench.Options) (*subject, error) {
	k := &kafka{dir: dir}
	var headers []cloudevents.RecordHeader
	o.Broker = k.broker
	o.Outside = &bench.Outside{Name: "Kafka", Client: k.client, Encode: func(env *pulse.Envelope) (err error) {
		headers, err = cloudevents.AppendRecordHeaders(headers[:0], env)
		return err
	}}
	return &subject{label: "Kafka, which is kfake in this process", clients: k.rates, close: func() error { return nil }}, nil
}

// cluster starts a new one, which keeps what it has in files: in memory it would copy all it has again and again.
func (k *kafka) cluster(opts ...kfake.Opt) (*kfake.Cluster, error) {
	dir, err := os.MkdirTemp(k.dir, "cluster-")
	if err != nil {
		return nil, err
	}
	return kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.DataDir(dir))...)
}

func (k *kafka) broker(ctx context.Context, _ string) (*bench.Broker, error) {
	cluster, err := k.cluster()
	if err != nil {
		return nil, err
	}
	b, err := kafkabroker.Connect(ctx, cluster.ListenAddrs()[0], &kafkabroker.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		cluster.Close()
		return nil, err
	}
	return &bench.Broker{Publisher: b.Publisher(), Source: b.Source(), Close: func() error {
		err := b.Close()
		cluster.Close()
		return err
	}}, nil
}

func (k *kafka) rates() []rate {
	return []rate{
		{"the client alone, idempotent", median(k.idempotent)},
		{"the client alone, transactions of 4,000", median(k.transactions)},
	}
}

// client measures the client both with and without transactions; the better one counts.
func (k *kafka) client(ctx context.Context, envs []pulse.Envelope, n int) (perSec float64, err error) {
	idempotent, err := k.alone(ctx, envs, n, false)
	if err != nil {
		return 0, err
	}
	transactions, err := k.alone(ctx, envs, n, true)
	if err != nil {
		return 0, err
	}
	k.idempotent, k.transactions = append(k.idempotent, idempotent), append(k.transactions, transactions)
	return max(idempotent, transactions), nil
}

// alone is how many records in a second the client publishes to a cluster of its own.
func (k *kafka) alone(ctx context.Context, envs []pulse.Envelope, n int, transactional bool) (perSec float64, err error) {
	cluster, err := k.cluster(kfake.SeedTopics(1, kafkabroker.DefaultTopic))
	if err != nil {
		return 0, err
	}
	defer cluster.Close()
	p, err := newProducer(ctx, cluster.ListenAddrs()[0], transactional)
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

// producer is the client alone: idempotent, and confirmed by all replicas.
type producer struct{ *kgo.Client }

// newProducer connects. What a client does once, it has done when newProducer returns.
func newProducer(ctx context.Context, address string, transactional bool) (*producer, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(address), kgo.DefaultProduceTopic(kafkabroker.DefaultTopic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0),
	}
	if transactional {
		opts = append(opts, kgo.TransactionalID(uuid.NewString()))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	p := &producer{client}
	if err := p.warm(ctx, transactional); err != nil {
		client.Close()
		return nil, err
	}
	return p, nil
}

// warm publishes one record, and ends its transaction without it. A transaction that ends before the client lists the partition is aborted, and
// the client calls that a success: the next one is not the first.
func (p *producer) warm(ctx context.Context, transactional bool) error {
	if !transactional {
		return p.ProduceSync(ctx, &kgo.Record{}).FirstErr()
	}
	if err := p.BeginTransaction(); err != nil {
		return err
	}
	if err := p.ProduceSync(ctx, &kgo.Record{}).FirstErr(); err != nil {
		return err
	}
	for {
		leader, _, err := p.PartitionLeader(kafkabroker.DefaultTopic, 0)
		switch {
		case err != nil:
			return err
		case leader >= 0:
			return p.EndTransaction(ctx, kgo.TryAbort)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		time.Sleep(time.Millisecond)
	}
}

// publish publishes records, as many on their way as the client allows.
func (p *producer) publish(ctx context.Context, records []kgo.Record) error {
	var failed error // set by the client's one goroutine for promises; read when it is done
	for i := range records {
		p.Produce(ctx, &records[i], func(_ *kgo.Record, err error) {
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	return errors.Join(p.Flush(ctx), failed)
}

// transact is publish in transactions.
func (p *producer) transact(ctx context.Context, records []kgo.Record) error {
	for len(records) > 0 {
		part := records[:min(inTransaction, len(records))]
		records = records[len(part):]
		if err := p.BeginTransaction(); err != nil {
			return err
		}
		if err := p.publish(ctx, part); err != nil {
			return err
		}
		if err := p.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return err
		}
	}
	return nil
}

// recordsOf are n records, of the events again and again.
func recordsOf(envs []pulse.Envelope, n int) ([]kgo.Record, error) {
	ready := make([]kgo.Record, len(envs))
	for i := range envs {
		headers, err := cloudevents.AppendRecordHeaders(nil, &envs[i])
		if err != nil {
			return nil, err
		}
		ready[i] = kgo.Record{Key: []byte(envs[i].Key), Value: envs[i].Data}
		for _, h := range headers {
			ready[i].Headers = append(ready[i].Headers, kgo.RecordHeader(h))
		}
	}
	records := make([]kgo.Record, n)
	for i := range records {
		records[i] = ready[i%len(ready)]
	}
	return records, nil
}
