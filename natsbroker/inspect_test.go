package natsbroker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// look is one way to look at what the embedded server of a test has.
type look func(t *testing.T, o natsbroker.Options) (natsbroker.State, error)

// looks are all ways: through its port, and in its directory while it runs.
func looks(server *natsbroker.Broker, dir string) map[string]look {
	return map[string]look{
		"server": func(t *testing.T, o natsbroker.Options) (natsbroker.State, error) {
			o.Log, o.Auth.Token = quiet, token
			return natsbroker.Inspect(t.Context(), server.URL(), &o)
		},
		"directory": func(t *testing.T, o natsbroker.Options) (natsbroker.State, error) {
			o.Log = quiet
			return natsbroker.InspectDir(t.Context(), dir, &o)
		},
	}
}

// What is there is told, and stays as it is.
func TestInspect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := listening(t, dir)
	envs := events(1, 30)
	p := server.Publisher()
	publish(t, p, envs)
	publish(t, p, envs[4:5]) // late: the highest position is before it
	for _, subscription := range []string{"mailer", "search.index"} {
		f := open(t, server, pulse.FeedConfig{Subscription: subscription})
		expect(t, f, 1, 2)
	}
	js, _ := admin(t, server)
	for name, look := range looks(server, dir) {
		t.Run(name, func(t *testing.T) {
			before := config(t, js)
			got, err := look(t, natsbroker.Options{MaxAge: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			if !got.Exists || !got.Known || got.Last.Position != 30 || got.Last.Commitment != envs[29].Commitment {
				t.Errorf("state is %+v", got)
			}
			if want := []string{"mailer", "search.index"}; !slices.Equal(got.Subscriptions, want) {
				t.Errorf("subscriptions are %q, want %q", got.Subscriptions, want)
			}
			if want := []string{"the age of messages is 72h0m0s, not 1h0m0s"}; !slices.Equal(got.Differences, want) {
				t.Errorf("differences are %q, want %q", got.Differences, want)
			}
			if after := config(t, js); after.MaxAge != before.MaxAge {
				t.Errorf("the age of messages was changed to %v", after.MaxAge)
			}
		})
	}
	purge(t, server, 0)
	for name, look := range looks(server, dir) {
		if got, err := look(t, natsbroker.Options{}); err != nil || !got.Exists || got.Known || got.Last != (pulse.Cursor{}) || got.Differences != nil {
			t.Errorf("%s, without messages: %+v, %v", name, got, err)
		}
	}
}

func config(t *testing.T, js jetstream.JetStream) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config
}

