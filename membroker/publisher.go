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

// PublishBatch publishes envs in order; see pulse.Publisher. After a message whose fate is Unknown it tries no more, so that
// publishing again from there keeps the order. A message over the size limit is Rejected; behind one that is those of its key
// are Withheld.
func (p *Publisher) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	results := make([]pulse.Result, len(envs))
	var stopped error
	refused := make(map[string]bool) // keys
	for i := range envs {
		key := envs[i].Key
		switch {
		case stopped != nil:
			results[i].Err = fmt.Errorf("membroker: not tried after an earlier failure: %w", stopped)
			continue
		case refused[key]:
			results[i] = withheld(&envs[i])
			continue
		}
		results[i] = p.publish(ctx, &envs[i])
		switch results[i].Outcome {
		case pulse.Unknown:
			stopped = results[i].Err
		case pulse.Rejected:
			refused[key] = key != ""
		}
	}
	return results
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
	s.messages = append(s.messages, message{sequence: s.last() + 1, env: copyEnvelope(env)})
	b.wake()
	return s.last()
}

func unknown(env *pulse.Envelope) pulse.Result {
	return pulse.Result{Err: fmt.Errorf("membroker: publish event %s: no answer: %w", env.ID, pulse.ErrBroker)}
}

func rejected(env *pulse.Envelope, why string) pulse.Result {
	return pulse.Result{Outcome: pulse.Rejected, Err: fmt.Errorf("membroker: event %s was refused: %s: %w", env.ID, why, pulse.ErrBroker)}
}

func withheld(env *pulse.Envelope) pulse.Result {
	return pulse.Result{Outcome: pulse.Withheld, Err: fmt.Errorf("membroker: event %s was not published: one of its key before it was refused: %w", env.ID, pulse.ErrBroker)}
}

// Last returns the last message of the destination; see pulse.Publisher.
func (p *Publisher) Last(ctx context.Context) (last pulse.Cursor, ok bool, err error) {
	if err := p.broker.enter(ctx, "last message"); err != nil {
		return pulse.Cursor{}, false, err
	}
	defer p.broker.mu.Unlock()
	s := p.broker.stream(p.destination)
	if s.last() > 0 {
		env := &s.messages[s.last()-1].env
		last = pulse.Cursor{Position: env.Position, Commitment: env.Commitment}
	}
	return last, true, nil
}

// Capabilities are those of the options.
func (p *Publisher) Capabilities() pulse.Capabilities {
	return pulse.Capabilities{MaxBatch: p.broker.opts.MaxBatch, MaxBytes: p.broker.opts.MaxBytes}
}
