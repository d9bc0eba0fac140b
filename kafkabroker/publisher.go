package kafkabroker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
)

const (
	maxCall = 4000    // events of one call at most
	spare   = 8 << 10 // what names of headers and the record itself may add to Envelope.Size

	firstRoom = 1 << 20  // bytes of a transaction, before it is known what the line to the cluster takes
	leastRoom = 64 << 10 // whatever failed
	mostRoom  = 1 << 30

	answerWait   = 15 * time.Second // how long one call may take when the caller has no deadline
	deliveryWait = 5 * time.Second  // how long records are tried; then the error says why it failed
	abandoned    = 30 * time.Second // after which the cluster ends the transaction of a publisher that is gone for good
)

// Publisher publishes to the topic of a Broker.
type Publisher struct {
	broker *Broker

	mu     sync.Mutex // held by PublishBatch and Last
	writer *writer    // nil until there is something to publish, and after a failure
	synced bool       // high and ends are known, and nobody else can have published since
	high   pulse.Cursor
	ends   []int64 // offset of the last record of each partition; -1 when there is none
	blind  bool    // the topic has no record that tells high
	turn   int64   // number of the last transaction

	oneByOne bool // a record was refused, and it is not known which: each goes in a transaction of its own
	room     int  // bytes of one transaction, unless it is a single event; see fit
	batch    batch
}

var _ pulse.Publisher = (*Publisher)(nil)

// Publisher returns a publisher to the topic. Of several the one that begins last publishes, and the others fail: each begins again with its
// next call.
func (b *Broker) Publisher() *Publisher { return &Publisher{broker: b, room: firstRoom} }

// Capabilities are constant: what the topic took when the Broker connected, 64 MiB at most, less what headers may add.
func (p *Publisher) Capabilities() pulse.Capabilities {
	return pulse.Capabilities{MaxBatch: maxCall, MaxBytes: p.broker.limit - spare}
}

// Last returns the position furthest in the log among all events published. When a partition has lost records it is the one furthest before
// the first that was lost. It cannot tell when all records have expired, or the last ones are another's; see pulse.Publisher. It ends the transaction
// of a publisher that has the topic.
func (p *Publisher) Last(ctx context.Context) (last pulse.Cursor, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	p.synced = false
	if err := p.sync(ctx); err != nil {
		p.drop()
		return pulse.Cursor{}, false, p.broker.failed("last record", err)
	}
	return p.high, !p.blind, nil
}

// PublishBatch publishes envs as one transaction, or as several one after another when they are large for the line to the cluster; see
// pulse.Publisher. An event that is too large or is no CloudEvent is Rejected.
func (p *Publisher) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	results := make([]pulse.Result, len(envs))
	if len(envs) == 0 {
		return results
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	done, refused, err := 0, error(nil), p.ready(ctx)
	for done < len(envs) && refused == nil && err == nil {
		part, size := p.part(envs[done:])
		var n int
		begun := time.Now()
		n, refused, err = p.transact(ctx, part, results[done:])
		done += n
		if refusal(err) {
			refused, err = p.narrow(ctx, len(part), err)
		} else {
			p.fit(size, time.Since(begun), err)
		}
	}
	switch {
	case err != nil:
		p.drop()
		for i := done; i < len(envs); i++ {
			results[i] = pulse.Result{Err: p.broker.failed("publish", err)}
		}
	case refused != nil:
		p.refuse(envs[done:], results[done:], refused)
	}
	if err == nil {
		p.oneByOne = false
	}
	return results
}

// part returns the first of envs that go in one transaction, and how large they are.
func (p *Publisher) part(envs []pulse.Envelope) (part []pulse.Envelope, size int) {
	for i := range envs {
		n := envs[i].Size()
		if i > 0 && (p.oneByOne || size+n > p.room) {
			return envs[:i], size
		}
		size += n
	}
	return envs, size
}

// fit makes room for twice as much after a transaction that filled it and was quick, and for half as much after one that was slow or failed: what
// cannot be done in the time a call has would be begun for ever, and what failed is in the way when the last record is looked for.
func (p *Publisher) fit(size int, took time.Duration, err error) {
	switch {
	case err != nil || took > deliveryWait:
		p.room = max(min(size, p.room)/2, leastRoom)
	case took < deliveryWait/4 && size > p.room/2:
		p.room = min(2*p.room, mostRoom)
	}
}

