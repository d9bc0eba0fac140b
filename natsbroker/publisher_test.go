package natsbroker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// sizes are batches that go one by one, and as one.
var sizes = [...]int{1, 5, 9, 10, 60}

// What was published when the connection was lost is there once, whether the server had got it or not.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	server := listening(t, t.TempDir())
	for _, way := range []string{"answers", "messages"} {
		for _, n := range sizes {
			t.Run(fmt.Sprintf("%s of %d", way, n), func(t *testing.T) {
				name := fmt.Sprintf("%s%d", way, n)
				line := newProxy(t, server.URL())
				b := connect(t, line.url(), natsbroker.Options{Stream: name, Prefix: name})
				p := b.Publisher()
				publish(t, p, events(1, 3))
				line.muteDown.Store(way == "answers")
				line.muteUp.Store(way == "messages")
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				envs := events(4, n)
				for i, r := range p.PublishBatch(ctx, envs) {
					if r.Outcome != pulse.Unknown || !errors.Is(r.Err, pulse.ErrBroker) {
						t.Fatalf("envelope %d: %+v", i, r)
					}
				}
				line.muteDown.Store(false)
				line.muteUp.Store(false)
				line.cut()
				publishUntil(t, p, envs)
				publish(t, p, events(4+n, 2))
				stored(t, connect(t, server.URL(), natsbroker.Options{Stream: name, Prefix: name}), through(1, pulse.Position(5+n))...)
			})
		}
	}
}

// A cut connection is noticed at once, not after the time for an answer.
func TestCutWhilePublishing(t *testing.T) {
	server := listening(t, t.TempDir())
	line := newProxy(t, server.URL())
	p := connect(t, line.url(), natsbroker.Options{}).Publisher()
	publish(t, p, events(1, 1))
	line.muteDown.Store(true)
	start := time.Now()
	cut := time.AfterFunc(100*time.Millisecond, line.cut)
	defer cut.Stop()
	r := p.PublishBatch(t.Context(), events(2, 1))[0]
	if took := time.Since(start); r.Outcome != pulse.Unknown || took > 5*time.Second {
		t.Errorf("%+v after %s", r, took)
	}
	line.muteDown.Store(false)
	line.cut()
	publishUntil(t, p, events(3, 1))
}

func TestTwoWriters(t *testing.T) {
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := embed(t, t.TempDir(), natsbroker.Options{})
			one, two := b.Publisher(), b.Publisher()
			publish(t, one, events(1, 2))
			publish(t, two, events(3, 2))
			stale := one.PublishBatch(t.Context(), events(3, n))
			if _, unknown, _ := outcomes(stale); unknown != n || !strings.Contains(stale[0].Err.Error(), "another writer") {
				t.Fatalf("the writer that came too late got %+v", stale)
			}
			if last, ok, err := one.Last(t.Context()); err != nil || !ok || last.Position != 4 {
				t.Errorf("Last is %+v, %v, %v", last, ok, err)
			}
			publish(t, one, events(5, n))
			stored(t, b, through(1, pulse.Position(4+n))...)
		})
	}
}

// Of a call nothing is stored behind what was not, also when another writer has just stored as many messages as were sent first: it may publish
// from elsewhere in the log, as after a loss.
func TestNoGapBehindAnotherWriter(t *testing.T) {
	b := embed(t, t.TempDir(), natsbroker.Options{})
	one, two := b.Publisher(), b.Publisher()
	most := one.Capabilities().MaxBatch
	batch := most / 2 // what is sent first of a call of most
	next := batch + 1
	publish(t, one, events(1, batch))
	publish(t, two, events(1, batch)) // again
	if _, unknown, _ := outcomes(one.PublishBatch(t.Context(), events(next, most))); unknown != most {
		t.Errorf("the writer that came too late published %d of %d", most-unknown, most)
	}
	if last, ok, err := one.Last(t.Context()); err != nil || !ok || last.Position != pulse.Position(batch) {
		t.Errorf("Last is %+v, %v, %v", last, ok, err)
	}
	publish(t, one, events(next, most))
	stored(t, b, append(through(1, pulse.Position(batch)), through(1, pulse.Position(batch+most))...)...)
}

