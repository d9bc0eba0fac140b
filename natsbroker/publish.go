package natsbroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
)

// The headers the server knows.
const (
	headerExpected = "Nats-Expected-Last-Sequence"
	headerBatch    = "Nats-Batch-Id"
	headerBatchSeq = "Nats-Batch-Sequence"
	headerCommit   = "Nats-Batch-Commit"
)

// batchTooLarge is the answer of a server that was told to take fewer messages in a batch than it does by itself.
const batchTooLarge = 10199

// answerWait is how long the answers of one batch may take when the caller has no deadline.
const answerWait = 15 * time.Second

// waitingAnswers is how many answers may lie unread: two for each batch, and those of calls before that were not awaited.
const waitingAnswers = 4000

// errNoStream is that nobody listens where the stream should.
var errNoStream = errors.New("nobody takes messages for the stream: it is gone, or JetStream is not running")

// errCut is that nothing is known of what was on its way.
var errCut = errors.New("the connection was lost before the answer")

// listen makes ready to receive answers.
func (b *Broker) listen() (*answers, error) {
	a := &answers{prefix: nats.NewInbox() + ".", in: make(chan *nats.Msg, waitingAnswers)}
	var err error
	a.sub, err = b.nc.ChanSubscribe(a.prefix+"*", a.in)
	return a, err
}

func (a *answers) usable() bool { return a.sub.IsValid() }

// next begins a call: answers to earlier ones are not heard any more.
func (a *answers) next() { a.call++ }

func (a *answers) reply(i int) string {
	b := make([]byte, 0, len(a.prefix)+24)
	b = append(b, a.prefix...)
	b = strconv.AppendUint(b, a.call, 36)
	b = append(b, '-')
	return string(strconv.AppendInt(b, int64(i), 10))
}

// index tells which message of this call an answer is for; -1 when it is of an earlier call.
func (a *answers) index(m *nats.Msg) int {
	call, i, _ := strings.Cut(m.Subject[len(a.prefix):], "-")
	n, err := strconv.Atoi(i)
	if err != nil || call != strconv.FormatUint(a.call, 36) {
		return -1
	}
	return n
}

// publish publishes envs, all behind the last message of the stream, up to the first that cannot be, and fills in the results. With an
// error what became of those without a result is not known.
func (p *Publisher) publish(ctx context.Context, envs []pulse.Envelope, results []pulse.Result) error {
	ctx, cancel := p.broker.awaiting(ctx)
	defer cancel()
	cut := p.broker.lostSoon()
	p.answers.next()
	p.synced, p.sent, p.stored = false, p.sent[:0], 0
	p.most = min(p.limit, int(p.broker.nc.MaxPayload()))
	way := p.plain
	if len(envs) >= p.atomicFrom() && !p.oneByOne {
		way = p.batches
	}
	before := p.last
	refused, err := way(ctx, cut, envs)
	for i := range p.stored {
		results[i] = pulse.Result{Outcome: pulse.Acked, Sequence: before + uint64(i) + 1}
	}
	p.sent = p.sent[:copy(p.sent, p.sent[p.stored:])]
	p.synced, p.oneByOne = err == nil, incomplete(err)
	if hasCode(err, batchTooLarge) {
		p.batch = max(p.batch/2, 1)
	}
	if err == nil && refused != nil {
		refuse(envs[p.stored:], results[p.stored:], refused)
	}
	return err
}

// incomplete tells that the server did not take a message of a batch, and so not the others either.
func incomplete(err error) bool {
	const missingSeq, incompleteBatch, invalidID, invalidCommit = 10175, 10176, 10179, 10200
	var api *jetstream.APIError
	return lacks(err) || errors.As(err, &api) && slices.Contains([]jetstream.ErrorCode{missingSeq, incompleteBatch, invalidID, invalidCommit}, api.ErrorCode)
}

