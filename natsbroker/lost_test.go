package natsbroker_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/brokerworld"
	"github.com/edupulse-live/pulse/natsbroker"
)

// A server comes back under load without its messages, or with those of an older copy of its directory, in which the last thousand
// are missing: every event is handled once and in order, and what had been handled is not published again.
func TestServerLosesMessagesUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: runs servers for some seconds")
	}
	t.Parallel()
	for _, way := range []string{"wiped", "restored from an older copy"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			p := &process{Name: "n", Dir: t.TempDir(), Port: freePorts(t, 1)[0]}
			p.start(t)
			w := newWorld(t, connect(t, p.url(), natsbroker.Options{}))
			w.Begin(t, often)
			w.AwaitHandled(t, 2000)
			older := t.TempDir()
			if way != "wiped" {
				p.kill()
				copyInto(t, older, p.Dir)
				p.start(t)
				w.AwaitHandled(t, 1000)
			}
			w.AwaitHandled(t, 2000)
			handled := w.Handled(t)
			p.kill()
			p.Dir = older
			p.start(t)
			w.AwaitHandled(t, 2000)
			w.AllNoted(t, 100)
			if n := w.watched.againBefore(handled); n > 0 {
				t.Errorf("%d events were published again although they had been handled", n)
			}
			t.Logf("%d changes of each lesson; %d events published again of those not handled yet", w.Emitted(), w.watched.againBefore(1<<62))
		})
	}
}

func copyInto(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// Messages that expired or were removed while a subscription was away are taken from the log: some of them, or all.
func TestExpiredWhileAway(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: runs servers for some seconds")
	}
	t.Parallel()
	for name, remove := range map[string]func(t *testing.T, b *natsbroker.Broker){
		"purged":                      func(t *testing.T, b *natsbroker.Broker) { purge(t, b, 0) },
		"purged but for the last 100": func(t *testing.T, b *natsbroker.Broker) { purge(t, b, 100) },
		"expired":                     func(t *testing.T, b *natsbroker.Broker) { expire(t, b) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := embed(t, t.TempDir(), natsbroker.Options{})
			w := newWorld(t, b)
			w.Emit(t, 100)
			eventually(t, "handling", func() bool { return w.Handled(t) >= 800 })
			if err := w.Pause(t.Context(), brokerworld.Subscription, "away"); err != nil {
				t.Fatal(err)
			}
			w.Emit(t, 200)
			head := w.State(t, brokerworld.Subscription).Head
			eventually(t, "publishing", func() bool { return w.Published(t) >= head })
			remove(t, b)
			if err := w.Resume(t.Context(), brokerworld.Subscription); err != nil {
				t.Fatal(err)
			}
			w.AllNoted(t, 100) // before anything else comes
			w.Emit(t, 100)
			w.AllNoted(t, 100)
		})
	}
}

// Messages removed from the end of a stream are published again, and a subscription finds what is before them.
func TestRemovedFromTheEnd(t *testing.T) {
	t.Parallel()
	for _, removed := range []int{1, 2, 15} {
		t.Run(fmt.Sprint(removed), func(t *testing.T) {
			t.Parallel()
			b := embed(t, t.TempDir(), natsbroker.Options{})
			publish(t, b.Publisher(), events(1, 20))
			js, _ := admin(t, b)
			s, err := js.Stream(t.Context(), "PULSE")
			if err != nil {
				t.Fatal(err)
			}
			for i := range removed {
				if err := s.DeleteMsg(t.Context(), uint64(20-i)); err != nil {
					t.Fatal(err)
				}
			}
			left := pulse.Position(20 - removed)
			expect(t, open(t, b, pulse.FeedConfig{Subscription: "late", Start: 5}), through(5, left)...)
			p := b.Publisher()
			if last, ok, err := p.Last(t.Context()); err != nil || !ok || last.Position != left {
				t.Errorf("Last is %+v, %v, %v, want position %d", last, ok, err, left)
			}
			publish(t, p, events(int(left)+1, removed+1))
			stored(t, b, through(1, 21)...)
		})
	}
}

// purge removes all messages but the last ones.
func purge(t *testing.T, b *natsbroker.Broker, keep uint64) {
	t.Helper()
	js, _ := admin(t, b)
	s, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	var opts []jetstream.StreamPurgeOpt
	if keep > 0 {
		opts = append(opts, jetstream.WithPurgeKeep(keep))
	}
	if err := s.Purge(t.Context(), opts...); err != nil {
		t.Fatal(err)
	}
}

// expire makes the stream keep messages for so short a time that all there are expire, and then for long again.
func expire(t *testing.T, b *natsbroker.Broker) {
	t.Helper()
	js, _ := admin(t, b)
	s, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{100 * time.Millisecond, 72 * time.Hour} {
		config := s.CachedInfo().Config
		config.MaxAge = age
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if age > time.Second {
			break
		}
		eventually(t, "expiry", func() bool {
			info, err := s.Info(t.Context())
			return err == nil && info.State.Msgs == 0
		})
	}
}