// A message that cannot be published is refused, one by one and in atomic batches, also behind the first: what is before it is published,
// what is behind it comes again.
func TestRejected(t *testing.T) {
	b := embed(t, t.TempDir(), natsbroker.Options{})
	p := b.Publisher()
	next := 1
	for name, edit := range map[string]func(*pulse.Envelope){
		"no source": func(e *pulse.Envelope) { e.Source = "" },
		"no data":   func(e *pulse.Envelope) { e.Data = nil },
		"too large": func(e *pulse.Envelope) { e.Data = []byte(`"` + strings.Repeat("x", p.Capabilities().MaxBytes) + `"`) },
		"headers too large": func(e *pulse.Envelope) {
			e.Extensions = []byte(`{"a":"` + strings.Repeat("ż", 12_000) + `"}`)
		},
	} {
		for _, n := range []int{1, 3, 40, 5000} {
			t.Run(fmt.Sprintf("%s of %d", name, n), func(t *testing.T) {
				envs := events(next, n)
				next += n
				edit(&envs[n/2])
				for i, r := range p.PublishBatch(t.Context(), envs) {
					want := pulse.Acked
					switch {
					case i == n/2:
						want = pulse.Rejected
					case i > n/2:
						want = pulse.Withheld
					}
					if r.Outcome != want || (r.Outcome == pulse.Acked) != (r.Err == nil) {
						t.Fatalf("message %d got outcome %d, want %d: %v", i, r.Outcome, want, r.Err)
					}
				}
				publish(t, p, envs[n/2+1:])
			})
		}
	}
}

// A server that comes back and takes less than before refuses what is too large for it now, and holds up nothing else.
func TestTakesLess(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 40} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			o := server.Options{Authorization: token, StoreDir: t.TempDir(), Port: freePorts(t, 1)[0]}
			before := o
			s := run(t, &before)
			p := connect(t, s.ClientURL(), natsbroker.Options{}).Publisher()
			publish(t, p, events(1, 1))
			s.Shutdown()
			s.WaitForShutdown()
			o.MaxPayload = 64 << 10
			run(t, &o)
			publishUntil(t, p, events(2, 1))
			envs := events(3, n)
			envs[1].Data = []byte(`"` + strings.Repeat("x", 100_000) + `"`)
			results := p.PublishBatch(t.Context(), envs)
			if acked, _, rejected := outcomes(results); acked != 1 || rejected != 1 || results[1].Outcome != pulse.Rejected {
				t.Errorf("%d were published and %d refused: %v", acked, rejected, results[1].Err)
			}
			publish(t, p, envs[2:])
		})
	}
}

// A server that was told to take fewer messages in a batch gets fewer.
func TestSmallBatches(t *testing.T) {
	t.Parallel()
	s := run(t, &server.Options{Authorization: token, JetStreamLimits: server.JSLimitOpts{MaxBatchSize: 100}})
	b := connect(t, s.ClientURL(), natsbroker.Options{})
	p := b.Publisher()
	before := p.Capabilities()
	publishUntil(t, p, events(1, 2500))
	publish(t, p, events(2501, 2500))
	stored(t, b, through(1, 5000)...)
	if p.Capabilities() != before {
		t.Error("the capabilities have changed")
	}
}

// A full stream keeps what it has. To publish is an outage, which ends when there is room.
func TestFull(t *testing.T) {
	for _, n := range []int{1, 5, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			server := listening(t, t.TempDir())
			name := fmt.Sprint("full", n)
			b := connect(t, server.URL(), natsbroker.Options{Stream: name, Prefix: name, MaxBytes: 64 << 10})
			p := b.Publisher()
			next, full := 1, pulse.Result{}
			for full.Err == nil {
				for _, r := range p.PublishBatch(t.Context(), events(next, n)) {
					if r.Outcome == pulse.Acked && full.Err == nil {
						next++
					} else if full.Err == nil {
						full = r
					}
				}
			}
			if full.Outcome != pulse.Unknown || !strings.Contains(full.Err.Error(), "takes no more") {
				t.Fatalf("a full stream gives %+v", full)
			}
			connect(t, server.URL(), natsbroker.Options{Stream: name, Prefix: name, MaxBytes: 128 << 10})
			publishUntil(t, p, events(next, n))
			stored(t, b, through(1, pulse.Position(next+n-1))...)
		})
	}
}

