package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/internal/bench"
	"github.com/edupulse-live/pulse/kafkabroker"
)

// TestRun measures a little with each broker: all numbers are in the table.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--events", "1000", "--rounds", "1"}, &out); err != nil {
		t.Fatal(err)
	}
	const whole, ratio = `[1-9]\d*/s`, `\d\.\d\d`
	for broker, parts := range map[string]map[string]string{
		"NATS JetStream, embedded": {"the client alone": whole},
		`RabbitMQ \d+\.\d+\.\d+`:   {"the client alone": whole},
		"Kafka, which is kfake":    {"the client alone, idempotent": whole, "the client alone, transactions of 4,000": whole},
	} {
		parts[`the relay, \d+ waiting events`] = whole
		parts["reading and encoding alone"] = whole
		parts["the relay, of the slower of its parts"] = ratio
		for part, value := range parts {
			if !regexp.MustCompile(`(?m)^` + broker + `.*  ` + part + ` +` + value + `$`).MatchString(out.String()) {
				t.Errorf("there is no %s of %s", part, broker)
			}
		}
	}
	if t.Failed() || strings.Count(out.String(), "\n") != 13 {
		t.Errorf("the table:\n%s", out.String())
	}
}

// TestMissing goes on without a broker that is not installed, and not without one that fails.
func TestMissing(t *testing.T) {
	failing := func(err error) func(context.Context, string, *bench.Options) (*subject, error) {
		return func(context.Context, string, *bench.Options) (*subject, error) { return nil, err }
	}
	var out bytes.Buffer
	s := settings{only: []string{"pigeon", "nats"}, events: 100, rounds: 1}
	err := s.measure(t.Context(), []entry{{"pigeon", failing(missing("The pigeon"))}, {"nats", openNATS}}, &out)
	if err != nil || !strings.HasSuffix(out.String(), "The pigeon is not installed: nothing was measured with it\n") || !strings.Contains(out.String(), "NATS") {
		t.Errorf("%v, and the table:\n%s", err, out.String())
	}
	err = s.measure(t.Context(), []entry{{"pigeon", failing(pulse.ErrBroker)}}, &out)
	if err == nil || !strings.Contains(err.Error(), "pigeon") {
		t.Errorf("a broker failed: %v", err)
	}
}

func TestFlags(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown broker": {"--only", "kafka,pigeon"},
		"no events":      {"--events", "0"},
		"no rounds":      {"--rounds", "-1"},
		"unknown flag":   {"--fast"},
	} {
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestProducer reads what the client says to have published: whole transactions, a part of one, and less than one.
func TestProducer(t *testing.T) {
	for _, transactional := range []bool{false, true} {
		for _, n := range []int{2*inTransaction + 500, 3} {
			t.Run(fmt.Sprintf("%d, transactional %t", n, transactional), func(t *testing.T) {
				cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, kafkabroker.DefaultTopic))
				if err != nil {
					t.Fatal(err)
				}
				defer cluster.Close()
				p, err := newProducer(t.Context(), cluster.ListenAddrs()[0], transactional)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				var envs []pulse.Envelope
				for i := range 7 {
					envs = append(envs, brokertest.Envelope(pulse.Position(i+1), func(*pulse.Envelope) {}))
				}
				records, err := recordsOf(envs, n)
				if err != nil {
					t.Fatal(err)
				}
				publish, first := p.publish, 1 // behind the record that warms up
				if transactional {
					publish, first = p.transact, 0 // which is not there
				}
				if err := publish(t.Context(), records); err != nil {
					t.Fatal(err)
				}
				for i, r := range committed(t, cluster, first+n)[first:] {
					want := &envs[i%len(envs)]
					if string(r.Key) != want.Key || !bytes.Equal(r.Value, want.Data) || len(r.Headers) < 5 {
						t.Fatalf("record %d is %s with %v and %s", i, r.Key, r.Headers, r.Value)
					}
				}
			})
		}
	}
}

// committed reads n records that are committed, and makes sure that there are no more.
func committed(t *testing.T, cluster *kfake.Cluster, n int) (records []*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics(kafkabroker.DefaultTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	end := &kgo.Record{Topic: kafkabroker.DefaultTopic, Value: []byte("the end")}
	if err := client.ProduceSync(t.Context(), end).FirstErr(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%v after %d records", err, len(records))
		}
		for _, r := range fetches.Records() {
			if string(r.Value) != string(end.Value) {
				records = append(records, r)
				continue
			}
			if len(records) != n {
				t.Fatalf("%d records are committed, not %d", len(records), n)
			}
			return records
		}
	}
}
