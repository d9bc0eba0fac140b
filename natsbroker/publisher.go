package natsbroker

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

const (
	serverBatch   = 1000 // messages of an atomic batch at most, says a server unless it is told otherwise
	embeddedBatch = 4000 // what the embedded server is told: what each batch costs beside its messages is a quarter then
	callMessages  = 4000 // what a call takes, or two batches if that is more, so that there is always one on its way

	maxHeaders = 1<<16 - 1 // bytes of headers at most, says the server
	spare      = 8 << 10   // what percent-encoding and batches may add to Envelope.Size
)

// Publisher publishes to the stream of a Broker.
type Publisher struct {
	broker *Broker
	limit  int // bytes of headers and body the server took when the Publisher was made
	batch  int // messages of an atomic batch at most; fewer once the server has refused as many

	mu      sync.Mutex   // held by PublishBatch and Last
	answers *answers     // nil until there is something to publish
	msgs    [2]prepared  // reused
	out     outgoing     // reused
	most    int          // bytes of headers and body in the call under way: the server may have come back with a lower limit
	stored  int          // how many messages of the call under way are in the stream
	ahead   pulse.Cursor // what high will be once everything encoded so far is there

	oneByOne bool // a batch was refused as a whole: what is before the message that is to blame goes without it

	synced bool   // last and high are known
	last   uint64 // sequence number of the stream's last message
	high   pulse.Cursor
	blind  bool        // the stream has no message that tells high
	sent   []uuid.UUID // published behind last with outcome unknown, in order
	there  []uuid.UUID // of those sent, what has turned out to be there: up to last
}

var _ pulse.Publisher = (*Publisher)(nil)

// Publisher returns a publisher to the stream. Of several that publish at the same time those fail that come too late.
func (b *Broker) Publisher() *Publisher {
	p := &Publisher{broker: b, limit: int(b.nc.MaxPayload()), batch: serverBatch}
	if b.server != nil {
		p.batch = embeddedBatch
	}
	return p
}

// Capabilities are constant: the server's limit less what headers may add.
func (p *Publisher) Capabilities() pulse.Capabilities {
	return pulse.Capabilities{MaxBatch: max(callMessages, 2*p.batch), MaxBytes: max(p.limit-spare, 1)}
}

// Last returns the position furthest in the log among all messages published, which is that of the last one unless that had been
// held back. It cannot tell when all messages have expired; see pulse.Publisher.
func (p *Publisher) Last(ctx context.Context) (last pulse.Cursor, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.sync(ctx); err != nil {
		return pulse.Cursor{}, false, failed("last message", err)
	}
	return p.high, !p.blind, nil
}

// PublishBatch publishes envs in order; see pulse.Publisher. A message that is too large or is no CloudEvent is Rejected.
func (p *Publisher) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	results := make([]pulse.Result, len(envs))
	if len(envs) == 0 {
		return results
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	for done := 0; ; {
		n, err := p.advance(ctx, envs[done:], results[done:])
		done += n
		if err == nil {
			return results
		}
		if !p.broker.ledAgain(ctx, err) {
			for i := done; i < len(envs); i++ {
				results[i] = pulse.Result{Err: failed("publish", err)}
			}
			return results
		}
	}
}

// advance publishes envs and fills in results. With an error it returns how many were published at the beginning; the others are to be
// published again, and what became of them is found out before.
func (p *Publisher) advance(ctx context.Context, envs []pulse.Envelope, results []pulse.Result) (n int, err error) {
	if err := p.ready(ctx); err != nil {
		return 0, err
	}
	p.ahead = p.high
	known := p.answerKnown(envs, results)
	err = p.publish(ctx, envs[known:], results[known:])
	return known + p.stored, err
}

