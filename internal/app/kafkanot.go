//go:build !kafka

package app

import (
	"context"
	"errors"
	"log/slog"
)

// kafkaLinked says that the command reaches Kafka.
const kafkaLinked = false

var errNoKafka = errors.New("this pulse was built without Kafka: build it with the tag kafka, go build -tags kafka ./cmd/pulse, as make build does")

func validateKafkaTopic(string) error { return nil }

func openKafka(context.Context, *BrokerSpec, *slog.Logger) (*Destination, error) {
	return nil, errNoKafka
}

func forgetKafka(context.Context, *BrokerSpec, string, *slog.Logger) error { return errNoKafka }

func (d *doctor) kafka(context.Context) { d.found("broker", Fail, "%v", errNoKafka) }
