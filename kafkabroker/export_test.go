package kafkabroker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Listed waits until a client lists the partitions of records.
func Listed(ctx context.Context, client *kgo.Client, topic string, records []kgo.Record) error {
	return (&writer{client: client}).listed(ctx, topic, records)
}
