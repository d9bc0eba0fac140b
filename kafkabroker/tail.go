package kafkabroker

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

// headerHigh is in a record whose position is lower than that of one before it in the topic, as when it had been held back: the highest
// before it, and its commitment. So every record tells the highest position up to itself, and in a partition that only grows.
const headerHigh = "pulse-highest"

func highText(c pulse.Cursor) string {
	return strconv.FormatInt(int64(c.Position), 10) + " " + base64.StdEncoding.EncodeToString(c.Commitment[:])
}

// header returns the value of a header, "" when there is none.
func header(r *kgo.Record, key string) string {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}

// highOf reads the highest position up to a record. ok is false when it is none of ours.
func highOf(r *kgo.Record) (c pulse.Cursor, ok bool) {
	if high := header(r, headerHigh); high != "" {
		position, commitment, _ := strings.Cut(high, " ")
		return readPlace(position, commitment)
	}
	return placeOf(r)
}

// placeOf reads the place in the log that a record tells of.
func placeOf(r *kgo.Record) (c pulse.Cursor, ok bool) {
	return readPlace(header(r, cloudevents.RecordPosition), header(r, cloudevents.RecordCommitment))
}

func readPlace(position, commitment string) (c pulse.Cursor, ok bool) {
	n, err := strconv.ParseInt(position, 10, 64)
	if err != nil || n < 1 {
		return pulse.Cursor{}, false
	}
	c.Position = pulse.Position(n)
	if len(commitment) > base64.StdEncoding.EncodedLen(len(c.Commitment)) {
		return pulse.Cursor{}, false
	}
	var sum [len(c.Commitment) + 1]byte // what four characters more than needed could say
	got, err := base64.StdEncoding.Decode(sum[:], []byte(commitment))
	if err != nil || got != 0 && got != len(c.Commitment) {
		return pulse.Cursor{}, false
	}
	copy(c.Commitment[:], sum[:])
	return c, true
}

// bounds are where the records of a partition begin and end, for who reads what is committed.
type bounds struct{ start, end int64 }

// bounds asks for those of all partitions.
func (b *Broker) bounds(ctx context.Context, t *topic) ([]bounds, error) {
	all := make([]bounds, len(t.leaders))
	list := func(ask func(context.Context, ...string) (kadm.ListedOffsets, error), set func(*bounds, int64)) error {
		offsets, err := ask(ctx, b.opts.Topic)
		if err != nil {
			return err
		}
		for p := range all {
			o, ok := offsets.Lookup(b.opts.Topic, int32(p))
			if !ok {
				return fmt.Errorf("partition %d: %w", p, kerr.UnknownTopicOrPartition)
			}
			if o.Err != nil {
				return fmt.Errorf("partition %d: %w", p, o.Err)
			}
			set(&all[p], o.Offset)
		}
		return nil
	}
	adm := b.admin()
	err := list(adm.ListStartOffsets, func(b *bounds, at int64) { b.start = at })
	if err == nil {
		err = list(adm.ListCommittedOffsets, func(b *bounds, at int64) { b.end = at })
	}
	return all, err
}

// tail is the last record of a partition.
type tail struct {
	bounds
	record *kgo.Record // nil when there is none: never was, or it has expired
}

// tails reads the last record of each partition.
func (b *Broker) tails(ctx context.Context, t *topic) ([]tail, error) {
	all, err := b.bounds(ctx, t)
	if err != nil {
		return nil, err
	}
	tails := make([]tail, len(all))
	for p := range all {
		tails[p].bounds = all[p]
		// Behind the last record lie the marks of its transaction, and what of others was aborted.
		for back := int64(2); tails[p].record == nil && all[p].start < all[p].end; back *= 4 {
			from := max(all[p].end-back, all[p].start)
			if tails[p].record, err = b.lastFrom(ctx, t, int32(p), from, all[p].end); err != nil {
				return nil, fmt.Errorf("partition %d: %w", p, err)
			}
			if from == all[p].start {
				break
			}
		}
	}
	return tails, nil
}

// lastFrom returns the last record from an offset on and before end; nil when there is none.
func (b *Broker) lastFrom(ctx context.Context, t *topic, partition int32, from, end int64) (last *kgo.Record, err error) {
	for from < end {
		records, next, err := b.fetch(ctx, t, partition, from)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if r.Offset < end { // others may have come since
				last = r
			}
		}
		if next <= from {
			return nil, fmt.Errorf("%w: nothing can be read at offset %d, though the end is %d", pulse.ErrBroker, from, end)
		}
		from = next
	}
	return last, nil
}

// firstFrom returns the first record from an offset on and before end; nil when there is none.
func (b *Broker) firstFrom(ctx context.Context, t *topic, partition int32, from, end int64) (*kgo.Record, error) {
	for from < end {
		records, next, err := b.fetch(ctx, t, partition, from)
		switch {
		case err != nil:
			return nil, err
		case len(records) > 0:
			return records[0], nil
		case next <= from:
			return nil, fmt.Errorf("%w: nothing can be read at offset %d, though the end is %d", pulse.ErrBroker, from, end)
		}
		from = next
	}
	return nil, nil
}

// fetch reads committed records at an offset, and returns with them the offset behind what was looked at.
func (b *Broker) fetch(ctx context.Context, t *topic, partition int32, offset int64) (records []*kgo.Record, next int64, err error) {
	const maxBytes = 1 << 20 // one batch comes whatever its size
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.IsolationLevel = 100, 1, 1
	req.MaxBytes = 2 * maxBytes // never reached: kfake forgets then which transactions were aborted
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = partition, offset, maxBytes
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID, rt.Partitions = b.opts.Topic, t.id, []kmsg.FetchRequestTopicPartition{part}
	req.Topics = []kmsg.FetchRequestTopic{rt}
	resp, err := b.client.Broker(int(t.leaders[partition])).RetriableRequest(ctx, req)
	if err != nil {
		return nil, 0, err
	}
	r := resp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		return nil, 0, err
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return nil, 0, fmt.Errorf("%w: the answer is about something else", pulse.ErrBroker)
	}
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: offset, IsolationLevel: kgo.ReadCommitted(), Topic: b.opts.Topic, Partition: partition,
	}, &r.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	return got.Records, next, got.Err
}

// idOf is the id of a record's event; uuid.Nil when it is none of ours.
func idOf(r *kgo.Record) uuid.UUID {
	id, err := uuid.Parse(header(r, "ce_id"))
	if err != nil {
		return uuid.Nil
	}
	return id
}
