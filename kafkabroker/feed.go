package kafkabroker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

const (
	defaultWindow = 1000

	fetchBytes = 8 << 20 // read ahead from one server at most
	partBytes  = 2 << 20 // of which from one partition
)

// Feed is an open Source.
type Feed struct {
	broker *Broker
	cfg    pulse.FeedConfig // constant
	slot   *slot            // guarded by broker.mu

	// Set by start, before there is another goroutine; constant from then on.
	client *kgo.Client // nil until start
	topic  topic
	self   place   // what is committed, but for the offset
	ended  []acked // by partition, of the feed before this one
	halt   func()  // ends keeper
	keeper sync.WaitGroup

	look   chan struct{} // has room for one: keeper is to commit
	wake   chan struct{} // has room for one: Fetch is to look again
	reader cloudevents.RecordReader

	mu        sync.Mutex
	parts     []part          // by partition
	open      map[uint64]spot // by receipt: fetched and not acknowledged
	receipt   uint64          // the last one given
	interrupt func()          // ends a Fetch that waits; nil when none does
	err       error           // why there will be no more
	closed    bool
}

// part is how far a feed has come in one partition.
type part struct {
	next      int64              // the offset behind the last record taken
	open      map[int64]struct{} // taken and not acknowledged
	acked     acked              // those behind the first of open that are
	committed int64
}

// place is the first offset that is not acknowledged.
func (p *part) place() int64 {
	at := p.next
	for offset := range p.open {
		at = min(at, offset)
	}
	return at
}

type spot struct {
	partition int32
	offset    int64
}

func newFeed(b *Broker, cfg pulse.FeedConfig) *Feed {
	cfg.Names = slices.Clone(cfg.Names)
	return &Feed{broker: b, cfg: cfg, look: make(chan struct{}, 1), wake: make(chan struct{}, 1), open: make(map[uint64]spot)}
}

