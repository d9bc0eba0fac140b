package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
)

// What a consumer remembers for who opens it again.
const (
	metaStart = "pulse-start" // the first position wanted
	metaFrom  = "pulse-from"  // the sequence number it begins with
)

// ackWait is how long the server waits for an acknowledgement. The feed says in half that time that it still has the message. What a
// process had that is gone does not wait for it: the next feed takes over at once.
const ackWait = 30 * time.Second

// leastInactive is how long a subscription is remembered at least.
const leastInactive = time.Hour

// lookWait is how long the consumer before may take to answer.
const lookWait = 3 * time.Second

// start begins to deliver.
func (f *Feed) start(ctx context.Context) error {
	b := f.broker
	f.cut = b.lostSoon()
	info, err := b.ensureStream(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	f.made = info.Created
	if err := f.takeOver(ctx, info); err != nil {
		return err
	}
	f.seen = f.delivered
	f.done = make(chan struct{})
	f.sub, err = b.nc.Subscribe(nats.NewInbox(), f.arrive)
	if err != nil {
		return err
	}
	f.sub.SetClosedHandler(func(string) { close(f.done) })
	if err := f.sub.SetPendingLimits(-1, -1); err != nil { // no more comes than was asked for
		return err
	}
	f.stop, f.look = make(chan struct{}), make(chan struct{}, 1)
	f.forget = b.waiting.add(f.fail)
	f.keeper.Go(f.keep)
	return nil
}

// consumerName is the name of the subscription's consumer: names of events have dots, names of consumers must not.
func consumerName(subscription string) string { return strings.ReplaceAll(subscription, ".", "=") }

// A subscription has a new consumer each time it is taken over, named with a generation behind the name: the pulls of whoever had
// it before find nobody.
const generationMark = "@"

func generationName(subscription string, generation int) string {
	return consumerName(subscription) + generationMark + strconv.Itoa(generation)
}

// readGeneration reads the name of a consumer. ok is false when it is none of ours.
func readGeneration(name string) (consumer string, generation int, ok bool) {
	consumer, text, _ := strings.Cut(name, generationMark)
	generation, err := strconv.Atoi(text)
	return consumer, generation, err == nil
}

// consumers are the names of all consumers of the stream.
func (b *Broker) consumers(ctx context.Context) ([]string, error) {
	s, err := b.stream(ctx)
	if err != nil {
		return nil, err
	}
	return certain(ctx, b, func(ctx context.Context) (all []string, err error) {
		names := s.ConsumerNames(ctx)
		for name := range names.Name() {
			all = append(all, name)
		}
		return all, names.Err()
	})
}

// generations are those of a subscription that have a consumer, in order.
func (b *Broker) generations(ctx context.Context, subscription string) (found []int, err error) {
	names, err := b.consumers(ctx)
	for _, name := range names {
		if consumer, generation, ok := readGeneration(name); ok && consumer == consumerName(subscription) {
			found = append(found, generation)
		}
	}
	slices.Sort(found)
	return found, err
}

func (b *Broker) deleteGenerations(ctx context.Context, subscription string, generations []int) error {
	for _, generation := range generations {
		_, err := ask(ctx, b, func(ctx context.Context) (_ struct{}, err error) {
			return struct{}{}, b.js.DeleteConsumer(ctx, b.opts.Stream, generationName(subscription, generation))
		})
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return err
		}
	}
	return nil
}

// config is the consumer of a feed that is new.
func (f *Feed) config(start pulse.Position, from uint64) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       f.consumer,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   from,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxDeliver:    -1,
		MaxAckPending: -1, // each feed keeps to its window by itself

		// A subscription that was dropped, or is away for longer than messages are kept, is forgotten: it takes from the log what it missed.
		InactiveThreshold: max(f.broker.opts.MaxAge, leastInactive),
		FilterSubjects:    f.broker.filters(f.cfg.Names),
		Metadata: map[string]string{
			metaStart: strconv.FormatInt(int64(start), 10),
			metaFrom:  strconv.FormatUint(from, 10),
		},
	}
}

// create makes the consumer.
func (f *Feed) create(ctx context.Context, start pulse.Position, from uint64) error {
	_, err := certain(ctx, f.broker, func(ctx context.Context) (jetstream.Consumer, error) {
		return f.broker.js.CreateConsumer(ctx, f.broker.opts.Stream, f.config(start, from))
	})
	return err
}

// remembered is the start of a consumer that is there.
func remembered(c *jetstream.ConsumerInfo) (start pulse.Position, from uint64) {
	n, _ := strconv.ParseInt(c.Config.Metadata[metaStart], 10, 64)
	from, _ = strconv.ParseUint(c.Config.Metadata[metaFrom], 10, 64)
	return pulse.Position(n), from
}

