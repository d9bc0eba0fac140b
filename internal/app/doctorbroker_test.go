package app

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// published is a store whose five events were published, and its broker.
type published struct {
	cfg    Config
	broker *natsbroker.Broker
}

func newPublished(t *testing.T) *published {
	t.Helper()
	p := &published{cfg: Config{Store: StoreSpec{KindSQLite, filepath.Join(t.TempDir(), "school.db")}, Source: "/"}}
	o := &natsbroker.Options{Log: slog.New(slog.DiscardHandler), Listen: "127.0.0.1:0", Auth: natsbroker.Auth{Token: "chalk"}}
	var err error
	if p.broker, err = natsbroker.Embed(t.Context(), p.cfg.EmbeddedDir(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.broker.Close() })
	p.emit(t, 5, true)
	return p
}

// emit emits events, and publishes them.
func (p *published) emit(t *testing.T, n int, publish bool) {
	t.Helper()
	a, err := Open(t.Context(), p.cfg, OpenOptions{Create: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		_, emitErr := a.Bus.Emit(t.Context(), pulse.Raw{Name: "lesson.published", Data: []byte(`{}`)})
		err = errors.Join(err, emitErr)
	}
	if publish {
		err = errors.Join(err, a.Bus.Publish("nats", p.broker.Publisher()), a.Bus.Drain(t.Context()))
	}
	if err = errors.Join(err, a.Close()); err != nil {
		t.Fatal(err)
	}
}

// replace puts another log with n events in place of the one there.
func (p *published) replace(t *testing.T, n int) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(p.cfg.Store.Path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	p.emit(t, n, false)
}

// deleteStream loses all that was published.
func (p *published) deleteStream(t *testing.T) {
	t.Helper()
	nc, err := nats.Connect(p.broker.URL(), nats.Token("chalk"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err == nil {
		err = js.DeleteStream(t.Context(), "PULSE")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// examined is what the doctor says of the broker.
func examined(t *testing.T, cfg Config) string {
	t.Helper()
	var got []string
	err := Doctor(t.Context(), cfg, OpenOptions{Logger: slog.New(slog.DiscardHandler)}, func(f Finding) error {
		if f.Check == "broker" {
			got = append(got, string(f.Verdict)+": "+f.Detail)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(got, "\n")
}

// The last message at the broker is compared with the log, however it is reached.
func TestDoctorComparesTheBroker(t *testing.T) {
	for name, tc := range map[string]struct {
		happens func(t *testing.T, p *published)
		want    string
	}{
		"nothing":              {func(*testing.T, *published) {}, "ok: the stream PULSE ends with position 5 of the log, which ends at 5"},
		"more was emitted":     {func(t *testing.T, p *published) { p.emit(t, 2, false) }, "ok: the stream PULSE ends with position 5 of the log, which ends at 7"},
		"an older log":         {func(t *testing.T, p *published) { p.replace(t, 3) }, "fail: the stream PULSE has the event at position 5, but the log ends at 3: the log was restored"},
		"another log":          {func(t *testing.T, p *published) { p.replace(t, 8) }, "fail: the stream PULSE has another event at position 5 than the log: the log was restored"},
		"the stream was lost":  {func(t *testing.T, p *published) { p.deleteStream(t) }, "warn: the stream PULSE is gone, to which the log was published up to position 5: pulse serve makes it anew"},
		"both are new":         {func(t *testing.T, p *published) { p.deleteStream(t); p.replace(t, 1) }, "ok: there is no stream PULSE yet"},
		"the stream was wiped": {func(t *testing.T, p *published) { p.wipe(t) }, "ok: nothing was published to the stream PULSE yet"},
		"other settings": {
			func(_ *testing.T, p *published) { p.cfg.Broker.NATS.MaxAge = time.Hour },
			"\nwarn: the stream PULSE is configured otherwise than here: the age of messages is 72h0m0s, not 1h0m0s: pulse serve sets that right",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPublished(t)
			tc.happens(t, p)
			ask := func(way string, spec BrokerSpec) {
				t.Helper()
				cfg := p.cfg
				spec.NATS.MaxAge = cfg.Broker.NATS.MaxAge
				cfg.Broker = spec
				got := examined(t, cfg)
				if !strings.Contains(got, tc.want) {
					t.Errorf("%s: the doctor says\n%s\nwant\n%s", way, got, tc.want)
				}
				if strings.Contains(got, "fail") && !strings.Contains(got, map[bool]string{true: "remove the directory " + cfg.EmbeddedDir(), false: "nats stream rm PULSE"}[spec.Kind == BrokerEmbedded]) {
					t.Errorf("%s: it does not say what to do: %s", way, got)
				}
			}
			ask("by its port", BrokerSpec{Kind: BrokerNATS, URL: p.broker.URL(), NATS: NATSSpec{Auth: natsbroker.Auth{Token: "chalk"}}})
			ask("in its directory while it runs", BrokerSpec{Kind: BrokerEmbedded})
			if err := p.broker.Close(); err != nil {
				t.Fatal(err)
			}
			ask("in its directory", BrokerSpec{Kind: BrokerEmbedded})
		})
	}
}

// wipe empties the stream, and its sequence numbers with it.
func (p *published) wipe(t *testing.T) {
	t.Helper()
	p.deleteStream(t)
	if _, _, err := p.broker.Publisher().Last(t.Context()); err != nil { // makes it anew
		t.Fatal(err)
	}
}

// Where there is no broker nothing is said; one that cannot be reached is an error that says what to look at.
func TestDoctorWithoutABroker(t *testing.T) {
	cfg := Config{Store: StoreSpec{KindSQLite, filepath.Join(t.TempDir(), "school.db")}, Source: "/"}
	(&published{cfg: cfg}).emit(t, 1, false)
	for spec, want := range map[string]string{
		BrokerEmbedded: "", BrokerLog: "", BrokerNone: "", "nats://127.0.0.1:1": "fail: natsbroker: connect: broker failed: nobody listens there",
	} {
		var err error
		if cfg.Broker, err = ParseBroker(spec); err != nil {
			t.Fatal(err)
		}
		if got := examined(t, cfg); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: the doctor says %q, want %q", spec, got, want)
		}
	}
	if _, err := os.Stat(cfg.EmbeddedDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the doctor made the directory of the embedded broker: %v", err)
	}
}
