package brokertest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/edupulse-live/pulse"
)

// harness is one case at work on its own destination.
type harness struct {
	testing.TB
	Broker
	options Options
	ctx     context.Context
	next    pulse.Position // of the next envelope
}

func newHarness(t testing.TB, o Options) *harness {
	t.Helper()
	return &harness{TB: t, Broker: o.Open(t), options: o, ctx: t.Context(), next: 1}
}

// ok ends the case when err is not nil.
func (h *harness) ok(err error) {
	h.Helper()
	if err != nil {
		h.Fatalf("unexpected error: %v", err)
	}
}

// envelopes returns n envelopes at the next positions.
func (h *harness) envelopes(n int, edits ...func(*pulse.Envelope)) []pulse.Envelope {
	envs := make([]pulse.Envelope, n)
	for i := range envs {
		envs[i] = Envelope(h.next, edits...)
		h.next++
	}
	return envs
}

// publish publishes envs, in as many batches as needed, and ends the case unless all are acknowledged.
func (h *harness) publish(envs ...pulse.Envelope) {
	h.Helper()
	size := h.Publisher.Capabilities().MaxBatch
	if size < 1 {
		h.Fatalf("MaxBatch is %d, want at least 1", size)
	}
	for len(envs) > 0 {
		n := min(size, len(envs))
		for i, r := range h.batch(h.ctx, envs[:n]) {
			if r.Outcome != pulse.Acked || r.Err != nil {
				h.Fatalf("publishing envelope %d: %+v", i, r)
			}
		}
		envs = envs[n:]
	}
}

// batch publishes envs and checks the form of the answer.
func (h *harness) batch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	h.Helper()
	ctx, cancel := context.WithTimeout(ctx, h.options.patience)
	defer cancel()
	results := h.Publisher.PublishBatch(ctx, envs)
	if len(results) != len(envs) {
		h.Fatalf("%d results for %d envelopes", len(results), len(envs))
	}
	last, rest := uint64(0), pulse.Acked
	for i, r := range results {
		if rest != pulse.Acked && r.Outcome != rest {
			h.Fatalf("envelope %d has outcome %d, want %d behind one that was not Acked", i, r.Outcome, rest)
		}
		switch r.Outcome {
		case pulse.Unknown:
			rest = pulse.Unknown
		case pulse.Rejected, pulse.Withheld:
			rest = pulse.Withheld
		}
		switch r.Outcome {
		case pulse.Acked:
			if r.Err != nil {
				h.Fatalf("envelope %d was Acked with the error %v", i, r.Err)
			}
			if r.Sequence != 0 && r.Sequence <= last {
				h.Fatalf("envelope %d got sequence number %d after %d", i, r.Sequence, last)
			}
			last = r.Sequence
		case pulse.Unknown, pulse.Rejected, pulse.Withheld:
			if !errors.Is(r.Err, pulse.ErrBroker) {
				h.Fatalf("envelope %d was not Acked, its error is %v, want an ErrBroker", i, r.Err)
			}
		default:
			h.Fatalf("envelope %d has outcome %d", i, r.Outcome)
		}
	}
	return results
}

// open opens a feed; it skips the case when there is no source. It is closed with the case.
func (h *harness) open(cfg pulse.FeedConfig) *feed {
	h.Helper()
	if h.Source == nil {
		h.Skip("not applicable: the adapter has no pulse.Source")
	}
	if cfg.Subscription == "" {
		cfg.Subscription = "mailer"
	}
	if cfg.Window == 0 {
		cfg.Window = 1000
	}
	if cfg.Start == 0 {
		cfg.Start = pulse.Beginning
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.options.patience)
	defer cancel()
	open, err := h.Source.Open(ctx, cfg)
	h.ok(err)
	f := &feed{harness: h, Feed: open}
	h.Cleanup(f.close)
	return f
}

// feed is an open feed under test.
type feed struct {
	*harness
	pulse.Feed
	closed bool
}

// close closes the feed once.
func (f *feed) close() {
	f.Helper()
	if f.closed {
		return
	}
	f.closed = true
	if err := f.Feed.Close(); err != nil {
		f.Errorf("closing the feed: %v", err)
	}
}

