package kafkabroker_test

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse/internal/brokerworld"
	"github.com/edupulse-live/pulse/kafkabroker"
)

const (
	topicName = "pulse"
	often     = 4 * time.Millisecond // the pause between changes under load: there are some 2,000 events in a second
)

// newWorld makes a world that runs until the end of the test.
func newWorld(t *testing.T, b *kafkabroker.Broker) *brokerworld.World {
	t.Helper()
	return brokerworld.New(t, "kafka", b.Publisher(), b.Source())
}

// allStored fails the test unless another client finds every change in the topic, those of a lesson for the first time in order, both when it reads
// what is committed and when it reads all. It returns how often one was there again among the committed.
func allStored(t *testing.T, w *brokerworld.World, c *kfake.Cluster) (again int) {
	t.Helper()
	for _, level := range []kgo.IsolationLevel{kgo.ReadUncommitted(), kgo.ReadCommitted()} {
		again = w.AllStored(t, values(stored(t, c, level)))
	}
	return again
}

// values are those of records.
func values(records []*kgo.Record) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, r := range records {
			if !yield(r.Value) {
				return
			}
		}
	}
}

// stored reads the topic with another client, partition by partition.
func stored(t testing.TB, c *kfake.Cluster, level kgo.IsolationLevel) (records []*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	probe, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	ends, err := kadm.NewClient(probe).ListEndOffsets(ctx, topicName)
	probe.Close()
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topicName: {o.Partition: kgo.NewOffset().AtStart()}}))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for next := int64(0); next < o.Offset; {
			fetches := client.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				next = r.Offset + 1
				if !r.Attrs.IsControl() {
					records = append(records, r)
				}
			})
		}
	})
	return records
}
