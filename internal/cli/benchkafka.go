//go:build kafka

package cli

import (
	"github.com/edupulse-live/pulse/internal/app"
	"github.com/edupulse-live/pulse/internal/bench"
	"github.com/edupulse-live/pulse/internal/kafkabench"
)

// benchOnKafka makes opts measure a Kafka cluster.
func benchOnKafka(opts *bench.Options, spec *app.BrokerSpec) {
	servers, user, password := spec.Kafka.Servers(spec.URL)
	kafkabench.Measure(opts, servers, user, password)
}
