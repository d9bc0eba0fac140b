package app

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/health"
)

// TestServeLacksARight to publish one name: everybody who asks is told which, whenever they ask, and what to grant. Nothing is lost.
func TestServeLacksARight(t *testing.T) {
	school := func(denied string) []*natsserver.User {
		deny := &natsserver.SubjectPermission{Deny: []string{denied}}
		return []*natsserver.User{{Username: "school", Password: "secret", Permissions: &natsserver.Permissions{Publish: deny}}}
	}
	options := &natsserver.Options{Users: school("pulse.0.lesson.published")}
	srv := natsServer(t, options)
	cfg := Config{Broker: BrokerSpec{Kind: BrokerNATS, URL: srv.ClientURL()}}
	cfg.Broker.NATS.User, cfg.Broker.NATS.Password = "school", "secret"
	s := serve(t, cfg, ServeOptions{})
	s.emit(t, 12)
	const refused = `the user school lacks a right to publish: nats: permissions violation: Permissions Violation for Publish to "pulse.0.lesson.published"`
	const grant = `grant it in the server's configuration, best for "pulse.0.>"`
	s.awaitState(t, 503, health.Broken, refused)
	s.awaitState(t, 503, health.Broken, grant)

	s.cfg.Source = "/"
	for range 20 {
		var said string
		err := Doctor(t.Context(), s.cfg, OpenOptions{Logger: slog.New(slog.DiscardHandler)}, func(f Finding) error {
			if f.Check == "destination nats" {
				said += string(f.Verdict) + " " + f.Detail + "\n"
			}
			return nil
		})
		if err != nil || !strings.HasPrefix(said, "warn paused until ") || !strings.Contains(said, refused) || !strings.Contains(said, grant) {
			t.Fatalf("the doctor says %q, %v", said, err)
		}
		time.Sleep(17 * time.Millisecond) // at another moment between two tries
	}

	granted := *options
	granted.Users = school("nothing.of.ours")
	if err := srv.ReloadOptions(&granted); err != nil {
		t.Fatal(err)
	}
	s.await(t, "publishing", func() bool {
		code, d := s.ready(t)
		return code == 200 && d.Lag == 0 && d.Cursor == pulse.Position(12) && d.Parked == 0
	})
}
