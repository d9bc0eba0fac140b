package natsbroker_test

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

var quiet = slog.New(slog.DiscardHandler)

func TestEmbedLocksItsDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := natsbroker.Embed(t.Context(), dir, &natsbroker.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := natsbroker.Embed(t.Context(), dir, &natsbroker.Options{Log: quiet}); !errors.Is(err, pulse.ErrHeld) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second server in one directory: %v, want an ErrHeld that names it", err)
	}
	publish(t, first.Publisher(), events(1, 1))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	embed(t, dir, natsbroker.Options{})
}

func TestEmbedFindsItsPortTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts := natsbroker.Options{Listen: l.Addr().String(), Auth: natsbroker.Auth{Token: "secret"}, Log: quiet}
	if _, err := natsbroker.Embed(t.Context(), dir, &opts); !errors.Is(err, pulse.ErrInvalid) || !strings.Contains(err.Error(), "give another address") {
		t.Errorf("error is %v, want an ErrInvalid that says what to do", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	embed(t, dir, opts) // the directory is not locked any more
}

func TestEmbedKeepsEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := natsbroker.Embed(t.Context(), dir, &natsbroker.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	envs := events(1, 50)
	publish(t, first.Publisher(), envs)
	f, err := first.Source().Open(t.Context(), pulse.FeedConfig{Subscription: "mailer"})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Ack(t.Context(), receipts(take(t, f, 30))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	b := embed(t, dir, natsbroker.Options{})
	last, ok, err := b.Publisher().Last(t.Context())
	if err != nil || !ok || last.Position != 50 || last.Commitment != envs[49].Commitment {
		t.Errorf("Last is %+v, %v, %v", last, ok, err)
	}
	msgs := take(t, open(t, b, pulse.FeedConfig{}), 20)
	if got := positions(msgs); !slices.Equal(got, through(31, 50)) {
		t.Errorf("%v came, want 31 to 50", got)
	}
	publish(t, b.Publisher(), events(51, 1))
}

func TestInvalidOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]natsbroker.Options{
		"stream name":           {Stream: "a.b"},
		"prefix":                {Prefix: "pulse.>"},
		"replicas":              {Replicas: -1},
		"age":                   {MaxAge: -time.Second},
		"listen without token":  {Listen: "127.0.0.1:0"},
		"listen without port":   {Listen: "127.0.0.1", Auth: natsbroker.Auth{Token: token}},
		"listen on a bad port":  {Listen: "127.0.0.1:x", Auth: natsbroker.Auth{Token: token}},
		"listen on a huge port": {Listen: "127.0.0.1:70000", Auth: natsbroker.Auth{Token: token}},
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := natsbroker.Embed(t.Context(), t.TempDir(), &o); !errors.Is(err, pulse.ErrInvalid) {
				if err == nil {
					b.Close()
				}
				t.Errorf("error is %v, want an ErrInvalid", err)
			}
		})
	}
	if _, err := natsbroker.Connect(t.Context(), "nats://127.0.0.1:1", &natsbroker.Options{Listen: "127.0.0.1:0"}); !errors.Is(err, pulse.ErrInvalid) {
		t.Errorf("Connect with Listen: %v", err)
	}
	if _, err := natsbroker.Connect(t.Context(), "nats://127.0.0.1:1", &natsbroker.Options{Log: quiet}); !errors.Is(err, pulse.ErrBroker) {
		t.Errorf("Connect to nobody: %v", err)
	}
}

func TestTokenIsNeeded(t *testing.T) {
	t.Parallel()
	server := listening(t, t.TempDir())
	_, err := natsbroker.Connect(t.Context(), server.URL(), &natsbroker.Options{Log: quiet, Auth: natsbroker.Auth{Token: "wrong"}})
	if !errors.Is(err, pulse.ErrBroker) {
		t.Errorf("connecting with the wrong token: %v", err)
	}
}

func TestStreamIsSetRight(t *testing.T) {
	t.Parallel()
	server := listening(t, t.TempDir())
	js, _ := admin(t, server)
	config := func() jetstream.StreamConfig {
		t.Helper()
		s, err := js.Stream(t.Context(), "PULSE")
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().Config
	}
	made := config()
	if made.MaxAge != 72*time.Hour || made.Discard != jetstream.DiscardNew || !made.AllowAtomicPublish || made.MaxBytes < 1<<20 || made.Duplicates > time.Second {
		t.Errorf("made as %+v", made)
	}
	publish(t, server.Publisher(), events(1, 20))
	changed := made
	changed.MaxAge, changed.Discard, changed.AllowAtomicPublish, changed.MaxMsgs, changed.MaxMsgSize = time.Hour, jetstream.DiscardOld, false, 1000, 4096
	if _, err := js.UpdateStream(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	b := connect(t, server.URL(), natsbroker.Options{})
	right := config()
	if right.MaxAge != made.MaxAge || right.Discard != made.Discard || !right.AllowAtomicPublish || right.MaxMsgs != -1 || right.MaxMsgSize != -1 || right.MaxBytes != made.MaxBytes {
		t.Errorf("set right as %+v", right)
	}
	stored(t, b, through(1, 20)...)
}

func TestStreamOfOthersIsRefused(t *testing.T) {
	t.Parallel()
	server := listening(t, t.TempDir())
	js, _ := admin(t, server)
	for name, cfg := range map[string]jetstream.StreamConfig{
		"memory":   {Storage: jetstream.MemoryStorage},
		"queue":    {Retention: jetstream.WorkQueuePolicy},
		"subjects": {Subjects: []string{"orders.>"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Name = name
			if cfg.Subjects == nil {
				cfg.Subjects = []string{name + ".>"}
			}
			if _, err := js.CreateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			_, err := natsbroker.Connect(t.Context(), server.URL(), &natsbroker.Options{Log: quiet, Auth: natsbroker.Auth{Token: token}, Stream: name, Prefix: name})
			if !errors.Is(err, pulse.ErrInvalid) || !strings.Contains(err.Error(), "made for something else") {
				t.Errorf("error is %v, want an ErrInvalid", err)
			}
		})
	}
}
