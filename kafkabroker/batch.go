package kafkabroker

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

// batch is the records of one transaction. All is reused.
type batch struct {
	records []kgo.Record
	headers []cloudevents.RecordHeader
	own     []kgo.RecordHeader // of all records
	data    []byte             // keys and values of all records: the caller gets its own back
	high    pulse.Cursor       // what the publisher's will be once the records are there
}

// fill makes records of envs, up to the first that cannot be published, and hands each to produce while the next is made. refused is why one
// cannot. It returns how many these are.
func (b *batch) fill(p *Publisher, envs []pulse.Envelope, produce func(*kgo.Record)) (n int, refused error) {
	b.high = p.high
	b.room(envs)
	held := make([]*kgo.Record, len(p.ends)) // of each partition: it may turn out to be the last, which tells more
	for ; n < len(envs); n++ {
		if refused = b.add(p, &envs[n]); refused != nil {
			break
		}
		r := &b.records[n]
		if before := held[r.Partition]; before != nil {
			produce(before)
		}
		held[r.Partition] = r
	}
	markEnds(p, held)
	for _, r := range held {
		if r != nil {
			produce(r)
		}
	}
	return n, refused
}

// room makes room for all, so that nothing moves.
func (b *batch) room(envs []pulse.Envelope) {
	const headers = 20 // of most records
	size := 0
	for i := range envs {
		size += len(envs[i].Key) + len(envs[i].Data)
	}
	if cap(b.data) < size {
		b.data = make([]byte, 0, size)
	}
	if cap(b.records) < len(envs) {
		b.records = make([]kgo.Record, 0, max(len(envs), 16))
	}
	if cap(b.own) < headers*len(envs) {
		b.own = make([]kgo.RecordHeader, 0, headers*max(len(envs), 16))
	}
	b.data, b.records, b.own = b.data[:0], b.records[:0], b.own[:0]
}

// keep copies s to data.
func keep[S ~string | ~[]byte](b *batch, s S) []byte {
	start := len(b.data)
	b.data = append(b.data, s...)
	return b.data[start:len(b.data):len(b.data)]
}

// add makes the next record of env. The error is why it cannot be published.
func (b *batch) add(p *Publisher, env *pulse.Envelope) (err error) {
	limit := p.broker.limit
	if n := env.Size(); n > limit-spare {
		return fmt.Errorf("it takes %d bytes, the topic %d", n, limit-spare)
	}
	if b.headers, err = cloudevents.AppendRecordHeaders(b.headers[:0], env); err != nil {
		return err
	}
	start := len(b.own)
	for i := range b.headers {
		b.own = append(b.own, kgo.RecordHeader(b.headers[i]))
	}
	if env.Position < b.high.Position {
		b.own = append(b.own, kgo.RecordHeader{Key: headerHigh, Value: []byte(highText(b.high))})
	}
	headers := b.own[start:len(b.own):len(b.own)]
	if n := encoded(env, headers); n > limit {
		return fmt.Errorf("it takes %d bytes as encoded, the topic %d", n, limit)
	}
	r := kgo.Record{Headers: headers, Value: keep(b, env.Data), Partition: partitionOf(env, len(p.ends))}
	if env.Key != "" {
		r.Key = keep(b, env.Key)
	}
	b.records = append(b.records, r)
	if env.Position > b.high.Position {
		b.high = pulse.Cursor{Position: env.Position, Commitment: env.Commitment}
	}
	return nil
}

// encoded is how many bytes a record takes alone in its batch, at most.
func encoded(env *pulse.Envelope, headers []kgo.RecordHeader) int {
	const batch, varints = 61, 10
	n := batch + 4*varints + varints + len(env.Key) + varints + len(env.Data)
	for i := range headers {
		n += varints + len(headers[i].Key) + len(headers[i].Value)
	}
	return n
}

// partitionOf is where the event goes: by its key, as Kafka's own clients do, or by its id when it has none, so that it goes there
// again when it is sent again.
func partitionOf(env *pulse.Envelope, partitions int) int32 {
	if partitions == 1 {
		return 0
	}
	r := kgo.Record{Key: []byte(env.Key)}
	if env.Key == "" {
		r.Key = env.ID[:]
	}
	return int32(kgo.StickyKeyPartitioner(nil).ForTopic("").Partition(&r, partitions))
}

// markEnds adds the header that tells of the other partitions to the last record of each.
func markEnds(p *Publisher, last []*kgo.Record) {
	if len(p.ends) == 1 || len(p.ends) > mostEnds {
		return
	}
	m := marks{turn: p.turn + 1, ends: make([]mark, len(p.ends))}
	for i := range m.ends {
		m.ends[i] = mark{p.ends[i], last[i] != nil}
	}
	text := []byte(m.String())
	for _, r := range last {
		if r != nil {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: headerEnds, Value: text})
		}
	}
}
