package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edupulse-live/pulse"
)

// Count returns a publisher that counts what p answers.
func (m *Metrics) Count(destination string, p pulse.Publisher) pulse.Publisher {
	m.countUnrouted(destination, p)
	of := func(outcome string) prometheus.Counter { return m.published.WithLabelValues(destination, outcome) }
	return &counted{Publisher: p, acked: of("acked"), rejected: of("rejected"), withheld: of("withheld"), unknown: of("unknown")}
}

// countUnrouted shows what a broker delivered to nobody, where it says so.
func (m *Metrics) countUnrouted(destination string, p pulse.Publisher) {
	u, ok := p.(interface{ Unrouted() uint64 })
	if !ok {
		return
	}
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "pulse_unrouted_total", Help: "Events the broker confirmed to this process and delivered to nobody, as nobody listens there.",
		ConstLabels: prometheus.Labels{"destination": destination},
	}, func() float64 { return float64(u.Unrouted()) }))
}

// counted is a publisher whose results are counted.
type counted struct {
	pulse.Publisher
	acked, rejected, withheld, unknown prometheus.Counter
}

// PublishBatch is that of the publisher.
func (c *counted) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	results := c.Publisher.PublishBatch(ctx, envs)
	for i := range results {
		switch results[i].Outcome {
		case pulse.Acked:
			c.acked.Inc()
		case pulse.Rejected:
			c.rejected.Inc()
		case pulse.Withheld:
			c.withheld.Inc()
		default:
			c.unknown.Inc()
		}
	}
	return results
}
