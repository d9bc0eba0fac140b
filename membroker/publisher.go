package membroker

import (
	"context"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// Publisher publishes to one destination of a Broker.
type Publisher struct {
	broker      *Broker
	destination string
}

var _ pulse.Publisher = (*Publisher)(nil)

// Publisher returns a publisher to a destination, which need not exist before.
func (b *Broker) Publisher(destination string) *Publisher {
	return &Publisher{broker: b, destination: destination}
}

// PublishBatch publishes envs in order; see pulse.Publisher. A message over the size limit is Rejected.
func (p *Publisher) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	results := make([]pulse.Result, len(envs))
	for i := range envs {
		r := p.publish(ctx, &envs[i])
		results[i] = r
		if r.Outcome == pulse.Acked {
			continue
		}
		for j := i + 1; j < len(envs); j++ {
			results[j] = notTried(&envs[j], r.Outcome)
		}
		break
	}
	return results
}

// notTried is the result of a message behind one with this outcome.
func notTried(env *pulse.Envelope, before pulse.Outcome) pulse.Result {
	r := pulse.Result{Err: fmt.Errorf("membroker: event %s was not tried after one that failed: %w", env.ID, pulse.ErrBroker)}
	if before == pulse.Rejected {
		r.Outcome = pulse.Withheld
	}
	return r
}

// publish publishes one message.
func (p *Publisher) publish(ctx context.Context, env *pulse.Envelope) pulse.Result {
	b := p.broker
	if n := env.Size(); b.opts.MaxBytes > 0 && n > b.opts.MaxBytes {
		return rejected(env, fmt.Sprintf("it takes %d bytes, the limit is %d", n, b.opts.MaxBytes))
	}
	fault := None
	if b.opts.Hook != nil {
		fault = b.opts.Hook(ctx, p.destination, env)
	}
	if err := b.enter(ctx, "publish"); err != nil {
		return pulse.Result{Err: err}
	}
	defer b.mu.Unlock()
	switch fault {
	case Drop:
		return unknown(env)
	case LostAck:
		b.store(p.destination, env)
		return unknown(env)
	case Duplicate:
		b.store(p.destination, env)
	case Forget:
		return pulse.Result{Outcome: pulse.Acked, Sequence: b.stream(p.destination).last() + 1}
	case Refuse:
		return rejected(env, "the broker refuses it")
	}
	return pulse.Result{Outcome: pulse.Acked, Sequence: b.store(p.destination, env)}
}

// store adds a message to its stream and returns its sequence number. The caller holds b.mu.
func (b *Broker) store(destination string, env *pulse.Envelope) uint64 {
	s := b.stream(destination)
	m := message{sequence: s.last() + 1, env: copyEnvelope(env), high: pulse.Cursor{Position: env.Position, Commitment: env.Commitment}}
	if s.last() > 0 && s.messages[s.last()-1].high.Position > env.Position {
		m.high = s.messages[s.last()-1].high
	}
	s.messages = append(s.messages, m)
	b.wake()
	return s.last()
}

func unknown(env *pulse.Envelope) pulse.Result {
	return pulse.Result{Err: fmt.Errorf("membroker: publish event %s: no answer: %w", env.ID, pulse.ErrBroker)}
}

func rejected(env *pulse.Envelope, why string) pulse.Result {
	return pulse.Result{Outcome: pulse.Rejected, Err: fmt.Errorf("membroker: event %s was refused: %s: %w", env.ID, why, pulse.ErrBroker)}
}

// Last returns the highest position of the destination; see pulse.Publisher.
func (p *Publisher) Last(ctx context.Context) (last pulse.Cursor, ok bool, err error) {
	if err := p.broker.enter(ctx, "last message"); err != nil {
		return pulse.Cursor{}, false, err
	}
	defer p.broker.mu.Unlock()
	if s := p.broker.stream(p.destination); s.last() > 0 {
		last = s.messages[s.last()-1].high
	}
	return last, true, nil
}

// Capabilities are those of the options.
func (p *Publisher) Capabilities() pulse.Capabilities {
	return pulse.Capabilities{MaxBatch: p.broker.opts.MaxBatch, MaxBytes: p.broker.opts.MaxBytes}
}
