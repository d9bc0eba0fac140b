package kafkabroker_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/kafkabroker"
)

// maxBytes is the setting of a topic that limits batches of records.
const maxBytes = "max.message.bytes"

// admin is another client of a cluster.
func admin(t *testing.T, c *kfake.Cluster) *kadm.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

// sized is an envelope of exactly so many bytes as Envelope.Size counts, with a payload that no part of it repeats.
func sized(at pulse.Position, size int) pulse.Envelope {
	return brokertest.Envelope(at, func(e *pulse.Envelope) {
		e.Key, e.Data = "lesson-7", nil
		body := make([]byte, size-e.Size()-2)
		for i := range body {
			body[i] = 'a' + byte(i*7%26)
		}
		e.Data = append(append([]byte{'"'}, body...), '"')
	})
}

// refuse publishes envs and fails the test unless the first is Rejected with an error that says why, and the others are not tried.
func refuse(t *testing.T, p pulse.Publisher, envs []pulse.Envelope, why string) {
	t.Helper()
	for i, r := range p.PublishBatch(t.Context(), envs) {
		want := pulse.Withheld
		if i == 0 {
			want = pulse.Rejected
		}
		if r.Outcome != want || r.Err == nil || !strings.Contains(r.Err.Error(), why) {
			t.Errorf("event %d: outcome %d, want %d because %q: %v", i, r.Outcome, want, why, r.Err)
		}
	}
}

// Payloads from the smallest to exactly the limit, alone and together, arrive byte for byte, for Pulse and for another client. One that is a byte
// larger, and one without data, are Rejected and say why; the next ones are published.
func TestSizes(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int{"as Kafka has it": 0, "small": 20_000, "large": 3_000_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			if limit > 0 {
				if _, err := admin(t, c).CreateTopic(t.Context(), 1, 1, map[string]*string{maxBytes: new(strconv.Itoa(limit))}, topicName); err != nil {
					t.Fatal(err)
				}
			}
			b := connect(t, addresses(c), kafkabroker.Options{})
			p, f := publisher(t, b), open(t, b, pulse.FeedConfig{})
			most := p.Capabilities().MaxBytes
			if limit > 0 && most != limit-8<<10 {
				t.Fatalf("events of %d bytes fit, want 8 KiB less than %d", most, limit)
			}
			var envs []pulse.Envelope
			for _, text := range []string{`0`, `""`, `{}`, `null`, `"\u0000"`} {
				envs = append(envs, brokertest.Envelope(pulse.Position(len(envs)+1), func(e *pulse.Envelope) { e.Data = json.RawMessage(text) }))
			}
			for _, size := range []int{1 << 10, most / 2, most - 1, most, most, most} {
				envs = append(envs, sized(pulse.Position(len(envs)+1), size))
			}
			publish(t, p, envs)
			refuse(t, p, []pulse.Envelope{sized(100, most+1), sized(101, 1<<10)}, "it takes")
			refuse(t, p, []pulse.Envelope{brokertest.Envelope(102, func(e *pulse.Envelope) { e.Data = nil })}, "no data")
			last := sized(103, most)
			publish(t, p, []pulse.Envelope{last})
			envs = append(envs, last)
			records := stored(t, c, kgo.ReadCommitted())
			if len(records) != len(envs) {
				t.Fatalf("%d records are in the topic, want %d", len(records), len(envs))
			}
			for i, m := range take(t, f, len(envs)) {
				if m.ID != envs[i].ID || !bytes.Equal(m.Data, envs[i].Data) || !bytes.Equal(records[i].Value, envs[i].Data) {
					t.Errorf("event %d has %d bytes and in the topic %d, want %d", i, len(m.Data), len(records[i].Value), len(envs[i].Data))
				}
			}
		})
	}
}

// A topic that takes more than the client sends at once gets what that sends.
func TestTopicWithoutLimit(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	if _, err := admin(t, c).CreateTopic(t.Context(), 1, 1, map[string]*string{maxBytes: new(strconv.Itoa(math.MaxInt32))}, topicName); err != nil {
		t.Fatal(err)
	}
	b := connect(t, addresses(c), kafkabroker.Options{})
	p := publisher(t, b)
	most := p.Capabilities().MaxBytes
	if most < 60<<20 || most > 100<<20 {
		t.Errorf("events of %d bytes fit", most)
	}
	publish(t, p, []pulse.Envelope{sized(1, most), sized(2, 1<<10)})
	take(t, open(t, b, pulse.FeedConfig{}), 2)
}

// A cluster that takes less than the topic said when the Broker connected refuses what is too large, without saying which it was: that one is found and
// Rejected, and what is behind it is published.
func TestTakesLess(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	b := connect(t, addresses(c), kafkabroker.Options{})
	p, f := publisher(t, b), open(t, b, pulse.FeedConfig{})
	less := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: maxBytes, Value: new("100000")}}
	if _, err := admin(t, c).AlterTopicConfigs(t.Context(), less, topicName); err != nil {
		t.Fatal(err)
	}
	envs := events(1, 40)
	envs[25] = sized(26, 200_000)
	for i, r := range p.PublishBatch(t.Context(), envs) {
		want := pulse.Acked
		switch {
		case i == 25:
			want = pulse.Rejected
		case i > 25:
			want = pulse.Withheld
		}
		if r.Outcome != want {
			t.Fatalf("event %d: outcome %d, want %d: %v", i, r.Outcome, want, r.Err)
		}
	}
	rest := envs[26:]
	publish(t, p, rest)
	for i, m := range take(t, f, len(envs)-1) {
		want := append(envs[:25:25], rest...)[i]
		if m.ID != want.ID {
			t.Errorf("event %d is at position %d, want %d", i, m.Position, want.Position)
		}
	}
}

// What cannot be done in one transaction, as with a backlog over a slow line, is done in smaller ones: the publisher does not begin the same for ever.
func TestTooMuchAtOnce(t *testing.T) {
	t.Parallel()
	const most = 400_000 // bytes of a transaction that the cluster does in time
	c := cluster(t)
	size := 0 // of the transaction; of the cluster's goroutine
	slow := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.PolicyViolation, Count: -1, When: func(r kmsg.Request) bool {
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				size += len(p.Records)
			}
		}
		return size > most
	}})
	defer c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID, kmsg.EndTxn}, Observe: true, Count: -1, When: func(kmsg.Request) bool {
		size = 0
		return true
	}}).Remove()
	b := connect(t, addresses(c), kafkabroker.Options{})
	p, f := publisher(t, b), open(t, b, pulse.FeedConfig{})
	var envs []pulse.Envelope
	for i := range 1000 {
		envs = append(envs, sized(pulse.Position(i+1), 2000))
	}
	publishUntil(t, p, envs)
	if slow.Hits() == 0 {
		t.Error("nothing was too much")
	}
	slow.Remove()
	for i, m := range take(t, f, len(envs)) {
		if m.ID != envs[i].ID {
			t.Fatalf("event %d is at position %d", i, m.Position)
		}
	}
	nothing(t, f, 200*time.Millisecond)
}
