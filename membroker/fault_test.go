package membroker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/membroker"
)

// envelopes returns n envelopes at 1, 2, 3 …
func envelopes(n int) []pulse.Envelope {
	envs := make([]pulse.Envelope, n)
	for i := range envs {
		envs[i] = brokertest.Envelope(pulse.Position(i + 1))
	}
	return envs
}

// faultAt returns a hook with a fault at one position.
func faultAt(position pulse.Position, fault membroker.Fault) membroker.Hook {
	return func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
		if env.Position == position {
			return fault
		}
		return membroker.None
	}
}

// receipts are what acknowledges messages.
func receipts(msgs []pulse.Message) []uint64 {
	rs := make([]uint64, len(msgs))
	for i := range msgs {
		rs[i] = msgs[i].Receipt
	}
	return rs
}

// positions are those of the messages in a destination.
func positions(b *membroker.Broker) []pulse.Position {
	var ps []pulse.Position
	for _, env := range b.Messages("school") {
		ps = append(ps, env.Position)
	}
	return ps
}

// open opens a feed of the subscription mailer.
func open(t *testing.T, b *membroker.Broker, cfg pulse.FeedConfig) pulse.Feed {
	t.Helper()
	cfg.Subscription = "mailer"
	f, err := b.Source("school").Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// fetch returns what comes at once.
func fetch(t *testing.T, f pulse.Feed) []pulse.Message {
	t.Helper()
	msgs, err := f.Fetch(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	return msgs
}

func came(msgs []pulse.Message) []pulse.Position {
	var ps []pulse.Position
	for _, m := range msgs {
		ps = append(ps, m.Position)
	}
	return ps
}

func TestFaultsOfPublishing(t *testing.T) {
	const acked, unknown, rejected = pulse.Acked, pulse.Unknown, pulse.Rejected
	for _, c := range []struct {
		name     string
		fault    membroker.Fault
		outcomes []pulse.Outcome
		stored   []pulse.Position
	}{
		{"none", membroker.None, []pulse.Outcome{acked, acked, acked}, []pulse.Position{1, 2, 3}},
		{"lost on its way, and the rest not tried", membroker.Drop, []pulse.Outcome{acked, unknown, unknown}, []pulse.Position{1}},
		{"its answer lost, and the rest not tried", membroker.LostAck, []pulse.Outcome{acked, unknown, unknown}, []pulse.Position{1, 2}},
		{"stored twice", membroker.Duplicate, []pulse.Outcome{acked, acked, acked}, []pulse.Position{1, 2, 2, 3}},
		{"acknowledged and lost", membroker.Forget, []pulse.Outcome{acked, acked, acked}, []pulse.Position{1, 3}},
		{"refused, and the rest not tried", membroker.Refuse, []pulse.Outcome{acked, rejected, pulse.Withheld}, []pulse.Position{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := membroker.New(&membroker.Options{Hook: faultAt(2, c.fault)})
			results := b.Publisher("school").PublishBatch(t.Context(), envelopes(3))
			for i, r := range results {
				if r.Outcome != c.outcomes[i] || (r.Outcome == acked) != (r.Err == nil) || r.Err != nil && !errors.Is(r.Err, pulse.ErrBroker) {
					t.Errorf("result %d is %+v, want outcome %d", i, r, c.outcomes[i])
				}
			}
			if got := positions(b); !slices.Equal(got, c.stored) {
				t.Errorf("the broker has %v, want %v", got, c.stored)
			}
		})
	}
}

func TestHookDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membroker.New(&membroker.Options{Hook: func(context.Context, string, *pulse.Envelope) membroker.Fault {
			time.Sleep(time.Second)
			return membroker.None
		}})
		f := open(t, b, pulse.FeedConfig{})
		start := time.Now()
		go b.Publisher("school").PublishBatch(t.Context(), envelopes(3))
		for i := range 3 {
			if msgs := fetch(t, f); len(msgs) != 1 || time.Since(start) != time.Duration(i+1)*time.Second {
				t.Errorf("%v came after %s", came(msgs), time.Since(start))
			}
		}
	})
}

func TestFetchWaitsForItsTurnWithoutAskingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membroker.New(nil)
		f := open(t, b, pulse.FeedConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		if _, err := f.Fetch(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("error is %v after %s", err, time.Since(start))
		}
	})
}

func TestDown(t *testing.T) {
	b := membroker.New(nil)
	p := b.Publisher("school")
	f := open(t, b, pulse.FeedConfig{})
	p.PublishBatch(t.Context(), envelopes(2))
	msgs := fetch(t, f)

	b.SetDown(true)
	if r := p.PublishBatch(t.Context(), envelopes(1))[0]; r.Outcome != pulse.Unknown || !errors.Is(r.Err, pulse.ErrBroker) {
		t.Errorf("publishing gives %+v", r)
	}
	_, _, lastErr := p.Last(t.Context())
	_, openErr := b.Source("school").Open(t.Context(), pulse.FeedConfig{Subscription: "search"})
	_, fetchErr := f.Fetch(t.Context(), 1)
	for name, err := range map[string]error{"Last": lastErr, "Open": openErr, "Fetch": fetchErr, "Ack": f.Ack(t.Context(), receipts(msgs))} {
		if !errors.Is(err, pulse.ErrBroker) {
			t.Errorf("%s gives %v, want an ErrBroker", name, err)
		}
	}

	b.SetDown(false)
	if err := f.Ack(t.Context(), receipts(msgs)); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	if got := positions(b); len(got) != 2 {
		t.Errorf("the broker has %v", got)
	}
}

