package cli

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// fed registers a subscription that reads from the broker, which knows it then.
func (s *school) fed(t *testing.T, b *natsbroker.Broker, name string) {
	t.Helper()
	bus, err := pulse.New(s.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	handle := pulse.OnDelivery("lesson.>", func(context.Context, *pulse.Delivery) error { return nil })
	if err := bus.Publish("nats", b.Publisher()); err != nil {
		t.Fatal(err)
	}
	if err := bus.Subscribe(name, pulse.From("nats", b.Source()), pulse.Start(pulse.Beginning), handle); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := bus.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// A dropped subscription is dropped at the broker too, which is left alone otherwise; when it is not reached that is said, and how it ends.
func TestDropForgetsAtTheBroker(t *testing.T) {
	o := natsbroker.Options{Log: slog.New(slog.DiscardHandler), Listen: "127.0.0.1:0", Auth: natsbroker.Auth{Token: "secret"}}
	b, err := natsbroker.Embed(t.Context(), t.TempDir(), &o)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := newSchool(t)
	s.emit(t, 3)
	s.fed(t, b, "mailer.late")
	const kept = "warning: the broker keeps the place of mailer: "
	for name, tc := range map[string]struct {
		args []string
		want string // on stderr, "" when it is removed
	}{
		"by a server":          {[]string{"--broker", b.URL(), "--nats-token", "secret", "--nats-max-age", "1h"}, ""},
		"by the port of serve": {[]string{"--nats-listen", strings.TrimPrefix(b.URL(), "nats://"), "--nats-token", "secret"}, ""},
		"by nothing":           {nil, kept + "only the process that runs the embedded broker reaches it"},
		"by nobody":            {[]string{"--broker", "nats://127.0.0.1:1"}, kept + "natsbroker: connect: broker failed: nobody listens there"},
		"by another kind":      {[]string{"--broker", "log"}, kept + "it was fed by the destination nats, and the broker of this command is log"},
	} {
		t.Run(name, func(t *testing.T) {
			s.fed(t, b, "mailer")
			code, stdout, stderr := s.pulse(t, append([]string{"subscription", "drop", "mailer", "--yes"}, tc.args...)...)
			if code != 0 || stdout != "mailer dropped\n" || !strings.Contains(stderr, tc.want) || tc.want == "" && stderr != "" {
				t.Errorf("exit code %d, %s, %s, want %q", code, stdout, stderr, tc.want)
			}
			if tc.want != "" && !strings.Contains(stderr, "It forgets it by itself") {
				t.Errorf("it does not say how that ends: %s", stderr)
			}
			o := natsbroker.Options{Log: o.Log, Auth: o.Auth}
			state, err := natsbroker.Inspect(t.Context(), b.URL(), &o)
			if err != nil || slices.Contains(state.Subscriptions, "mailer") != (tc.want != "") || !slices.Contains(state.Subscriptions, "mailer.late") {
				t.Errorf("the broker knows %q, %v", state.Subscriptions, err)
			}
			if state.Differences != nil {
				t.Errorf("the stream was changed: %q", state.Differences)
			}
		})
	}
}

// One that reads from the log has nothing at a broker.
func TestDropOfOneFedByTheLog(t *testing.T) {
	s := newSchool(t)
	handle := pulse.OnDelivery("lesson.>", func(context.Context, *pulse.Delivery) error { return nil })
	if err := s.bus.Subscribe("mailer", handle); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := s.pulse(t, "subscription", "drop", "mailer", "--yes"); code != 0 || stdout != "mailer dropped\n" || stderr != "" {
		t.Errorf("exit code %d, %s, %s", code, stdout, stderr)
	}
}