// ready makes sure that what is in the stream is known. A stream that lost messages is an error once, so that the caller asks Last
// before anything is published behind the gap.
func (p *Publisher) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.answers == nil || !p.answers.usable() {
		a, err := p.broker.listen()
		if err != nil {
			return err
		}
		p.answers = a
	}
	if p.synced {
		return nil
	}
	before := p.last
	if err := p.sync(ctx); err != nil {
		return err
	}
	if p.last < before {
		return fmt.Errorf("%w: the stream ended at sequence number %d and now ends at %d: it lost messages", pulse.ErrBroker, before, p.last)
	}
	return nil
}

// answerKnown answers for the envelopes at the beginning that an earlier call published without learning of it. It returns how
// many these are.
func (p *Publisher) answerKnown(envs []pulse.Envelope, results []pulse.Result) int {
	there := p.there
	p.there = nil
	if len(there) == 0 {
		return 0
	}
	first := p.last - uint64(len(there)) + 1
	next, n := 0, 0
	for i := range envs {
		j := next
		for j < len(there) && there[j] != envs[i].ID {
			j++
		}
		if j == len(there) {
			break
		}
		results[i] = pulse.Result{Outcome: pulse.Acked, Sequence: first + uint64(j)}
		next, n = j+1, i+1
	}
	return n
}

// prepared is a message that is ready to be sent.
type prepared struct {
	env     *pulse.Envelope
	headers []cloudevents.Header
}

// prepare makes m the message of env. The error is why it cannot be published.
func (p *Publisher) prepare(m *prepared, env *pulse.Envelope) error {
	m.env = env
	if err := m.encode(p.ahead, p.most); err != nil {
		return err
	}
	if env.Position > p.ahead.Position {
		p.ahead = cursorOf(env)
	}
	p.sent = append(p.sent, env.ID)
	return nil
}

func cursorOf(env *pulse.Envelope) pulse.Cursor {
	return pulse.Cursor{Position: env.Position, Commitment: env.Commitment}
}

// encode makes the headers of a message.
func (m *prepared) encode(high pulse.Cursor, limit int) (err error) {
	if n := m.env.Size(); n > limit-spare {
		return fmt.Errorf("it takes %d bytes, the server %d", n, limit-spare)
	}
	if m.headers, err = cloudevents.AppendHeaders(m.headers[:0], m.env); err != nil {
		return err
	}
	if m.env.Position < high.Position {
		m.headers = append(m.headers, cloudevents.Header{Name: headerHigh, Value: highText(high)})
	}
	const line, batch = len(": \r\n"), 256 // what the server's own headers take
	size := batch
	for i := range m.headers {
		size += len(m.headers[i].Name) + len(m.headers[i].Value) + line
	}
	if size > maxHeaders {
		return fmt.Errorf("its headers take %d bytes, the server %d", size, maxHeaders)
	}
	if size += len(m.env.Data); size > limit {
		return fmt.Errorf("it takes %d bytes as encoded, the server %d", size, limit)
	}
	return nil
}

// outgoing is a message for the client. It takes one prepared message after another without allocating.
type outgoing struct {
	msg    nats.Msg
	values [48]string
	n      int
}

func (o *outgoing) reset(prefix string, m *prepared) {
	if o.msg.Header == nil {
		o.msg.Header = make(nats.Header, len(o.values))
	}
	clear(o.msg.Header)
	o.n = 0
	o.msg.Subject = prefix + "." + m.env.Name
	o.msg.Reply = ""
	o.msg.Data = m.env.Data
	for i := range m.headers {
		o.set(m.headers[i].Name, m.headers[i].Value)
	}
}

func (o *outgoing) set(name, value string) {
	if o.n == len(o.values) {
		o.msg.Header[name] = []string{value}
		return
	}
	o.values[o.n] = value
	o.msg.Header[name] = o.values[o.n : o.n+1 : o.n+1]
	o.n++
}

// answers receives what the server says about published messages.
type answers struct {
	sub    *nats.Subscription
	prefix string
	call   uint64 // of the messages being published
	in     chan *nats.Msg
}
