package rabbitbroker

import (
	"context"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
)

// flight is the messages of one call that have been sent, oldest first, and how many of them are confirmed.
type flight struct {
	sent      []*amqp.DeferredConfirmation
	confirmed int
}

// refusal is why an event can never be published.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// send sends envs, without waiting for one before the next, and waits until all are confirmed. It stops at the first that cannot be sent or is not
// confirmed.
func (p *Publisher) send(ctx context.Context, envs []pulse.Envelope) (confirmed int, err error) {
	p.flight = flight{sent: p.flight.sent[:0]}
	clear(p.returned)
	for i := range envs {
		if err = p.sendOne(&envs[i]); err != nil {
			break
		}
		if len(p.flight.sent)-p.flight.confirmed >= maxFlight {
			if err := p.await(ctx, envs); err != nil {
				return p.flight.confirmed, err
			}
		}
	}
	for p.flight.confirmed < len(p.flight.sent) {
		if waiting := p.await(ctx, envs); waiting != nil {
			return p.flight.confirmed, waiting
		}
	}
	return p.flight.confirmed, err
}

// sendOne sends one message.
func (p *Publisher) sendOne(env *pulse.Envelope) error {
	msg, err := p.message(env)
	if err != nil {
		return &refusal{err}
	}
	const mandatory = true // else what nobody listens to is not told
	confirmation, err := p.link.ch.PublishWithDeferredConfirm(p.broker.opts.Exchange, env.Name, mandatory, false, msg)
	if err != nil {
		return errLost
	}
	p.flight.sent = append(p.flight.sent, confirmation)
	return nil
}

// await waits for the answer to the oldest message that has none. What was returned has been before: the server says first that nobody
// listens, and then that the message is confirmed.
func (p *Publisher) await(ctx context.Context, envs []pulse.Envelope) error {
	oldest := p.flight.sent[p.flight.confirmed]
	acked, err := oldest.WaitContext(ctx)
	switch {
	case err != nil:
		return err
	case !acked && !p.link.usable():
		return errLost
	case !acked:
		return errRefused
	}
	p.takeReturns()
	if len(p.returned) > 0 {
		p.countUnrouted(&envs[p.flight.confirmed])
	}
	p.flight.confirmed++
	return nil
}

// takeReturns notes what came back so far.
func (p *Publisher) takeReturns() {
	for {
		select {
		case r, open := <-p.returns:
			if !open {
				return
			}
			if r.ReplyCode == amqp.NoRoute {
				p.returned[r.MessageId] = struct{}{}
			}
		default:
			return
		}
	}
}

// countUnrouted counts an event that is confirmed, if it came back.
func (p *Publisher) countUnrouted(env *pulse.Envelope) {
	id := env.ID.String()
	if _, returned := p.returned[id]; !returned {
		return
	}
	delete(p.returned, id)
	p.unrouted.Add(1)
	const most = 1000
	if _, told := p.told[env.Name]; told || len(p.told) == most {
		return
	}
	p.told[env.Name] = struct{}{}
	p.broker.opts.Log.Info("rabbitbroker: nobody listens to events of this name: they are confirmed and delivered to nobody; bind a queue to the alternate exchange to see them",
		"name", env.Name, "alternate exchange", p.broker.unrouted())
}
