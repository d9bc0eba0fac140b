package app

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
)

func TestParseKafka(t *testing.T) {
	for v, want := range map[string]string{
		"kafka://a:1":                    "kafka://a:1/pulse",
		"kafka://a":                      "kafka://a:9092/pulse",
		"kafka://a:1,b:2,[::1]:3/school": "kafka://a:1,b:2,[::1]:3/school",
		"kafka://me:se%2Fcret@a:1/s?mechanism=plain&tls=1": "kafka://a:1/s",
	} {
		spec, err := ParseBroker(v)
		if err != nil || spec.Kind != BrokerKafka || spec.String() != want || spec.Destination() != "kafka" {
			t.Errorf("%s: %+v is %s, %v", v, spec, spec.String(), err)
		}
	}
	_, o, err := parseKafka("kafka://me:se%2Fcret@a:1/s?mechanism=plain&tls=1&partitions=3&replicas=2&max-age=24h")
	if err != nil || o.Auth.User != "me" || o.Auth.Password != "se/cret" || o.Auth.Mechanism != "PLAIN" || o.TLS == nil || o.Partitions != 3 || o.Replicas != 2 || o.MaxAge.Hours() != 24 {
		t.Errorf("%+v, %v", o, err)
	}
	for v, want := range map[string]string{
		"kafka://":                      "HOST:PORT",
		"kafka://a:1,:2":                "HOST:PORT",
		"kafka://a:99999":               "HOST:PORT",
		"kafka://a/b/c":                 "topic",
		"kafka://u:secret@a/?x=1":       "not known",
		"kafka://u:sec%ret@a/":          "percent-encode",
		"kafka://a?partitions=0":        "number from 1",
		"kafka://a?mechanism=GSSAPI":    "SCRAM-SHA-512",
		"kafka://a?tls=perhaps":         "tls of the broker",
		"kafka://a?ca=/nonexistent.pem": "ca of the broker",
		"kafka://a?max-age=1s":          "max-age",
	} {
		if _, err := ParseBroker(v); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want one with %q", v, err, want)
		}
	}
}

// kafkaConfig is a configuration for a cluster.
func kafkaConfig(t *testing.T, url string) *Config {
	t.Helper()
	spec, err := ParseBroker(url)
	if err != nil {
		t.Fatal(err)
	}
	return &Config{Store: StoreSpec{KindSQLite, filepath.Join(t.TempDir(), "school.db")}, Source: "/", Broker: spec}
}

// What is wrong with a cluster is said in one sentence, by doctor and by who wants to publish, without the password.
func TestKafkaTroubleIsTold(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("SCRAM-SHA-512", "school", "chalk"), kfake.User("PLAIN", "guest", "chalk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	address := c.ListenAddrs()[0]
	for url, want := range map[string]string{
		"kafka://school:wrong@" + address:                     "the user school at once: check user, password and mechanism",
		"kafka://guest:chalk@" + address + "?mechanism=plain": "the user guest lacks a right",
		"kafka://school:chalk@nowhere.invalid:9092":           "nowhere.invalid",
		"kafka://school:chalk@127.0.0.1:1":                    "connection refused",
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			cfg := kafkaConfig(t, url)
			_, err := OpenDestination(t.Context(), cfg, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "wrong@") || permanent(err) {
				t.Errorf("error is %v, want one with %q that may pass", err, want)
			}
		})
	}
	d, err := OpenDestination(t.Context(), kafkaConfig(t, "kafka://school:chalk@"+address), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	defer h.Remove()
	a, err := Open(t.Context(), *kafkaConfig(t, "kafka://school:chalk@"+address), OpenOptions{Create: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Bus.Publish(d.Name, d.Publisher); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "lesson.published", Data: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- a.Bus.Run(ctx) }()
	relay := func() pulse.SubscriptionState {
		states, err := a.Bus.Subscriptions(t.Context())
		if err != nil || len(states) != 1 {
			t.Fatalf("%+v, %v", states, err)
		}
		return states[0]
	}
	await := func(what string, ok func(pulse.SubscriptionState) bool) {
		for end := time.Now().Add(time.Minute); !ok(relay()); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s did not happen: %+v", what, relay())
			}
		}
	}
	await("a pause that says why", func(s pulse.SubscriptionState) bool {
		return strings.Contains(s.PauseReason, "too few replicas in sync") && s.Cursor.Position == 0 && s.Dead == 0
	})
	h.Remove()
	await("publishing", func(s pulse.SubscriptionState) bool { return s.Cursor.Position == 1 })
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// Doctor compares the topic with the log, and changes nothing.
func TestDoctorLooksAtKafka(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cfg := kafkaConfig(t, "kafka://"+c.ListenAddrs()[0]+"/school")
	a, err := Open(t.Context(), *cfg, OpenOptions{Create: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	look := func(want string, verdict Verdict) {
		t.Helper()
		var all []Finding
		err := Doctor(t.Context(), *cfg, OpenOptions{Logger: slog.New(slog.DiscardHandler)}, func(f Finding) error { all = append(all, f); return nil })
		if err != nil || !slices.ContainsFunc(all, func(f Finding) bool {
			return f.Check == "broker" && f.Verdict == verdict && strings.Contains(f.Detail, want)
		}) {
			t.Errorf("nothing is found with %q: %+v, %v", want, all, err)
		}
	}
	look("there is no topic school yet", OK)
	if c.TopicInfo("school") != nil {
		t.Error("doctor made the topic")
	}
	d, err := OpenDestination(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	look("nothing was published to the topic school yet", OK)
	if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "lesson.published", Data: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Bus.Publish(d.Name, d.Publisher), a.Bus.Drain(t.Context())); err != nil {
		t.Fatal(err)
	}
	look("the topic school ends with position 1", OK)
	d.Publisher.PublishBatch(t.Context(), []pulse.Envelope{brokertest.Envelope(7)})
	look("delete the topic school", Fail)
}
