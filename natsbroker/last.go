package natsbroker

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

// headerHigh is in a message whose position is lower than that of one before it, as when it had been held back: the highest before
// it, and its commitment. So every message tells the highest position up to itself, which makes the stream one that can be searched.
const headerHigh = "pulse-highest"

func highText(c pulse.Cursor) string {
	return strconv.FormatInt(int64(c.Position), 10) + " " + base64.StdEncoding.EncodeToString(c.Commitment[:])
}

// highOf reads the highest position up to a message. ok is false when it is none of ours.
func highOf(h nats.Header) (c pulse.Cursor, ok bool) {
	position, commitment := h.Get(cloudevents.HeaderPosition), h.Get(cloudevents.HeaderCommitment)
	if high := h.Get(headerHigh); high != "" {
		position, commitment, _ = strings.Cut(high, " ")
	}
	return readPlace(position, commitment)
}

// placeOf reads the place in the log that a message tells of.
func placeOf(h nats.Header) (c pulse.Cursor, ok bool) {
	return readPlace(h.Get(cloudevents.HeaderPosition), h.Get(cloudevents.HeaderCommitment))
}

func readPlace(position, commitment string) (c pulse.Cursor, ok bool) {
	n, err := strconv.ParseInt(position, 10, 64)
	if err != nil || n < 1 {
		return pulse.Cursor{}, false
	}
	c.Position = pulse.Position(n)
	if len(commitment) > base64.StdEncoding.EncodedLen(len(c.Commitment)) {
		return pulse.Cursor{}, false
	}
	var sum [len(c.Commitment) + 1]byte // what four characters more than needed could say
	got, err := base64.StdEncoding.Decode(sum[:], []byte(commitment))
	if err != nil || got != 0 && got != len(c.Commitment) {
		return pulse.Cursor{}, false
	}
	copy(c.Commitment[:], sum[:])
	return c, true
}

// sync finds out what is in the stream, and with that what became of messages whose outcome was unknown. It makes a stream
// that is gone.
func (p *Publisher) sync(ctx context.Context) error {
	info, err := p.broker.ensureStream(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	end, err := p.broker.endOf(ctx, info)
	if err != nil {
		return fmt.Errorf("read the last message: %w", err)
	}
	p.resolve(end.seq, end.id)
	p.synced, p.last, p.high, p.blind = true, end.seq, end.high, end.blind
	return nil
}

// end is the last message of a stream.
type end struct {
	seq   uint64 // 0 when there never was one
	id    string // of its event; "" when the message was removed
	high  pulse.Cursor
	blind bool // it does not tell high: it has expired, or is another's
}

func (b *Broker) endOf(ctx context.Context, info *jetstream.StreamInfo) (end, error) {
	last := info.State.LastSeq
	switch {
	case last == 0:
		return end{}, nil
	case info.State.Msgs == 0:
		return end{seq: last, blind: true}, nil
	}
	m, err := b.message(ctx, last)
	if errors.Is(err, jetstream.ErrMsgNotFound) { // somebody removed it: what is before it tells
		m, err = b.newest(ctx)
	}
	if err != nil {
		return end{}, err
	}
	high, ok := highOf(m.Header)
	e := end{seq: last, high: high, blind: !ok}
	if m.Sequence == last {
		e.id = m.Header.Get("ce-id")
	}
	return e, nil
}

// newest reads the last message that is there.
func (b *Broker) newest(ctx context.Context) (*jetstream.RawStreamMsg, error) {
	s, err := b.stream(ctx)
	if err != nil {
		return nil, err
	}
	return ask(ctx, b, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return s.GetLastMsgForSubject(ctx, b.opts.Prefix+".>")
	})
}

// resolve sees which of the messages sent are there, when the stream ends at last with the message id.
func (p *Publisher) resolve(last uint64, id string) {
	sent := p.sent
	p.sent = nil
	if last < p.last {
		p.there = nil
		return
	}
	n := last - p.last
	if n == 0 {
		return
	}
	p.there = nil
	if got, err := uuid.Parse(id); err == nil && n <= uint64(len(sent)) && sent[n-1] == got {
		p.there = sent[:n]
	}
}

// message reads the message with a sequence number, or the next one that is there.
func (b *Broker) message(ctx context.Context, seq uint64) (*jetstream.RawStreamMsg, error) {
	s, err := b.stream(ctx)
	if err != nil {
		return nil, err
	}
	m, err := ask(ctx, b, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(b.opts.Prefix+".>"))
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("%w: message %d is not there: %w", pulse.ErrBroker, seq, err)
	}
	return m, err
}
