package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/edupulse-live/pulse/internal/bench"
	"github.com/edupulse-live/pulse/internal/kafkabench"
)

// openKafka starts a cluster in this process, which keeps what it has in files under dir: in memory it would copy all it has again and again.
func openKafka(_ context.Context, dir string, o *bench.Options) (*subject, error) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir))
	if err != nil {
		return nil, err
	}
	kafkabench.Measure(o, cluster.ListenAddrs()[0], "", "")
	return &subject{label: "Kafka, which is kfake in this process", close: func() error { cluster.Close(); return nil }}, nil
}
