package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse/internal/bench"
	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/natsbroker"
)

// openNATS measures the server that is embedded in this process.
func openNATS(_ context.Context, _ string, o *bench.Options) (*subject, error) {
	o.Broker = func(ctx context.Context, path string) (*bench.Broker, error) {
		dir := path + ".nats"
		b, err := natsbroker.Embed(ctx, dir, nil)
		if err != nil {
			return nil, err
		}
		return &bench.Broker{Dir: dir, Publisher: b.Publisher(), Source: b.Source(), Close: b.Close}, nil
	}
	return &subject{label: "NATS JetStream, embedded, every batch synced", close: func() error { return nil }}, nil
}

// openRabbit starts a server.
func openRabbit(_ context.Context, _ string, o *bench.Options) (*subject, error) {
	srv, err := rabbittest.Start()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, missing("RabbitMQ")
	}
	if err != nil {
		return nil, err
	}
	version, err := versionOf(srv.URL())
	if err != nil {
		return nil, errors.Join(err, srv.Remove())
	}
	bench.Rabbit(o, srv.URL())
	return &subject{label: fmt.Sprintf("RabbitMQ %s, a quorum queue", version), close: srv.Remove}, nil
}

func versionOf(url string) (any, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, err
	}
	return conn.Properties["version"], conn.Close()
}