// Fetch waits for messages and returns up to max; see pulse.Feed. After an error that is not of ctx, open a new Feed: when the topic is
// gone or was made anew, records have expired before they were read, or another feed has taken over.
func (f *Feed) Fetch(ctx context.Context, max int) ([]pulse.Message, error) {
	if max < 1 {
		return nil, fmt.Errorf("kafkabroker: fetch %d messages: ask for one at least: %w", max, pulse.ErrInvalid)
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, f.broker.failed("fetch", err)
		}
		changed, err := f.activate(ctx)
		if err != nil {
			return nil, f.broker.failed("fetch", err)
		}
		var msgs []pulse.Message
		full := false
		if changed == nil {
			msgs, full, err = f.poll(ctx, max)
		}
		if err != nil || len(msgs) > 0 {
			return msgs, err
		}
		if changed == nil && !full {
			continue
		}
		select {
		case <-f.wake:
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// activate starts the feed when it is its turn. Until then it returns the channel to wait for.
func (f *Feed) activate(ctx context.Context) (changed <-chan struct{}, err error) {
	f.mu.Lock()
	started, closed := f.client != nil, f.closed
	f.mu.Unlock()
	if started || closed {
		return nil, nil
	}
	active, _, changed := f.broker.turn(f)
	if !active {
		return changed, nil
	}
	return nil, f.start(ctx)
}

// poll waits for records. full says that there is no room for more before some are acknowledged.
func (f *Feed) poll(ctx context.Context, max int) (msgs []pulse.Message, full bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	room := min(max, f.cfg.Window-len(f.open))
	err = f.usable("fetch")
	if err == nil && room > 0 {
		f.interrupt = cancel
	}
	f.mu.Unlock()
	if err != nil || room < 1 {
		return nil, err == nil, err
	}
	fetches := f.client.PollRecords(ctx, room)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.interrupt = nil
	msgs = make([]pulse.Message, 0, fetches.NumRecords())
	for it := fetches.RecordIter(); !it.Done(); {
		if msg, ok := f.accept(it.Next()); ok {
			msgs = append(msgs, msg)
		}
	}
	fetches.EachError(func(_ string, partition int32, err error) {
		if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
			f.failLocked(fmt.Errorf("partition %d: %w: open again", partition, err))
		}
	})
	if len(msgs) == 0 {
		return nil, false, f.usable("fetch")
	}
	return msgs, false, nil
}

// accept makes a message of a record, or passes over what is not wanted.
func (f *Feed) accept(r *kgo.Record) (msg pulse.Message, ok bool) {
	p := &f.parts[r.Partition]
	p.next = r.Offset + 1
	if id, was := f.ended[r.Partition][r.Offset]; was && id == idOf(r) {
		p.acked[r.Offset] = id
		f.signal(f.look)
		return msg, false
	}
	env, err := f.read(r)
	if err != nil {
		f.broker.opts.Log.Error("kafkabroker: a record that is no event is skipped", "subscription", f.cfg.Subscription, "partition", r.Partition, "offset", r.Offset, "error", err)
	}
	if err != nil || env.Position < f.self.start || !f.wants(env.Name) {
		f.signal(f.look)
		return msg, false
	}
	f.receipt++
	f.open[f.receipt] = spot{r.Partition, r.Offset}
	p.open[r.Offset] = struct{}{}
	p.acked[r.Offset] = env.ID // as soon as it is not open any more
	return pulse.Message{Envelope: env, Receipt: f.receipt}, true
}

// read is the event of a record.
func (f *Feed) read(r *kgo.Record) (pulse.Envelope, error) {
	if f.cfg.Known != nil {
		if place, ok := placeOf(r); ok {
			if env, ok := f.cfg.Known(place); ok {
				return env, nil
			}
		}
	}
	for i := range r.Headers {
		f.reader.Set(r.Headers[i].Key, r.Headers[i].Value)
	}
	return f.reader.Envelope(r.Key, r.Value)
}

func (f *Feed) wants(name string) bool {
	return f.cfg.Names == nil || slices.ContainsFunc(f.cfg.Names, func(pattern string) bool { return pulse.MatchName(pattern, name) })
}

// Ack acknowledges exactly the messages with these receipts; see pulse.Feed. The place of the subscription is committed soon after.
func (f *Feed) Ack(ctx context.Context, receipts []uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return f.broker.failed("ack", err)
	}
	if err := f.usable("ack"); err != nil {
		return err
	}
	for _, receipt := range receipts {
		if receipt == 0 || receipt > f.receipt {
			return fmt.Errorf("kafkabroker: ack: receipt %d was not given by this feed: %w", receipt, pulse.ErrInvalid)
		}
		if at, ok := f.open[receipt]; ok {
			delete(f.open, receipt)
			delete(f.parts[at.partition].open, at.offset)
		}
	}
	f.signal(f.look)
	f.signal(f.wake)
	return nil
}

// Close gives unacknowledged messages back, and commits what is acknowledged.
func (f *Feed) Close() error {
	f.mu.Lock()
	closed := f.closed
	f.closed = true
	f.stopFetch()
	f.mu.Unlock()
	if closed {
		return nil
	}
	if f.client == nil {
		f.broker.leave(f, nil)
		return nil
	}
	f.halt()
	f.keeper.Wait()
	f.client.Close()
	f.broker.leave(f, f.done())
	return nil
}

// done are the records acknowledged behind one that is not.
func (f *Feed) done() []acked {
	f.mu.Lock()
	defer f.mu.Unlock()
	ended := make([]acked, len(f.parts))
	for i := range f.parts {
		p := &f.parts[i]
		maps.DeleteFunc(p.acked, func(offset int64, _ uuid.UUID) bool { _, open := p.open[offset]; return open })
		ended[i] = p.acked
	}
	return ended
}

// usable is nil while the feed can be used.
func (f *Feed) usable(op string) error {
	switch {
	case f.closed:
		return fmt.Errorf("kafkabroker: %s: the feed is closed: %w", op, pulse.ErrClosed)
	case f.err != nil:
		return f.broker.failed(op, f.err)
	}
	return nil
}

// fail makes every further Fetch return err.
func (f *Feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failLocked(err)
	f.stopFetch()
}

func (f *Feed) failLocked(err error) {
	if f.err == nil {
		f.err = err
	}
}

// stopFetch ends a Fetch that waits.
func (f *Feed) stopFetch() {
	if f.interrupt != nil {
		f.interrupt()
	}
	f.signal(f.wake)
}

func (f *Feed) signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
