// Package membroker is a broker in memory. It is the reference for the adapters of pulse.Publisher and pulse.Source, and serves
// tests and simulations: it can lose, repeat, delay and refuse messages, be down, be wiped and come back with less.
//
// A broker has destinations, each a stream of messages with sequence numbers, kept until Wipe or Truncate. It starts no
// goroutine and knows no time, so that it runs under testing/synctest. Nothing in it survives the process.
package membroker

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/edupulse-live/pulse"
)

// Options of a Broker. The zero value works.
type Options struct {
	MaxBatch int  // messages in one PublishBatch at most; 1000 when 0
	MaxBytes int  // largest message, as Envelope.Size counts; no limit when 0
	Hook     Hook // decides what becomes of each published message; none when nil
}

// Hook is called for each message before it is published, Withheld ones excepted, and says what becomes of it. It may block, which
// delays the message, and may use the broker.
type Hook func(ctx context.Context, destination string, env *pulse.Envelope) Fault

// Fault is something that happens to a published message.
type Fault int

// The faults.
const (
	None      Fault = iota
	Drop            // it is lost on its way there: not stored, Unknown
	LostAck         // the answer is lost: stored, Unknown
	Duplicate       // it is stored twice, and Acked
	Forget          // it is acknowledged and lost: not stored, Acked
	Refuse          // the broker will never take it: not stored, Rejected
)

// Broker is a broker in memory. Its methods may be called concurrently.
type Broker struct {
	opts Options // constant, with the defaults filled in

	mu      sync.Mutex // guards all below, and all of streams, consumers and feeds; not held while a hook runs
	down    bool
	streams map[string]*stream // by destination
	changed chan struct{}      // closed and replaced when there may be something new for who waits
}

// New returns an empty broker. A nil opts means the defaults.
func New(opts *Options) *Broker {
	b := &Broker{streams: make(map[string]*stream), changed: make(chan struct{})}
	if opts != nil {
		b.opts = *opts
	}
	if b.opts.MaxBatch == 0 {
		b.opts.MaxBatch = 1000
	}
	return b
}

// stream is the messages of one destination.
type stream struct {
	messages  []message
	consumers map[string]*consumer // by subscription
}

type message struct {
	sequence uint64 // from 1, without gaps
	env      pulse.Envelope
	high     pulse.Cursor // the highest position up to it
	expired  bool
}

func (s *stream) last() uint64 { return uint64(len(s.messages)) }

// stream returns the stream of a destination, which exists from its first use on. The caller holds b.mu.
func (b *Broker) stream(destination string) *stream {
	s := b.streams[destination]
	if s == nil {
		s = &stream{consumers: make(map[string]*consumer)}
		b.streams[destination] = s
	}
	return s
}

// SetDown makes every call fail with an ErrBroker, or work again.
func (b *Broker) SetDown(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
	b.wake()
}

// Wipe loses everything: messages, sequence numbers and subscriptions of all destinations. Open Feeds fail from then on.
func (b *Broker) Wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.streams {
		for _, c := range s.consumers {
			c.gone = true
		}
	}
	clear(b.streams)
	b.wake()
}

// Truncate loses all but the first n messages of a destination, as if it was restored from an older copy: their
// sequence numbers are given again, and what subscriptions knew of them is forgotten.
func (b *Broker) Truncate(destination string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stream(destination)
	if n >= len(s.messages) {
		return
	}
	s.messages = s.messages[:n]
	for _, c := range s.consumers {
		c.truncate(s.last())
	}
	b.wake()
}

// Expire forgets the first n messages of a destination, as a broker does with old ones.
func (b *Broker) Expire(destination string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stream(destination)
	for i := range min(n, len(s.messages)) {
		s.messages[i].expired = true
	}
}

// Redeliver makes all messages that a subscription got and did not acknowledge come again, as a broker does that waited
// too long for the acknowledgements.
func (b *Broker) Redeliver(destination, subscription string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.stream(destination).consumers[subscription]; c != nil {
		for _, f := range c.feeds {
			f.giveBack()
		}
	}
	b.wake()
}

// Messages returns copies of all messages of a destination, in order.
func (b *Broker) Messages(destination string) []pulse.Envelope {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stream(destination)
	envs := make([]pulse.Envelope, len(s.messages))
	for i := range envs {
		envs[i] = copyEnvelope(&s.messages[i].env)
	}
	return envs
}

// enter locks the broker for an operation, unless the caller has gone or the broker is down.
func (b *Broker) enter(ctx context.Context, op string) error {
	b.mu.Lock()
	err := b.usable(ctx, op)
	if err != nil {
		b.mu.Unlock()
	}
	return err
}

// usable is nil while the broker is up and ctx lives. The caller holds b.mu.
func (b *Broker) usable(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("membroker: %s: %w: %w", op, pulse.ErrBroker, err)
	}
	if b.down {
		return fmt.Errorf("membroker: %s: %w: the broker is down", op, pulse.ErrBroker)
	}
	return nil
}

// wake makes every Fetch that waits look again. The caller holds b.mu.
func (b *Broker) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// copyEnvelope returns a copy of env that shares nothing with it.
func copyEnvelope(env *pulse.Envelope) pulse.Envelope {
	c := *env
	c.Data = bytes.Clone(env.Data)
	c.Extensions = bytes.Clone(env.Extensions)
	return c
}