// take fetches until it has n messages.
func (f *feed) take(n int) []pulse.Message {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, f.options.patience)
	defer cancel()
	var msgs []pulse.Message
	for len(msgs) < n {
		page, err := f.Fetch(ctx, n-len(msgs))
		if err != nil {
			f.Fatalf("after %d of %d messages: %v", len(msgs), n, err)
		}
		if len(page) == 0 || len(page) > n-len(msgs) {
			f.Fatalf("Fetch of up to %d messages returned %d and no error", n-len(msgs), len(page))
		}
		msgs = append(msgs, page...)
	}
	return msgs
}

// nothing ends the case when there is a message.
func (f *feed) nothing(why string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, f.options.Quiet)
	defer cancel()
	msgs, err := f.Fetch(ctx, 100)
	if len(msgs) > 0 {
		f.Fatalf("%s: %d messages came, the first is of position %d", why, len(msgs), msgs[0].Position)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		f.Fatalf("%s: Fetch gives %v, want a DeadlineExceeded", why, err)
	}
}

// ack acknowledges messages.
func (f *feed) ack(msgs ...pulse.Message) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, f.options.patience)
	defer cancel()
	receipts := receiptsOf(msgs)
	f.ok(f.Ack(ctx, receipts))
	clear(receipts) // it keeps nothing of them
}

// expect takes and acknowledges messages and ends the case unless they are envs, in this order.
func (f *feed) expect(envs ...pulse.Envelope) {
	f.Helper()
	f.ack(f.inOrder(envs...)...)
}

// inOrder takes messages and ends the case unless they are envs, in this order.
func (f *feed) inOrder(envs ...pulse.Envelope) []pulse.Message {
	f.Helper()
	msgs := f.take(len(envs))
	for i := range envs {
		if msgs[i].ID != envs[i].ID {
			f.Fatalf("message %d is of position %d, want %d; all came as %v", i, msgs[i].Position, envs[i].Position, positions(msgs))
		}
	}
	return msgs
}

func receiptsOf(msgs []pulse.Message) []uint64 {
	receipts := make([]uint64, len(msgs))
	for i := range msgs {
		receipts[i] = msgs[i].Receipt
	}
	return receipts
}

func positions(msgs []pulse.Message) []pulse.Position {
	ps := make([]pulse.Position, len(msgs))
	for i := range msgs {
		ps[i] = msgs[i].Position
	}
	return ps
}

// same ends the case unless msg is env as published. RecordedAt need not travel.
func (h *harness) same(msg *pulse.Message, env *pulse.Envelope) {
	h.Helper()
	for _, f := range []struct {
		name      string
		same      bool
		got, want any
	}{
		{"Position", msg.Position == env.Position, msg.Position, env.Position},
		{"ID", msg.ID == env.ID, msg.ID, env.ID},
		{"Name", msg.Name == env.Name, msg.Name, env.Name},
		{"Version", msg.Version == env.Version, msg.Version, env.Version},
		{"Source", msg.Envelope.Source == env.Source, msg.Envelope.Source, env.Source},
		{"OccurredAt", msg.OccurredAt.Equal(env.OccurredAt), msg.OccurredAt, env.OccurredAt},
		{"RecordedAt", msg.RecordedAt.IsZero() || msg.RecordedAt.Equal(env.RecordedAt), msg.RecordedAt, env.RecordedAt},
		{"Actor", msg.Actor == env.Actor, msg.Actor, env.Actor},
		{"Correlation", msg.Correlation == env.Correlation, msg.Correlation, env.Correlation},
		{"Causation", msg.Causation == env.Causation, msg.Causation, env.Causation},
		{"Key", msg.Key == env.Key, msg.Key, env.Key},
		{"Trace", msg.Trace == env.Trace, msg.Trace, env.Trace},
		{"Data", bytes.Equal(msg.Data, env.Data), abridged(msg.Data), abridged(env.Data)},
		{"Commitment", msg.Commitment == env.Commitment, msg.Commitment, env.Commitment},
	} {
		if !f.same {
			h.Fatalf("%s came as\n     %v\nwant %v", f.name, f.got, f.want)
		}
	}
}

// abridged is b for people.
func abridged(b []byte) string {
	if len(b) > 200 {
		return string(b[:200]) + "…"
	}
	return string(b)
}
