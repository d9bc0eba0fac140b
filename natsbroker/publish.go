package natsbroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
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

// answerWait is how long the answers of one batch may take when the caller has no deadline.
const answerWait = 15 * time.Second

// errNoStream is that nobody listens where the stream should.
var errNoStream = errors.New("nobody takes messages for the stream: it is gone, or JetStream is not running")

// listen makes ready to receive answers.
func (b *Broker) listen() (*answers, error) {
	a := &answers{prefix: nats.NewInbox() + ".", in: make(chan *nats.Msg, 4*maxBatch)}
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

// publish publishes msgs, all behind the last message of the stream, and fills in the results of those that are there. With an error
// what became of the others is not known.
func (p *Publisher) publish(ctx context.Context, msgs []prepared, results []pulse.Result) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	cut := p.broker.lostSoon()
	p.answers.next()
	p.synced = false
	p.sent = p.sent[:0]
	for i := range msgs {
		p.sent = append(p.sent, msgs[i].env.ID)
	}
	var stored int
	var err error
	if len(msgs) >= p.atomicFrom() {
		stored, err = p.atomic(ctx, cut, msgs)
	} else {
		stored, err = p.plain(ctx, cut, msgs)
	}
	for i := range msgs[:stored] {
		env := msgs[i].env
		results[msgs[i].index] = pulse.Result{Outcome: pulse.Acked, Sequence: p.last + uint64(i) + 1}
		if env.Position > p.high.Position {
			p.high, p.blind = cursorOf(env), false
		}
	}
	p.last += uint64(stored)
	p.sent = p.sent[:copy(p.sent, p.sent[stored:])]
	if err == nil {
		p.synced = true
	}
	return err
}

// plain publishes one message after the other. It returns how many the server has for certain. It does not send the next one before
// the answer: behind a message that another writer's took the place of, the next would find the sequence number it expects.
func (p *Publisher) plain(ctx context.Context, cut <-chan struct{}, msgs []prepared) (stored int, err error) {
	for i := range msgs {
		p.out.reset(p.broker.opts.Prefix, &msgs[i])
		p.out.set(headerExpected, strconv.FormatUint(p.last+uint64(i), 10))
		p.out.msg.Reply = p.answers.reply(i)
		if err := p.broker.nc.PublishMsg(&p.out.msg); err != nil {
			return i, err
		}
		_, seq, err := p.answer(ctx, cut)
		if err != nil {
			return i, err
		}
		if want := p.last + uint64(i) + 1; seq != want {
			return i, fmt.Errorf("%w: the server gave sequence number %d instead of %d", pulse.ErrBroker, seq, want)
		}
	}
	return len(msgs), nil
}

// atomicFrom is the number of messages from which a batch is faster than one by one: where messages are staged in a file, that takes as
// long as to sync some, and where they go to several servers, each takes a way there and back.
func (p *Publisher) atomicFrom() int {
	if p.broker.opts.Replicas > 1 {
		return 2
	}
	return 10
}

// atomic publishes all or nothing.
func (p *Publisher) atomic(ctx context.Context, cut <-chan struct{}, msgs []prepared) (stored int, err error) {
	id := p.answers.reply(0)[len(p.answers.prefix):] + "-" + uuid.NewString()
	for i := range msgs {
		p.out.reset(p.broker.opts.Prefix, &msgs[i])
		p.out.set(headerBatch, id)
		p.out.set(headerBatchSeq, strconv.Itoa(i+1))
		switch i {
		case 0:
			p.out.set(headerExpected, strconv.FormatUint(p.last, 10))
			p.out.msg.Reply = p.answers.reply(0) // says early when the server takes no batch
		case len(msgs) - 1:
			p.out.set(headerCommit, "1")
			p.out.msg.Reply = p.answers.reply(i)
		}
		if err := p.broker.nc.PublishMsg(&p.out.msg); err != nil {
			return 0, err
		}
	}
	for {
		i, seq, err := p.answer(ctx, cut)
		switch {
		case i < 0 || err != nil:
			return 0, err
		case i == 0:
			continue
		case seq != p.last+uint64(len(msgs)):
			return 0, fmt.Errorf("%w: the server gave a batch sequence number %d instead of %d", pulse.ErrBroker, seq, p.last+uint64(len(msgs)))
		}
		return len(msgs), nil
	}
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
			return -1, 0, fmt.Errorf("%w: the connection was lost before the answer", pulse.ErrBroker)
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
