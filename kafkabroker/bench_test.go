package kafkabroker_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/kafkabroker"
	"github.com/edupulse-live/pulse/memstore"
)

// BenchmarkRelay publishes a log to a cluster in this process, by turns with its parts alone: what the client does with the same records
// ready to be sent, pipelined without transactions, and what reading and encoding the events takes. The relay should be at least 0.7 times as fast
// as the slower of them.
func BenchmarkRelay(b *testing.B) {
	const n = 300_000
	store := memstore.New(nil)
	bus, err := pulse.New(store, &pulse.Options{Source: "/bench", Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	evs := make([]pulse.Event, 1000)
	for i := range evs {
		evs[i] = change{string(rune('a' + i%26)), i}
	}
	for range n / len(evs) {
		if _, err := bus.EmitAll(b.Context(), evs); err != nil {
			b.Fatal(err)
		}
	}
	var relays, clients, reads time.Duration
	for b.Loop() {
		relays += relayAll(b, store)
		reads += timed(func() { encodeAll(b, store, n) })
		clients += timed(func() { clientAll(b, store, n) })
	}
	slower := max(clients, reads)
	b.ReportMetric(float64(b.N)*n/relays.Seconds(), "relay/s")
	b.ReportMetric(float64(b.N)*n/clients.Seconds(), "client/s")
	b.ReportMetric(float64(b.N)*n/reads.Seconds(), "encode/s")
	b.ReportMetric(slower.Seconds()/relays.Seconds(), "ratio")
}

func timed(fn func()) time.Duration {
	begin := time.Now()
	fn()
	return time.Since(begin)
}

// relayAll is how long it takes a relay to publish the log to a topic that is there.
func relayAll(b *testing.B, store pulse.Store) time.Duration {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	broker, err := kafkabroker.Connect(b.Context(), addresses(c), &kafkabroker.Options{Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	bus, err := pulse.New(store, &pulse.Options{Source: "/bench", Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	name := "kafka-" + time.Now().Format("150405.000000000")[7:]
	if err := bus.Publish(name, broker.Publisher()); err != nil {
		b.Fatal(err)
	}
	return timed(func() {
		if err := bus.Drain(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
}

func encodeAll(b *testing.B, store pulse.Store, n int) {
	var headers []cloudevents.RecordHeader
	for after := pulse.Position(0); after < pulse.Position(n); {
		page, err := store.Read(b.Context(), pulse.Query{After: after, Limit: 1000})
		if err != nil {
			b.Fatal(err)
		}
		for i := range page.Envelopes {
			if headers, err = cloudevents.AppendRecordHeaders(headers[:0], &page.Envelopes[i]); err != nil {
				b.Fatal(err)
			}
		}
		after = page.Next
	}
}

func clientAll(b *testing.B, store pulse.Store, n int) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topicName), kfake.DataDir(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic(topicName), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	page, err := store.Read(b.Context(), pulse.Query{Limit: 1000})
	if err != nil {
		b.Fatal(err)
	}
	envs := page.Envelopes
	ready := make([]kgo.Record, len(envs))
	for i := range envs {
		headers, err := cloudevents.AppendRecordHeaders(nil, &envs[i])
		if err != nil {
			b.Fatal(err)
		}
		ready[i] = kgo.Record{Key: []byte(envs[i].Key), Value: envs[i].Data}
		for _, h := range headers {
			ready[i].Headers = append(ready[i].Headers, kgo.RecordHeader(h))
		}
	}
	for i := range n {
		r := ready[i%len(ready)]
		client.Produce(context.Background(), &r, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := client.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}