// Who waits for a message when the broker goes down learns of it.
func TestDownEndsFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membroker.New(nil)
		f := open(t, b, pulse.FeedConfig{})
		ended := make(chan error)
		go func() {
			_, err := f.Fetch(t.Context(), 1)
			ended <- err
		}()
		synctest.Wait()
		b.SetDown(true)
		if err := <-ended; !errors.Is(err, pulse.ErrBroker) {
			t.Errorf("error is %v, want an ErrBroker", err)
		}
	})
}

func TestWipe(t *testing.T) {
	b := membroker.New(nil)
	p := b.Publisher("school")
	f := open(t, b, pulse.FeedConfig{})
	p.PublishBatch(t.Context(), envelopes(3))
	fetch(t, f)
	b.Wipe()
	if last, ok, err := p.Last(t.Context()); err != nil || !ok || last != (pulse.Cursor{}) {
		t.Errorf("Last is %+v, %v, %v", last, ok, err)
	}
	if _, err := f.Fetch(t.Context(), 1); !errors.Is(err, pulse.ErrBroker) {
		t.Errorf("a feed from before the wipe gives %v, want an ErrBroker", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if r := p.PublishBatch(t.Context(), envelopes(1))[0]; r.Outcome != pulse.Acked || r.Sequence != 1 {
		t.Errorf("the first message after the wipe: %+v", r)
	}
	if got := came(fetch(t, open(t, b, pulse.FeedConfig{}))); !slices.Equal(got, []pulse.Position{1}) {
		t.Errorf("after the wipe %v came", got)
	}
}

func TestTruncate(t *testing.T) {
	b := membroker.New(nil)
	p := b.Publisher("school")
	envs := envelopes(5)
	p.PublishBatch(t.Context(), envs)
	f := open(t, b, pulse.FeedConfig{})
	msgs := fetch(t, f)
	if err := f.Ack(t.Context(), receipts(msgs[:1])); err != nil {
		t.Fatal(err)
	}
	b.Truncate("school", 7)
	b.Truncate("school", 3)
	if last, _, err := p.Last(t.Context()); err != nil || last.Position != 3 || last.Commitment != envs[2].Commitment {
		t.Errorf("Last is %+v, %v", last, err)
	}
	p.PublishBatch(t.Context(), []pulse.Envelope{brokertest.Envelope(40), brokertest.Envelope(41)})
	if got := came(fetch(t, f)); !slices.Equal(got, []pulse.Position{40, 41}) {
		t.Errorf("after the truncation %v came", got)
	}
	// The old receipts must not acknowledge the messages that have the old sequence numbers now.
	if err := f.Ack(t.Context(), receipts(msgs[3:])); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got := came(fetch(t, open(t, b, pulse.FeedConfig{}))); !slices.Equal(got, []pulse.Position{2, 3, 40, 41}) {
		t.Errorf("unacknowledged are %v", got)
	}
}

func TestRedeliver(t *testing.T) {
	b := membroker.New(nil)
	b.Publisher("school").PublishBatch(t.Context(), envelopes(4))
	f := open(t, b, pulse.FeedConfig{Window: 4})
	msgs := fetch(t, f)
	if err := f.Ack(t.Context(), receipts(msgs[1:2])); err != nil {
		t.Fatal(err)
	}
	b.Redeliver("school", "mailer")
	b.Redeliver("school", "nobody")
	again := fetch(t, f)
	if got := came(again); !slices.Equal(got, []pulse.Position{1, 3, 4}) {
		t.Fatalf("%v came again", got)
	}
	// The acknowledgement of the first delivery comes too late.
	if err := f.Ack(t.Context(), receipts(msgs)); err != nil {
		t.Error(err)
	}
	if err := f.Ack(t.Context(), receipts(again[:1])); err != nil {
		t.Error(err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	if got := came(fetch(t, open(t, b, pulse.FeedConfig{}))); !slices.Equal(got, []pulse.Position{3, 4}) {
		t.Errorf("unacknowledged are %v", got)
	}
}

// A message published again late is not delivered to a subscription that starts after its position.
func TestStartIsAPositionNotATime(t *testing.T) {
	b := membroker.New(nil)
	envs := envelopes(5)
	p := b.Publisher("school")
	p.PublishBatch(t.Context(), envs)
	f := open(t, b, pulse.FeedConfig{Start: 4})
	p.PublishBatch(t.Context(), envs)
	if got := came(fetch(t, f)); !slices.Equal(got, []pulse.Position{4, 5, 4, 5}) {
		t.Errorf("%v came", got)
	}
}

func TestInvalidUseIsRefused(t *testing.T) {
	b := membroker.New(nil)
	f := open(t, b, pulse.FeedConfig{})
	_, openErr := b.Source("school").Open(t.Context(), pulse.FeedConfig{})
	_, fetchErr := f.Fetch(t.Context(), 0)
	for name, err := range map[string]error{
		"a subscription without name": openErr,
		"a fetch of none":             fetchErr,
		"a receipt never given":       f.Ack(t.Context(), []uint64{9}),
	} {
		if !errors.Is(err, pulse.ErrInvalid) {
			t.Errorf("%s gives %v, want an ErrInvalid", name, err)
		}
	}
}

func TestMessagesAreCopies(t *testing.T) {
	b := membroker.New(nil)
	b.Publisher("school").PublishBatch(t.Context(), envelopes(1))
	clear(b.Messages("school")[0].Data)
	if got := string(b.Messages("school")[0].Data); got != `{"title":"Fractions"}` {
		t.Errorf("the broker's message is %q", got)
	}
}
