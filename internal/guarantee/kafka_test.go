//go:build unix

package guarantee

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/kafkabroker"
)

// kafkaScheme begins the address of a cluster.
const kafkaScheme = "kafka:"

// kafkaOutside is a Kafka cluster, which the test runs.
type kafkaOutside struct {
	*kafkabroker.Broker
	servers string
}

func newKafka(t testing.TB) outside {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b, err := dialKafka(t.Context(), strings.Join(c.ListenAddrs(), ","), quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func dialKafka(ctx context.Context, servers string, log *slog.Logger) (outside, error) {
	b, err := kafkabroker.Connect(ctx, servers, &kafkabroker.Options{Log: log})
	return kafkaOutside{b, servers}, err
}

func (b kafkaOutside) Publisher() pulse.Publisher { return b.Broker.Publisher() }
func (b kafkaOutside) Source() pulse.Source       { return b.Broker.Source() }
func (b kafkaOutside) address() string            { return kafkaScheme + b.servers }

// read reads the committed records, up to the mark at which the last transaction ended.
func (b kafkaOutside) read(ctx context.Context) ([]message, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.servers), kgo.ConsumeTopics(kafkabroker.DefaultTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, kafkabroker.DefaultTopic)
	if err != nil {
		return nil, err
	}
	end, _ := ends.Lookup(kafkabroker.DefaultTopic, 0)
	var msgs []message
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			next = r.Offset + 1
			if r.Attrs.IsControl() {
				continue
			}
			m := message{seq: uint64(len(msgs) + 1), data: string(r.Value)}
			for _, h := range r.Headers {
				switch h.Key {
				case "ce_id":
					m.id, err = uuid.Parse(string(h.Value))
				case "ce_type":
					m.subject = "pulse.0." + string(h.Value)
				}
			}
			if err != nil {
				return nil, fmt.Errorf("record %d: %w", r.Offset, err)
			}
			msgs = append(msgs, m)
		}
	}
	return msgs, nil
}
