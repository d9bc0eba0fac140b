package natsbroker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/natsbroker"
)

// A subscription whose process is gone goes on at once in the next one, which gets all that was not acknowledged, in order.
// The old one, should it still be there, gets nothing more.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	server := listening(t, t.TempDir())
	publish(t, server.Publisher(), events(1, 50))
	old := open(t, connect(t, server.URL(), natsbroker.Options{}), pulse.FeedConfig{})
	msgs := take(t, old, 30)
	if err := old.Ack(t.Context(), receipts(msgs[:10])); err != nil {
		t.Fatal(err)
	}
	js, _ := admin(t, server)
	eventually(t, "the acknowledgement", func() bool {
		c, err := js.Consumer(t.Context(), "PULSE", "mailer@1")
		return err == nil && c.CachedInfo().AckFloor.Stream == 10
	})
	start := time.Now()
	next := open(t, connect(t, server.URL(), natsbroker.Options{}), pulse.FeedConfig{})
	msgs = take(t, next, 40)
	for i, m := range msgs {
		if want := pulse.Position(11 + i); m.Position != want {
			t.Fatalf("position %d came, want %d", m.Position, want)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("that took %s", took)
	}
	ended := false
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := old.Fetch(ctx, 50)
		ended = ended || errors.Is(err, pulse.ErrBroker) && ctx.Err() == nil
	}
	if !ended {
		t.Error("the old feed did not end")
	}
}

