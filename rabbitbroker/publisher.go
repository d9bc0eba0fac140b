package rabbitbroker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
)

const (
	maxCall   = 4000    // messages of one call at most
	maxFlight = 2000    // of these not confirmed yet
	spare     = 8 << 10 // what headers may add to Envelope.Size
)

// Publisher publishes to the exchange of a Broker.
type Publisher struct {
	broker   *Broker
	unrouted atomic.Uint64

	mu       sync.Mutex // held by PublishBatch
	link     *link      // nil before the first call, and after one that failed
	returns  chan amqp.Return
	frame    int                 // bytes of a frame, into which all headers must fit
	flight   flight              // of the call under way, or the last one
	headers  amqp.Table          // reused
	alone    int                 // how many messages go one by one
	returned map[string]struct{} // ids of messages that came back and are not confirmed
	told     map[string]struct{} // names of events of which was said that nobody listens
}

var _ pulse.Publisher = (*Publisher)(nil)

// Publisher returns a publisher to the exchange. Several may publish at the same time: each is in order, and what both publish comes twice.
func (b *Broker) Publisher() *Publisher {
	return &Publisher{broker: b, headers: make(amqp.Table), returned: make(map[string]struct{}), told: make(map[string]struct{})}
}

// Capabilities are constant: the limit of the options less what headers may add.
func (p *Publisher) Capabilities() pulse.Capabilities {
	return pulse.Capabilities{MaxBatch: maxCall, MaxBytes: max(p.broker.opts.MaxBytes-spare, 1)}
}

// Last cannot tell: RabbitMQ shows nobody what is in an exchange's queues without taking it out of them.
func (p *Publisher) Last(ctx context.Context) (last pulse.Cursor, ok bool, err error) {
	return pulse.Cursor{}, false, nil
}

// Unrouted is how many messages were delivered to nobody, since the Publisher was made: the server confirmed them, and no queue is bound
// that wants them, also none of the alternate exchange. It may be called by any goroutine.
func (p *Publisher) Unrouted() uint64 { return p.unrouted.Load() }

// PublishBatch publishes envs in order; see pulse.Publisher. A message that is too large or is no CloudEvent is Rejected. Of those behind one
// that is not Acked some may be there as well: published again, they come twice.
func (p *Publisher) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	results := make([]pulse.Result, len(envs))
	for done := 0; done < len(envs); {
		next := envs[done:]
		alone := p.alone > 0
		if alone {
			next = next[:1]
		}
		n, err := p.publish(ctx, next)
		for i := range n {
			results[done+i].Outcome = pulse.Acked
		}
		done += n
		switch tooLarge, refusal := isTooLarge(err), (*refusal)(nil); {
		case err == nil:
			p.alone = max(p.alone-1, 0)
		case errors.As(err, &refusal) || tooLarge && alone:
			p.alone = 0
			reject(results[done:], err)
			return results
		case tooLarge: // which of them is too large shows when they go one by one
			p.alone = len(envs) - done
		default:
			if errors.Is(err, errRefused) { // the queue may take the next one, which must not come before this one
				p.alone = 1
			}
			for i := done; i < len(envs); i++ {
				results[i].Err = failed("publish", err)
			}
			return results
		}
	}
	return results
}

// reject answers for a message that will never be taken and for those behind it.
func reject(results []pulse.Result, why error) {
	results[0] = pulse.Result{Outcome: pulse.Rejected, Err: failed("publish", fmt.Errorf("%w: the event is refused: %w", pulse.ErrBroker, why))}
	for i := range results[1:] {
		results[1+i] = pulse.Result{Outcome: pulse.Withheld, Err: failed("publish", fmt.Errorf("%w: not tried behind one that is refused", pulse.ErrBroker))}
	}
}

// isTooLarge tells that the server has closed the channel because of the size of a message.
func isTooLarge(err error) bool {
	return is(err, amqp.PreconditionFailed) && strings.Contains(err.Error(), "message size")
}

// publish publishes envs and returns how many of them, from the first on, are confirmed. With an error the others are not, or not known to
// be: then the connection has been given up, so that nothing of this call arrives behind what the next one sends.
func (p *Publisher) publish(ctx context.Context, envs []pulse.Envelope) (confirmed int, err error) {
	if err := p.ready(ctx); err != nil {
		return 0, err
	}
	l := p.link
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.during(cancel)
	stop := context.AfterFunc(ctx, l.kill) // else a write may not end
	confirmed, err = p.send(ctx, envs)
	l.during(nil)
	stopped := stop()
	if stopped && len(p.flight.sent) == confirmed+unanswered(err) && l.usable() { // nothing is under way
		return confirmed, err
	}
	if errors.Is(err, errLost) {
		if why := l.why(); why != nil {
			err = why
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	p.link = nil
	l.kill()
	l.helpers.Wait()
	if confirmed == len(envs) {
		err = nil
	}
	return confirmed, err
}

// unanswered is how many messages were sent and not confirmed, of which nothing more is to be heard.
func unanswered(err error) int {
	if errors.Is(err, errRefused) {
		return 1
	}
	return 0
}

// ready makes sure that there is a connection.
func (p *Publisher) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.link.usable() {
		return nil
	}
	if p.link != nil {
		p.link.kill()
		p.link.helpers.Wait()
		p.link = nil
	}
	l, err := p.broker.link(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, l.kill)
	err = l.ch.Confirm(false)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		l.kill()
		return err
	}
	p.link, p.frame = l, l.conn.Config.FrameSize
	p.returns = l.ch.NotifyReturn(make(chan amqp.Return, 2*maxFlight))
	return nil
}