// A message that was held back does not hide how far publishing had come.
func TestLastAfterLateMessage(t *testing.T) {
	b := embed(t, t.TempDir(), natsbroker.Options{})
	envs := events(1, 30)
	p := b.Publisher()
	publish(t, p, envs[:20])
	publish(t, p, []pulse.Envelope{envs[2], envs[20], envs[3]})
	for name, p := range map[string]pulse.Publisher{"same": p, "new": b.Publisher()} {
		last, ok, err := p.Last(t.Context())
		if err != nil || !ok || last.Position != 21 || last.Commitment != envs[20].Commitment {
			t.Errorf("%s publisher: Last is %+v, %v, %v", name, last, ok, err)
		}
	}
	publish(t, b.Publisher(), envs[21:])
	for start := pulse.Position(1); start <= 30; start++ {
		var want []pulse.Position
		for _, at := range append(append(through(1, 20), 3, 21, 4), through(22, 30)...) {
			if at >= start {
				want = append(want, at)
			}
		}
		f := open(t, b, pulse.FeedConfig{Subscription: fmt.Sprint("s", start), Start: start})
		expect(t, f, want...)
	}
}

func TestLastOfWhatIsGone(t *testing.T) {
	b := embed(t, t.TempDir(), natsbroker.Options{})
	p := b.Publisher()
	js, _ := admin(t, b)
	if last, ok, err := p.Last(t.Context()); err != nil || !ok || last != (pulse.Cursor{}) {
		t.Errorf("Last of a new stream is %+v, %v, %v", last, ok, err)
	}
	publish(t, p, events(1, 20))
	s, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if last, ok, err := p.Last(t.Context()); err != nil || ok {
		t.Errorf("Last of a stream whose messages have expired is %+v, %v, %v: it cannot tell", last, ok, err)
	}
	publish(t, p, events(21, 1))
	if last, ok, err := p.Last(t.Context()); err != nil || !ok || last.Position != 21 {
		t.Errorf("Last is %+v, %v, %v", last, ok, err)
	}
}

// A stream that is gone is made again, and whoever publishes learns that something was lost.
func TestStreamDeletedUnderPublisher(t *testing.T) {
	for _, n := range []int{2, 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := embed(t, t.TempDir(), natsbroker.Options{})
			p := b.Publisher()
			publish(t, p, events(1, 20))
			js, _ := admin(t, b)
			if err := js.DeleteStream(t.Context(), "PULSE"); err != nil {
				t.Fatal(err)
			}
			envs := events(21, n)
			if _, unknown, _ := outcomes(p.PublishBatch(t.Context(), envs)); unknown != n {
				t.Fatal("published to a stream that is gone")
			}
			if last, ok, err := p.Last(t.Context()); err != nil || !ok || last != (pulse.Cursor{}) {
				t.Errorf("Last is %+v, %v, %v", last, ok, err)
			}
			publish(t, p, envs)
			stored(t, b, through(21, pulse.Position(20+n))...)
		})
	}
}

func TestLostMessagesAreNoticedWithoutLast(t *testing.T) {
	b := embed(t, t.TempDir(), natsbroker.Options{})
	p := b.Publisher()
	publish(t, p, events(1, 20))
	js, _ := admin(t, b)
	if err := js.DeleteStream(t.Context(), "PULSE"); err != nil {
		t.Fatal(err)
	}
	p.PublishBatch(t.Context(), events(21, 1))
	r := p.PublishBatch(t.Context(), events(21, 1))[0]
	if r.Outcome != pulse.Unknown || !strings.Contains(r.Err.Error(), "lost") {
		t.Errorf("after the stream was lost: %+v", r)
	}
	publish(t, p, events(21, 1))
}
