package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

const defaultWindow = 1000

// Feed is an open Source.
type Feed struct {
	broker *Broker
	cfg    pulse.FeedConfig // constant
	slot   *slot            // guarded by broker.mu

	// Set by start, before there is another goroutine; constant from then on.
	sub      *nats.Subscription // nil until start
	consumer string
	done     chan struct{} // closed when the last message has arrived
	stop     chan struct{} // closed to end keeper
	look     chan struct{} // has room for one: keeper is to look at once
	forget   func()        // takes fail out of those that wait
	keeper   sync.WaitGroup
	cut      <-chan struct{} // closed when the connection is lost
	made     time.Time       // when the stream was
	first    pulse.Position  // messages of positions before it are not delivered
	ended    *progress       // of the feed before this one

	wake   chan struct{} // has room for one
	reader cloudevents.HeaderReader
	seen   uint64 // of keeper: messages up to this sequence number have been read, or were not to be

	mu           sync.Mutex
	arrived      []arrival
	open         map[uint64]*delivery // by receipt: fetched and not acknowledged
	receipt      uint64               // the last one given
	delivered    uint64               // the last sequence number that arrived
	deliveredAt  uint64               // when its message was stored, in nanoseconds of the server; 0 before one arrived
	count        uint64               // messages the consumer has delivered here
	lastReply    string               // of the last one
	pulled       int                  // messages asked for that have not arrived
	most         int                  // messages the server gives to one pull; 0 when it has not said
	heard        time.Time            // when the server was heard of, or asked, last
	pullAfter    time.Time            // not before
	pullPause    time.Duration        // of the last pull that nobody took; 0 when the last one was taken
	unheardSince time.Time            // when nobody took one for the first time since
	err          error                // why there will be no more
	closed       bool
}

type arrival struct {
	msg *nats.Msg
	delivery
}

// delivery is one message as delivered by the server.
type delivery struct {
	reply string
	seq   uint64    // in the stream
	order uint64    // in the consumer
	times uint64    // delivered, with this one
	at    uint64    // when it was stored, in nanoseconds of the server
	held  time.Time // when the server was told last that the message is here
}

var errBadReply = errors.New("a message came without its number: does a gateway change the subjects of acknowledgements?")

func newFeed(b *Broker, cfg pulse.FeedConfig) *Feed {
	cfg.Names = slices.Clone(cfg.Names)
	return &Feed{broker: b, cfg: cfg, wake: make(chan struct{}, 1), open: make(map[uint64]*delivery)}
}

// Fetch waits for messages and returns up to max; see pulse.Feed. After an error that is not of ctx, open a new Feed: when the
// connection was lost, the consumer or the stream is gone, or messages have expired before they were read.
func (f *Feed) Fetch(ctx context.Context, max int) ([]pulse.Message, error) {
	if max < 1 {
		return nil, fmt.Errorf("natsbroker: fetch %d messages: ask for one at least: %w", max, pulse.ErrInvalid)
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, failed("fetch", err)
		}
		changed, err := f.activate(ctx)
		if err != nil {
			return nil, failed("fetch", err)
		}
		if changed == nil {
			msgs, err := f.take(max)
			if err != nil || len(msgs) > 0 {
				return msgs, err
			}
		}
		select {
		case <-f.wake:
		case <-changed:
		case <-f.cut:
			f.fail(fmt.Errorf("%w: the connection was lost: open again", pulse.ErrBroker))
		case <-ctx.Done():
		}
	}
}

// activate starts the feed when it is its turn. Until then it returns the channel to wait for.
func (f *Feed) activate(ctx context.Context) (changed <-chan struct{}, err error) {
	f.mu.Lock()
	started, closed := f.sub != nil, f.closed
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

// fail makes every further Fetch return err.
func (f *Feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failLocked(err)
}

func (f *Feed) failLocked(err error) {
	if f.err == nil {
		f.err = err
	}
	f.signal()
}

// signal makes a Fetch that waits look again.
func (f *Feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take returns what has arrived, and asks for more.
func (f *Feed) take(max int) ([]pulse.Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var msgs []pulse.Message
	for len(msgs) < max {
		if err := f.usable("fetch"); err != nil {
			return nil, err
		}
		if len(f.arrived) == 0 {
			break
		}
		if msgs == nil {
			msgs = make([]pulse.Message, 0, min(max, len(f.arrived)))
		}
		n := min(max-len(msgs), len(f.arrived))
		for i := range f.arrived[:n] {
			if msg, ok := f.accept(&f.arrived[i]); ok {
				msgs = append(msgs, msg)
			}
		}
		clear(f.arrived[:n])
		f.arrived = f.arrived[n:]
	}
	return msgs, f.pull()
}

// usable is nil while the feed can be used.
func (f *Feed) usable(op string) error {
	switch {
	case f.closed:
		return fmt.Errorf("natsbroker: %s: the feed is closed: %w", op, pulse.ErrClosed)
	case f.err != nil:
		return failed(op, f.err)
	}
	return nil
}

// accept makes a message of what arrived, or acknowledges what is not wanted.
func (f *Feed) accept(a *arrival) (msg pulse.Message, ok bool) {
	env, err := f.read(a.msg)
	if err != nil {
		f.broker.opts.Log.Error("natsbroker: a message that is no event is skipped", "subscription", f.cfg.Subscription, "subject", a.msg.Subject, "sequence", a.seq, "error", err)
	}
	if err != nil || env.Position < f.first || f.ended.acked(a.seq) || !f.wants(env.Name) {
		f.answer(a.reply, ack)
		return msg, false
	}
	f.receipt++
	d := a.delivery
	f.open[f.receipt] = &d
	return pulse.Message{Envelope: env, Receipt: f.receipt}, true
}

// read is the event of a message.
func (f *Feed) read(m *nats.Msg) (pulse.Envelope, error) {
	if f.cfg.Known != nil {
		if place, ok := placeOf(m.Header); ok {
			if env, ok := f.cfg.Known(place); ok {
				return env, nil
			}
		}
	}
	for name, values := range m.Header {
		for _, value := range values {
			f.reader.Set(name, value)
		}
	}
	return f.reader.Envelope(m.Data)
}

func (f *Feed) wants(name string) bool {
	return f.cfg.Names == nil || slices.ContainsFunc(f.cfg.Names, func(pattern string) bool { return pulse.MatchName(pattern, name) })
}

// readDelivery reads the subject of a message's acknowledgement:
// $JS.ACK.<stream>.<consumer>.<times>.<seq>.<order>.<time>.<pending>, with a domain and an account before the stream in its newer form.
func readDelivery(reply string) (d delivery, ok bool) {
	const older, newer = 9, 11
	rest, skip := reply, 4
	if strings.Count(reply, ".") >= newer-1 {
		skip += newer - older
	}
	for range skip {
		if _, rest, ok = strings.Cut(rest, "."); !ok {
			return d, false
		}
	}
	for _, n := range [...]*uint64{&d.times, &d.seq, &d.order, &d.at} {
		var token string
		var err error
		token, rest, _ = strings.Cut(rest, ".")
		if *n, err = strconv.ParseUint(token, 10, 64); err != nil {
			return d, false
		}
	}
	d.reply = reply
	return d, true
}