// Acknowledgements behind a gap hold when a feed is closed and opened again, more than once.
func TestGapsStayAcknowledged(t *testing.T) {
	t.Parallel()
	b := embed(t, t.TempDir(), natsbroker.Options{})
	publish(t, b.Publisher(), events(1, 20))
	f := open(t, b, pulse.FeedConfig{})
	msgs := take(t, f, 20)
	for i := range msgs {
		if i%3 != 0 {
			if err := f.Ack(t.Context(), receipts(msgs[i:i+1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.Close()
	f = open(t, b, pulse.FeedConfig{})
	expect(t, f, 1, 4)
	f.Close()
	open(t, b, pulse.FeedConfig{}).Close()
	f = open(t, b, pulse.FeedConfig{})
	expect(t, f, 7, 10, 13, 16, 19)
	nothing(t, f, 50*time.Millisecond)
}

// A subscription that was forgotten begins anew, also when its next feed is closed before anything came.
func TestForgottenBeginsAnew(t *testing.T) {
	t.Parallel()
	b := embed(t, t.TempDir(), natsbroker.Options{})
	publish(t, b.Publisher(), events(1, 20))
	f := open(t, b, pulse.FeedConfig{})
	expect(t, f, through(1, 20)...)
	f.Close()
	if err := b.Source().Forget(t.Context(), "mailer"); err != nil {
		t.Fatal(err)
	}
	open(t, b, pulse.FeedConfig{}).Close()
	expect(t, open(t, b, pulse.FeedConfig{}), through(1, 20)...)
}

// Whatever happens to the stream while somebody waits for it, the wait ends, and who opens again is served.
func TestFeedEndsWithItsStream(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, b *natsbroker.Broker){
		"stream deleted": func(t *testing.T, b *natsbroker.Broker) {
			js, _ := admin(t, b)
			if err := js.DeleteStream(t.Context(), "PULSE"); err != nil {
				t.Fatal(err)
			}
		},
		"consumer deleted": func(t *testing.T, b *natsbroker.Broker) {
			js, _ := admin(t, b)
			s, err := js.Stream(t.Context(), "PULSE")
			if err != nil {
				t.Fatal(err)
			}
			for name := range s.ConsumerNames(t.Context()).Name() {
				if err := js.DeleteConsumer(t.Context(), "PULSE", name); err != nil {
					t.Fatal(err)
				}
			}
		},
		"stream made anew": func(t *testing.T, b *natsbroker.Broker) {
			js, _ := admin(t, b)
			if err := js.DeleteStream(t.Context(), "PULSE"); err != nil {
				t.Fatal(err)
			}
			if _, _, err := b.Publisher().Last(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := embed(t, t.TempDir(), natsbroker.Options{})
			p := b.Publisher()
			publish(t, p, events(1, 20))
			f := open(t, b, pulse.FeedConfig{})
			expect(t, f, through(1, 20)...)
			failure := make(chan error, 1)
			go func() {
				_, err := f.Fetch(t.Context(), 10)
				failure <- err
			}()
			harm(t, b)
			select {
			case err := <-failure:
				if !errors.Is(err, pulse.ErrBroker) {
					t.Errorf("Fetch gives %v, want an ErrBroker", err)
				}
			case <-time.After(patience):
				t.Fatal("Fetch waits for ever")
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			f = openAgain(t, b, pulse.FeedConfig{Start: 21})
			publishUntil(t, p, events(21, 20))
			expect(t, f, through(21, 40)...)
		})
	}
}

// openAgain opens a feed as a bus does that tries again: the server may still be taking away the files of what it has said is gone.
func openAgain(t *testing.T, b *natsbroker.Broker, cfg pulse.FeedConfig) pulse.Feed {
	t.Helper()
	cfg.Subscription = "mailer"
	var f pulse.Feed
	eventually(t, "the feed opens again", func() (opened bool) {
		var err error
		if f, err = b.Source().Open(t.Context(), cfg); err != nil && !errors.Is(err, pulse.ErrBroker) {
			t.Fatal(err)
		}
		return err == nil
	})
	t.Cleanup(func() { f.Close() })
	return f
}

// Messages that were removed before they were read are an error, so that the reader looks for them elsewhere.
func TestPurgedBeforeRead(t *testing.T) {
	t.Parallel()
	b := embed(t, t.TempDir(), natsbroker.Options{})
	publish(t, b.Publisher(), events(1, 40))
	f := open(t, b, pulse.FeedConfig{Window: 10})
	take(t, f, 10)
	js, _ := admin(t, b)
	s, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := f.Fetch(ctx, 10); !errors.Is(err, pulse.ErrBroker) || !strings.Contains(err.Error(), "11 to 40") {
		t.Errorf("Fetch gives %v, want what was removed", err)
	}
	f.Close()
	f = open(t, b, pulse.FeedConfig{})
	publish(t, b.Publisher(), events(41, 1))
	expect(t, f, 41)
}

// A reader that had read everything does not mind that it expires.
func TestPurgedAfterRead(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: waits for some seconds")
	}
	t.Parallel()
	b := embed(t, t.TempDir(), natsbroker.Options{})
	f := open(t, b, pulse.FeedConfig{Names: []string{"quiz.submitted"}})
	nothing(t, f, 100*time.Millisecond)
	publish(t, b.Publisher(), events(1, 40))
	nothing(t, f, 3*time.Second) // until it has looked: nothing was for it
	js, _ := admin(t, b)
	s, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothing(t, f, 5*time.Second)
}

// A server that was told to give few messages to a pull is asked for few.
func TestSmallPulls(t *testing.T) {
	t.Parallel()
	s := run(t, &server.Options{Authorization: token, JetStreamLimits: server.JSLimitOpts{MaxRequestBatch: 50}})
	b := connect(t, s.ClientURL(), natsbroker.Options{})
	publish(t, b.Publisher(), events(1, 600))
	f := open(t, b, pulse.FeedConfig{Window: 400})
	expect(t, f, through(1, 400)...)
	expect(t, f, through(401, 600)...)
}

// A message stays with its feed however long it is handled.
func TestLongHandling(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: waits longer than the server does for an acknowledgement")
	}
	t.Parallel()
	b := embed(t, t.TempDir(), natsbroker.Options{})
	f := open(t, b, pulse.FeedConfig{})
	publish(t, b.Publisher(), events(1, 3))
	msgs := take(t, f, 3)
	nothing(t, f, 33*time.Second)
	if err := f.Ack(t.Context(), receipts(msgs[:1])); err != nil {
		t.Fatal(err)
	}
	f.Close()
	expect(t, open(t, b, pulse.FeedConfig{}), 2, 3)
}

// What another program writes where only Pulse should does not stop a subscription.
func TestForeignMessageIsSkipped(t *testing.T) {
	t.Parallel()
	b := embed(t, t.TempDir(), natsbroker.Options{})
	p := b.Publisher()
	publish(t, p, events(1, 2))
	_, nc := admin(t, b)
	foreign := nats.NewMsg("pulse.0.lesson.published")
	foreign.Header.Set(cloudevents.HeaderPosition, "1000000")
	foreign.Header.Set(cloudevents.HeaderCommitment, "none")
	if _, err := nc.RequestMsg(foreign, patience); err != nil {
		t.Fatal(err)
	}
	if last, ok, err := p.Last(t.Context()); err != nil || ok || last != (pulse.Cursor{}) {
		t.Errorf("Last is %+v, %v, %v, but the last message is another's", last, ok, err)
	}
	publishUntil(t, p, events(3, 2))
	if last, ok, err := p.Last(t.Context()); err != nil || !ok || last.Position != 4 {
		t.Errorf("Last is %+v, %v, %v", last, ok, err)
	}
	expect(t, open(t, b, pulse.FeedConfig{}), 1, 2, 3, 4)
	expect(t, open(t, b, pulse.FeedConfig{Subscription: "late", Start: 3}), 3, 4)
}

func renamed(envs []pulse.Envelope, names ...string) []pulse.Envelope {
	for i, name := range names {
		envs[i].Name = name
	}
	return envs
}

func TestOverlappingNames(t *testing.T) {
	t.Parallel()
	b := embed(t, t.TempDir(), natsbroker.Options{})
	publish(t, b.Publisher(), renamed(events(1, 4), "lesson.published", "quiz.published", "lesson.withdrawn", "quiz.submitted"))
	f := open(t, b, pulse.FeedConfig{Names: []string{"lesson.*", "*.published"}})
	expect(t, f, 1, 2, 3)
	nothing(t, f, 50*time.Millisecond)
	f.Close()
	f = open(t, b, pulse.FeedConfig{Subscription: "changed", Names: []string{"lesson.*"}})
	expect(t, f, 1, 3)
	f.Close()
	publish(t, b.Publisher(), renamed(events(5, 2), "lesson.published", "quiz.published"))
	expect(t, open(t, b, pulse.FeedConfig{Subscription: "changed", Names: []string{"quiz.*"}, Start: 1}), 4, 6)
}

// A lost connection ends the feed; the next one delivers what was on its way.
func TestCutWhileFetching(t *testing.T) {
	t.Parallel()
	server := listening(t, t.TempDir())
	line := newProxy(t, server.URL())
	b := connect(t, line.url(), natsbroker.Options{})
	other := connect(t, server.URL(), natsbroker.Options{})
	f := open(t, b, pulse.FeedConfig{})
	line.muteDown.Store(true) // what is delivered from now on is lost
	publish(t, other.Publisher(), events(1, 20))
	failure := make(chan error, 1)
	go func() {
		_, err := f.Fetch(t.Context(), 10)
		failure <- err
	}()
	time.AfterFunc(200*time.Millisecond, func() {
		line.muteDown.Store(false)
		line.cut()
	})
	if err := <-failure; !errors.Is(err, pulse.ErrBroker) {
		t.Fatalf("Fetch gives %v, want an ErrBroker", err)
	}
	f.Close()
	eventually(t, "connecting again", func() bool {
		_, _, err := b.Publisher().Last(t.Context())
		return err == nil
	})
	f = open(t, b, pulse.FeedConfig{})
	if msgs := take(t, f, 20); msgs[0].Position != 1 {
		t.Errorf("%v came", positions(msgs))
	}
}

func TestInvalidUse(t *testing.T) {
	t.Parallel()
	b := embed(t, t.TempDir(), natsbroker.Options{})
	f := open(t, b, pulse.FeedConfig{})
	_, openErr := b.Source().Open(t.Context(), pulse.FeedConfig{Subscription: "no name"})
	_, fetchErr := f.Fetch(t.Context(), 0)
	for name, err := range map[string]error{
		"a subscription that is no name": openErr,
		"a fetch of none":                fetchErr,
		"a receipt never given":          f.Ack(t.Context(), []uint64{9}),
	} {
		if !errors.Is(err, pulse.ErrInvalid) {
			t.Errorf("%s gives %v, want an ErrInvalid", name, err)
		}
	}
}

// A feed takes the event from who asks for the feed, if it is at hand there, and else from the message.
func TestKnownEvents(t *testing.T) {
	b := embed(t, t.TempDir(), natsbroker.Options{})
	envs := events(1, 20)
	publishUntil(t, b.Publisher(), envs)
	known := func(c pulse.Cursor) (pulse.Envelope, bool) {
		if c.Position%2 == 0 || c.Commitment != envs[c.Position-1].Commitment {
			return pulse.Envelope{}, false
		}
		env := envs[c.Position-1]
		env.Source = "/at/hand"
		return env, true
	}
	f := open(t, b, pulse.FeedConfig{Subscription: "mailer", Known: known})
	for n := 0; n < len(envs); {
		msgs, err := f.Fetch(t.Context(), len(envs))
		if err != nil {
			t.Fatal(err)
		}
		for i := range msgs {
			want := envs[n].Source
			if n++; n%2 == 1 {
				want = "/at/hand"
			}
			if m := &msgs[i]; m.Position != pulse.Position(n) || m.Source != want {
				t.Errorf("event %d came from %q at position %d, want %q", n, m.Source, m.Position, want)
			}
		}
	}
}