// refuse rejects the first of envs and withholds the others.
func refuse(envs []pulse.Envelope, results []pulse.Result, why error) {
	why = fmt.Errorf("natsbroker: event %s: %w: %w", envs[0].ID, pulse.ErrBroker, why)
	results[0] = pulse.Result{Outcome: pulse.Rejected, Err: why}
	for i := 1; i < len(results); i++ {
		results[i] = pulse.Result{Outcome: pulse.Withheld, Err: fmt.Errorf("not tried after one that was refused: %w", why)}
	}
}

// book notes that these are in the stream.
func (p *Publisher) book(envs []pulse.Envelope) {
	for i := range envs {
		if envs[i].Position > p.high.Position {
			p.high, p.blind = cursorOf(&envs[i]), false
		}
	}
	p.last += uint64(len(envs))
	p.stored += len(envs)
}

// plain publishes one message after the other; refused tells why it ended before the last. It does not send the next one before the
// answer: behind a message that another writer's took the place of, the next would find the sequence number it expects.
func (p *Publisher) plain(ctx context.Context, cut <-chan struct{}, envs []pulse.Envelope) (refused, err error) {
	m := &p.msgs[0]
	for i := range envs {
		if refused := p.prepare(m, &envs[i]); refused != nil {
			return refused, nil
		}
		p.out.reset(p.broker.opts.Prefix, m)
		p.out.set(headerExpected, strconv.FormatUint(p.last, 10))
		p.out.msg.Reply = p.answers.reply(i)
		if err := p.broker.nc.PublishMsg(&p.out.msg); err != nil {
			return nil, err
		}
		if err := p.await(ctx, cut, i, p.last+1); err != nil {
			return nil, err
		}
		p.book(envs[i : i+1])
	}
	return nil, nil
}

// atomicFrom is the number of messages from which a batch is faster than one by one: where messages are staged in a file, that takes as
// long as to sync some, and where they go to several servers, each takes a way there and back.
func (p *Publisher) atomicFrom() int {
	if p.broker.opts.Replicas > 1 {
		return 2
	}
	return 10
}

// batches publishes atomic batches; refused tells why it ended before the last message. While the server stores one the next is staged: it
// expects the sequence number that the one before it leaves behind. Its last message goes when the one before is there: another writer may
// come between with just as many messages of elsewhere in the log, and behind these it would be stored with a gap.
func (p *Publisher) batches(ctx context.Context, cut <-chan struct{}, envs []pulse.Envelope) (refused, err error) {
	waiting := envs[:0] // the batch whose last message was sent
	for k := 0; ; k++ {
		next := staged{k: k, last: p.last + uint64(len(waiting))}
		if len(envs) > 0 && refused == nil {
			if refused, err = p.stage(&next, envs[:min(len(envs), p.batch)]); err != nil {
				return nil, err
			}
		}
		if len(waiting) > 0 {
			err := p.await(ctx, cut, commitAnswer(k-1), next.last)
			if err == nil || lacks(err) && p.awaitLate(ctx, cut, commitAnswer(k-1), next.last) {
				p.book(waiting)
			}
			if err != nil {
				return nil, err
			}
		}
		if next.n == 0 {
			return refused, nil
		}
		if err := p.member(&next, next.n, true); err != nil {
			return nil, err
		}
		waiting, envs = envs[:next.n], envs[next.n:]
	}
}

// staged is a batch of which all but the last message were sent.
type staged struct {
	k    int    // of the call
	id   string // the server's name for it
	last uint64 // sequence number behind which it belongs
	n    int    // messages
}

// stage sends envs as a batch, up to the first that cannot be published, but for the last message. The server takes in each message while the
// next one is encoded.
func (p *Publisher) stage(b *staged, envs []pulse.Envelope) (refused, err error) {
	b.id = strconv.FormatUint(rand.Uint64(), 36) // it is stored with each message: short
	for i := range envs {
		if refused := p.prepare(&p.msgs[i%2], &envs[i]); refused != nil {
			return refused, nil
		}
		if i > 0 {
			if err := p.member(b, i, false); err != nil {
				return nil, err
			}
		}
		b.n = i + 1
	}
	return nil, nil
}