// What is not there is not made.
func TestInspectNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := listening(t, dir)
	for name, look := range looks(server, dir) {
		if got, err := look(t, natsbroker.Options{Stream: "other", Prefix: "other"}); err != nil || got.Exists || !got.Known || got.Last != (pulse.Cursor{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	js, _ := admin(t, server)
	if _, err := js.Stream(t.Context(), "other"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the stream that was looked for is there: %v", err)
	}
	missing := filepath.Join(dir, "missing")
	if got, err := natsbroker.InspectDir(t.Context(), missing, nil); err != nil || got.Exists {
		t.Errorf("a directory that is not there: %+v, %v", got, err)
	}
	if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory that was looked for: %v", err)
	}
}

// A long stream in the directory of a server that was closed, or killed, is looked at by its end alone, and no file is touched.
func TestInspectDirOfALongStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := natsbroker.Embed(t.Context(), dir, &natsbroker.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	large := events(1, 60)
	for i := range large {
		large[i].Data = []byte(`"` + strings.Repeat("x", 500<<10) + `"`)
	}
	for i := 0; i < len(large); i += 10 {
		publish(t, b.Publisher(), large[i:i+10])
	}
	check := func(when string) {
		t.Helper()
		before := files(t, dir)
		got, err := natsbroker.InspectDir(t.Context(), dir, &natsbroker.Options{Log: quiet})
		if err != nil || got.Last.Position != 60 || got.Last.Commitment != large[59].Commitment {
			t.Errorf("%s: %+v, %v", when, got, err)
		}
		if after := files(t, dir); when != "running" && !slices.Equal(before, after) {
			t.Errorf("%s: files were\n%s\nand are\n%s", when, strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	}
	check("running")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed")
}

// files are those of a directory, with their sizes and times.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all = append(all, path+" "+info.ModTime().String()+" "+info.Mode().String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestInspectRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := listening(t, dir)
	js, _ := admin(t, server)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "orders", Subjects: []string{"orders.>"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	for name, look := range looks(server, dir) {
		if _, err := look(t, natsbroker.Options{Stream: "orders", Prefix: "orders"}); !errors.Is(err, pulse.ErrInvalid) || !strings.Contains(err.Error(), "made for something else") {
			t.Errorf("%s: a stream of others: %v", name, err)
		}
		if _, err := look(t, natsbroker.Options{Stream: "a.b"}); !errors.Is(err, pulse.ErrInvalid) {
			t.Errorf("%s: a bad name: %v", name, err)
		}
	}
	if _, err := natsbroker.Inspect(t.Context(), "nats://127.0.0.1:1", &natsbroker.Options{Log: quiet}); !errors.Is(err, pulse.ErrBroker) {
		t.Errorf("nobody there: %v", err)
	}
}

// A subscription that was dropped leaves nothing, others stay.
func TestForget(t *testing.T) {
	t.Parallel()
	server := listening(t, t.TempDir())
	publish(t, server.Publisher(), events(1, 10))
	o := &natsbroker.Options{Log: quiet, Auth: natsbroker.Auth{Token: token}}
	left := func() []string {
		t.Helper()
		state, err := natsbroker.Inspect(t.Context(), server.URL(), o)
		if err != nil {
			t.Fatal(err)
		}
		return state.Subscriptions
	}
	for name, forget := range map[string]func(subscription string) error{
		"from outside": func(s string) error { return natsbroker.Forget(t.Context(), server.URL(), s, o) },
		"source":       func(s string) error { return server.Source().Forget(t.Context(), s) },
	} {
		var feeds []pulse.Feed
		for _, subscription := range []string{"mailer", "mailer.late", "search"} {
			f := open(t, server, pulse.FeedConfig{Subscription: subscription})
			expect(t, f, 1, 2, 3)
			feeds = append(feeds, f)
		}
		if err := errors.Join(forget("mailer"), forget("mailer"), forget("nobody")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want := []string{"mailer.late", "search"}; !slices.Equal(left(), want) {
			t.Errorf("%s: left are %q, want %q", name, left(), want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var err error
		for err == nil { // what had arrived before comes still
			_, err = feeds[0].Fetch(ctx, 10)
		}
		if ctx.Err() != nil {
			t.Errorf("%s: the feed of what was dropped did not end", name)
		}
		for i, f := range feeds {
			f.Close()
			if i > 0 {
				if err := forget([]string{"mailer", "mailer.late", "search"}[i]); err != nil {
					t.Error(err)
				}
			}
		}
		f := open(t, server, pulse.FeedConfig{Subscription: "mailer"})
		expect(t, f, 1, 2) // anew
		f.Close()
		if err := forget("mailer"); err != nil {
			t.Error(err)
		}
	}
	if err := natsbroker.Forget(t.Context(), server.URL(), "mailer", &natsbroker.Options{Log: quiet, Auth: o.Auth, Stream: "none"}); err != nil {
		t.Errorf("no stream: %v", err)
	}
	if err := server.Source().Forget(t.Context(), "no name"); !errors.Is(err, pulse.ErrInvalid) {
		t.Errorf("no name: %v", err)
	}
}

// Who was away for longer than messages are kept is not remembered for ever.
func TestInactiveSubscriptionsAreForgotten(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]time.Duration{0: 72 * time.Hour, time.Minute: time.Hour, 500 * time.Hour: 500 * time.Hour} {
		b := embed(t, t.TempDir(), natsbroker.Options{MaxAge: age})
		open(t, b, pulse.FeedConfig{})
		js, _ := admin(t, b)
		c, err := js.Consumer(t.Context(), "PULSE", "mailer@1")
		if err != nil {
			t.Fatal(err)
		}
		if got := c.CachedInfo().Config.InactiveThreshold; got != want {
			t.Errorf("with messages kept for %v it is remembered for %v, want %v", age, got, want)
		}
	}
}
