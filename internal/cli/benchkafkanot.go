//go:build !kafka

package cli

import (
	"github.com/edupulse-live/pulse/internal/app"
	"github.com/edupulse-live/pulse/internal/bench"
)

// benchOnKafka is never called: a command without Kafka refuses the URL.
func benchOnKafka(*bench.Options, *app.BrokerSpec) {}