// The answers to batch k: to its first message, which says early that the server takes no batch, and to its last.
func firstAnswer(k int) int  { return 2 * k }
func commitAnswer(k int) int { return 2*k + 1 }

// member publishes message seq of a batch.
func (p *Publisher) member(b *staged, seq int, commit bool) error {
	p.out.reset(p.broker.opts.Prefix, &p.msgs[(seq-1)%2])
	p.out.set(headerBatch, b.id)
	p.out.set(headerBatchSeq, strconv.Itoa(seq))
	if seq == 1 {
		p.out.set(headerExpected, strconv.FormatUint(b.last, 10))
		p.out.msg.Reply = p.answers.reply(firstAnswer(b.k))
	}
	if commit {
		p.out.set(headerCommit, "1")
		p.out.msg.Reply = p.answers.reply(commitAnswer(b.k))
	}
	return p.broker.nc.PublishMsg(&p.out.msg)
}

// await waits for the answer with an index, which has to give a sequence number. An error in an earlier one ends it.
func (p *Publisher) await(ctx context.Context, cut <-chan struct{}, index int, want uint64) error {
	for {
		i, seq, err := p.answer(ctx, cut)
		switch {
		case err != nil:
			return err
		case i != index:
			continue
		case seq != want:
			return fmt.Errorf("%w: the server gave sequence number %d instead of %d", pulse.ErrBroker, seq, want)
		}
		return nil
	}
}

// awaitLate waits a little longer, once the server has refused an event: that may be one of the batch sent behind.
func (p *Publisher) awaitLate(ctx context.Context, cut <-chan struct{}, index int, want uint64) bool {
	const grace = time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return p.await(ctx, cut, index, want) == nil
}

// answer waits for an answer to one of the messages. It returns its index, or -1 when there will be no more.
func (p *Publisher) answer(ctx context.Context, cut <-chan struct{}) (i int, seq uint64, err error) {
	for {
		select {
		case m := <-p.answers.in:
			if i := p.answers.index(m); i >= 0 {
				seq, err := readAck(m)
				return i, seq, err
			}
		case <-ctx.Done():
			return -1, 0, fmt.Errorf("%w: no answer: %w", pulse.ErrBroker, context.Cause(ctx))
		case <-cut:
			return -1, 0, fmt.Errorf("%w: %w", pulse.ErrBroker, errCut)
		}
	}
}

// readAck reads what the server says of a message. Within a batch it says nothing.
func readAck(m *nats.Msg) (seq uint64, err error) {
	if len(m.Data) == 0 {
		if m.Header.Get("Status") == "503" {
			return 0, errNoStream
		}
		return 0, nil
	}
	var ack struct {
		Seq   uint64              `json:"seq"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return 0, err
	}
	if ack.Error != nil {
		return 0, explain(ack.Error)
	}
	return ack.Seq, nil
}

// explain says in our words what people can do about.
func explain(e *jetstream.APIError) error {
	const (
		wrongLast, wrongLastConstant = 10071, 10164
		storeFailed, noResources     = 10077, 10023
		disabled                     = 10174
	)
	switch e.ErrorCode {
	case wrongLast, wrongLastConstant:
		return fmt.Errorf("%w: the stream does not end where it did: another writer, or a message of which the answer was lost: %w", pulse.ErrBroker, e)
	case storeFailed, noResources:
		return fmt.Errorf("%w: the stream takes no more: raise its limit, or wait until messages expire: %w", pulse.ErrBroker, e)
	case disabled:
		return fmt.Errorf("%w: the stream takes no batches any more: connect anew to set it right: %w", pulse.ErrBroker, e)
	}
	return fmt.Errorf("%w: %w", pulse.ErrBroker, e)
}
