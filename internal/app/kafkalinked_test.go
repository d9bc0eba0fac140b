//go:build kafka

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
	"github.com/edupulse-live/pulse/kafkabroker"
)

func TestParseKafka(t *testing.T) {
	for in, shown := range map[string]string{
		"kafka://a:1":                 "kafka://a:1",
		"kafka://a":                   "kafka://a:9092",
		"kafka://a:1,b:2,[::1]:3":     "kafka://a:1,kafka://b:2,kafka://[::1]:3",
		"kafka://a:1,kafka://b":       "kafka://a:1,kafka://b:9092",
		"kafka://me:se%2Fcret@a:1,b:": "kafka://a:1,kafka://b:9092",
	} {
		s, err := ParseBroker(in)
		if err != nil || s.Kind != BrokerKafka || s.Destination() != "kafka" || s.String() != shown {
			t.Errorf("%s: %+v, %q, %q, %v", in, s, s.Destination(), &s, err)
		}
	}
	for in, want := range map[string]string{
		"kafka://":                   "has no host",
		"kafka://a:1,:2":             "has no host",
		"kafka://u:secret@a:9999999": "port 9999999",
		"kafka://u:sec ret@a":        "cannot be read",
		"kafka://u:secret@a/b":       "--kafka-topic",
		"kafka://u:secret@a?x=1":     "goes on behind HOST:PORT",
		"kafka://a,nats://b":         "goes on behind HOST:PORT",
	} {
		if _, err := ParseBroker(in); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sec") {
			t.Errorf("%q: %v, want %q and no password", in, err, want)
		}
	}
}

func TestKafkaSettings(t *testing.T) {
	cert, key := certificate(t)
	inDir(t, map[string]string{"ca.pem": cert, "cert.pem": cert, "key.pem": key})
	serve := func(vars, flags map[string]string) (Config, error) {
		return LoadConfig(Inputs{Flags: flags, Getenv: getenv(vars), Serve: true})
	}
	cfg, err := serve(map[string]string{"PULSE_KAFKA_USER": "school", "PULSE_KAFKA_PASSWORD": "secret"}, map[string]string{
		"broker": "kafka://a:1,b:2", "kafka-mechanism": "plain", "kafka-ca": "ca.pem", "kafka-cert": "cert.pem", "kafka-key": "key.pem",
		"kafka-topic": "lessons", "kafka-partitions": "3", "kafka-replicas": "2", "kafka-max-age": "24h",
	})
	servers, o := cfg.Broker.Kafka.options(cfg.Broker.URL, nil)
	if err != nil || servers != "a:1,b:2" || o.Auth != (kafkabroker.Auth{User: "school", Password: "secret", Mechanism: "PLAIN"}) || o.TLS == nil || o.TLS.RootCAs == nil || len(o.TLS.Certificates) != 1 ||
		o.Topic != "lessons" || o.Partitions != 3 || o.Replicas != 2 || o.MaxAge != 24*time.Hour {
		t.Errorf("%s, %+v, %v", servers, o, err)
	}
	cfg, err = serve(nil, map[string]string{"broker": "kafka://me:se%2Fcret@a", "kafka-tls": "true"})
	if _, o := cfg.Broker.Kafka.options(cfg.Broker.URL, nil); err != nil || o.TLS == nil || o.Auth.User != "me" || o.Auth.Password != "se/cret" || o.Topic != "pulse" {
		t.Errorf("%+v, %v", o, err)
	}
	for want, flags := range map[string]map[string]string{
		"is for Kafka: the broker is embedded": {"kafka-user": "school"},
		"is another way to log in":             {"broker": "kafka://u:p@host", "kafka-user": "school"},
		"has no kafka-user":                    {"broker": "kafka://host", "kafka-password": "secret"},
		"has no kafka-key":                     {"broker": "kafka://host", "kafka-cert": "cert.pem"},
		"there is no certificate":              {"broker": "kafka://host", "kafka-ca": "key.pem"},
		"is no name of a topic":                {"broker": "kafka://host", "kafka-topic": "a b"},
		"is no way to log in":                  {"broker": "kafka://host", "kafka-mechanism": "GSSAPI"},
		"is neither true nor false":            {"broker": "kafka://host", "kafka-tls": "perhaps"},
		"is no number from 1 on":               {"broker": "kafka://host", "kafka-partitions": "0"},
		"is for RabbitMQ":                      {"broker": "kafka://host", "rabbitmq-user": "school"},
	} {
		if _, err := serve(nil, flags); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v, want %q", flags, err, want)
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
		"kafka://school:wrong@" + address:           "the user school at once: check user, password and mechanism",
		"kafka://guest:chalk@" + address + " PLAIN": "the user guest lacks a right",
		"kafka://school:chalk@nowhere.invalid:9092": "nowhere.invalid",
		"kafka://school:chalk@127.0.0.1:1":          "connection refused",
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			url, mechanism, _ := strings.Cut(url, " ")
			cfg := kafkaConfig(t, url)
			cfg.Broker.Kafka.Mechanism = mechanism
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
	cfg := kafkaConfig(t, "kafka://"+c.ListenAddrs()[0])
	cfg.Broker.Kafka.Topic = "school"
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