// fresh is the start of a consumer that is new.
func (f *Feed) fresh(ctx context.Context, info *jetstream.StreamInfo) (start pulse.Position, from uint64, err error) {
	from, err = f.broker.seek(ctx, info.State, f.cfg.Start)
	return max(f.cfg.Start, 0), from, err
}

// takeOver makes the consumer of the subscription anew, after what was acknowledged. So what was delivered and not
// acknowledged comes at once and in order, and a feed elsewhere gets nothing more.
func (f *Feed) takeOver(ctx context.Context, info *jetstream.StreamInfo) error {
	b := f.broker
	generations, err := b.generations(ctx, f.cfg.Subscription)
	if err != nil {
		return err
	}
	generation, start, from := 1, pulse.Position(0), uint64(0)
	if n := len(generations); n > 0 {
		generation = generations[n-1] + 1
		start, from, err = f.inherit(ctx, generations[n-1])
		if f.broker.mute(ctx, err) {
			start, from, err = f.fresh(ctx, info)
		}
	} else {
		start, from, err = f.fresh(ctx, info)
	}
	if err != nil {
		return err
	}
	from = max(from, info.State.FirstSeq, 1)
	f.first, f.delivered, f.consumer = start, from-1, generationName(f.cfg.Subscription, generation)
	if err = f.create(ctx, start, from); err != nil {
		return err
	}
	deleting, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	if err := b.deleteGenerations(deleting, f.cfg.Subscription, generations); err != nil && !b.mute(ctx, err) {
		return err
	}
	return nil
}

// mute tells that nobody answers for the consumer before: in a cluster one may be left without a leader. The feed does without it, begins
// with what it was told to, and leaves it to the next one, or to time, to remove it.
func (b *Broker) mute(ctx context.Context, err error) bool {
	return b.opts.Replicas > 1 && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded)
}

// inherit finds where the consumer of a generation has come to.
func (f *Feed) inherit(ctx context.Context, generation int) (start pulse.Position, from uint64, err error) {
	looking, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	old, err := f.broker.look(looking, generationName(f.cfg.Subscription, generation))
	if err != nil {
		return 0, 0, err
	}
	start, from = remembered(old)
	from = max(from, old.AckFloor.Stream+1)
	if _, ended, _ := f.broker.turn(f); ended != nil && ended.stream.Equal(f.made) {
		same, err := f.broker.stillHas(ctx, ended)
		if err != nil {
			return 0, 0, err
		}
		if same {
			f.ended = ended
			from = max(from, ended.next())
		}
	}
	return start, from, nil
}

// stillHas tells whether the last message delivered is the one that was delivered. In a stream that was restored from an older copy
// there is none yet, or one that was published since; when it has expired, so have those before it.
func (b *Broker) stillHas(ctx context.Context, ended *progress) (bool, error) {
	m, err := b.message(ctx, ended.delivered)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	return err == nil && m.Sequence == ended.delivered && uint64(m.Time.UnixNano()) == ended.at, err
}

// look returns what the server knows of a consumer.
func (b *Broker) look(ctx context.Context, name string) (*jetstream.ConsumerInfo, error) {
	c, err := certain(ctx, b, func(ctx context.Context) (jetstream.Consumer, error) { return b.js.Consumer(ctx, b.opts.Stream, name) })
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

// check finds out whether what the feed has to deliver is still there.
func (f *Feed) check(ctx context.Context) error {
	b := f.broker
	s, err := b.stream(ctx)
	if err != nil {
		return gone("the stream", err, jetstream.ErrStreamNotFound)
	}
	info := s.CachedInfo()
	if !info.Created.Equal(f.made) {
		return fmt.Errorf("%w: the stream was made anew, and what it held is lost: open again", pulse.ErrBroker)
	}
	c, err := b.look(ctx, f.consumer)
	if err != nil {
		return gone("the consumer", err, jetstream.ErrConsumerNotFound)
	}
	f.mu.Lock()
	f.seen = max(f.seen, f.delivered)
	f.mu.Unlock()
	if first := info.State.FirstSeq; first > f.seen+1 {
		return fmt.Errorf("%w: messages %d to %d have expired or were removed, perhaps before they were read: open again", pulse.ErrBroker, f.seen+1, first-1)
	}
	// Only now: when messages are removed the consumer goes behind them, as if they had been delivered.
	f.seen = max(f.seen, c.Delivered.Stream)
	if c.NumPending == 0 {
		f.seen = max(f.seen, info.State.LastSeq)
	}
	return nil
}

// gone says that something is not there any more; other errors may pass.
func gone(what string, err, is error) error {
	if errors.Is(err, is) {
		return fmt.Errorf("%w: %s is gone: open again: %w", pulse.ErrBroker, what, err)
	}
	return nil
}