// refusal tells that the cluster will not take a record of the batch, however often it comes.
func refusal(err error) bool {
	for _, e := range []error{kerr.MessageTooLarge, kerr.InvalidRecord, kerr.RecordListTooLarge} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// narrow goes on after a transaction of n events failed because one was refused: with one that is it, others go one by one.
func (p *Publisher) narrow(ctx context.Context, n int, why error) (refused, err error) {
	p.drop()
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	if n == 1 {
		return why, nil
	}
	p.oneByOne = true
	return nil, nil
}

// refuse rejects the first of envs and withholds the others.
func (p *Publisher) refuse(envs []pulse.Envelope, results []pulse.Result, why error) {
	why = fmt.Errorf("kafkabroker: event %s: %w: %w", envs[0].ID, pulse.ErrBroker, why)
	results[0] = pulse.Result{Outcome: pulse.Rejected, Err: why}
	for i := 1; i < len(results); i++ {
		results[i] = pulse.Result{Outcome: pulse.Withheld, Err: fmt.Errorf("not tried after one that was refused: %w", why)}
	}
}

// ready makes sure that what is in the topic is known, and that nobody else adds to it. A topic that lost records is an error once, so
// that the caller asks Last before anything is published behind the gap.
func (p *Publisher) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.synced {
		return nil
	}
	before := p.high
	if err := p.sync(ctx); err != nil {
		return err
	}
	if p.high.Position < before.Position && !p.blind {
		return fmt.Errorf("%w: the topic %s had events up to position %d and now has those up to %d: it lost records", pulse.ErrBroker, p.broker.opts.Topic, before.Position, p.high.Position)
	}
	return nil
}

// drop ends the writer, whose transaction failed: the next one aborts what is left of it.
func (p *Publisher) drop() {
	p.synced = false
	if p.writer != nil {
		p.broker.release(p.writer.client)
		p.writer = nil
		p.batch = batch{} // the client may still look at its records
	}
}

// transact publishes envs up to the first that cannot be, in one transaction, and fills in the results. It returns how many these are; refused tells
// why it ended before the last. With an error none is known to be there.
func (p *Publisher) transact(ctx context.Context, envs []pulse.Envelope, results []pulse.Result) (n int, refused, err error) {
	if err := p.writer.client.BeginTransaction(); err != nil {
		return 0, nil, err
	}
	var first error // set by the client's one goroutine for promises; read when it is done
	n, refused = p.batch.fill(p, envs, func(r *kgo.Record) {
		p.writer.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil && first == nil {
				first = err
			}
		})
	})
	if err := p.writer.client.Flush(ctx); err != nil {
		return 0, nil, err
	}
	if first != nil {
		return 0, nil, first
	}
	if err := p.writer.listed(ctx, p.broker.opts.Topic, p.batch.records[:n]); err != nil {
		return 0, nil, err
	}
	if err := p.commit(ctx, p.batch.records[:n]); err != nil {
		return 0, nil, err
	}
	for i := range n {
		r := &p.batch.records[i]
		p.ends[r.Partition] = max(p.ends[r.Partition], r.Offset)
		results[i].Outcome = pulse.Acked
		if len(p.ends) == 1 { // of several partitions each counts by itself
			results[i].Sequence = uint64(r.Offset) + 1
		}
	}
	if p.batch.high != p.high {
		p.high, p.blind = p.batch.high, false
	}
	p.turn++
	return n, refused, nil
}

// writer is a client that is the only one to publish to the topic, until another one begins.
type writer struct {
	client *kgo.Client
	known  bool // the client lists the topic
}

// listed waits until the client lists the partitions of records that were produced. Of the first ones to a topic it does so a moment after it
// has delivered them: to end the transaction before that aborts it, and the client calls it a success.
func (w *writer) listed(ctx context.Context, topic string, records []kgo.Record) error {
	const wait = 100 * time.Microsecond
	for i := 0; i < len(records) && !w.known; {
		leader, _, err := w.client.PartitionLeader(topic, records[i].Partition)
		switch {
		case leader >= 0 || err != nil:
			i++
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			time.Sleep(wait)
		}
	}
	w.known = true
	return nil
}

// transactionalID is what the only writer of the topic is known by.
func (b *Broker) transactionalID() string { return b.opts.Topic }

// newWriter begins to write: whoever wrote before fails from then on, and its transaction is ended.
func (b *Broker) newWriter(ctx context.Context) (*writer, error) {
	client, err := b.newClient(
		kgo.TransactionalID(b.transactionalID()),
		kgo.TransactionTimeout(abandoned),
		kgo.DefaultProduceTopic(b.opts.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(int32(b.limit)),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(maxCall+1),
		kgo.RecordDeliveryTimeout(deliveryWait),
		kgo.ProduceRequestTimeout(dialTimeout),
		kgo.ConcurrentTransactionsBackoff(2*time.Millisecond),
	)
	if err != nil {
		return nil, err
	}
	if !b.adopt(client) {
		client.Close()
		return nil, fmt.Errorf("the broker is closed: %w", pulse.ErrClosed)
	}
	if _, _, err := client.ProducerID(ctx); err != nil {
		b.release(client)
		return nil, err
	}
	return &writer{client: client}, nil
}

// commit ends the transaction of records. With an error it is not known whether they are there, but all are or none.
func (p *Publisher) commit(ctx context.Context, records []kgo.Record) error {
	for i := range records {
		if r := &records[i]; r.Offset <= p.ends[r.Partition] {
			return fmt.Errorf("%w: partition %d ended at offset %d and took a record at %d: it lost records", pulse.ErrBroker, r.Partition, p.ends[r.Partition], r.Offset)
		}
	}
	return p.writer.client.EndTransaction(ctx, kgo.TryCommit)
}
