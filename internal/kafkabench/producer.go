package kafkabench

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

// inTransaction is how many records kafkabroker puts into one transaction.
const inTransaction = 4000

// producer is the client alone, publishing to one topic: idempotent, and confirmed by all replicas.
type producer struct {
	*kgo.Client
	topic string
}

// producer connects. What a client does once, it has done when producer returns.
func (t *topic) producer(ctx context.Context, transactional bool) (*producer, error) {
	opts := append(t.cluster.options(),
		kgo.DefaultProduceTopic(t.name), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0),
	)
	if transactional {
		opts = append(opts, kgo.TransactionalID(uuid.NewString()))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	p := &producer{client, t.name}
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
		leader, _, err := p.PartitionLeader(p.topic, 0)
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
