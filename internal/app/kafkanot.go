//go:build !kafka

package app

import (
	"context"
	"log/slog"
)

// kafkaLinked says that the command reaches Kafka.
const kafkaLinked = false

func validateKafkaTopic(string) error { return nil }

func openKafka(context.Context, *BrokerSpec, *slog.Logger) (*Destination, error) {
	return nil, errNoKafka
}

func forgetKafka(context.Context, *BrokerSpec, string, *slog.Logger) error { return errNoKafka }

func (d *doctor) kafka(context.Context) { d.found("broker", Fail, "%v", errNoKafka) }
