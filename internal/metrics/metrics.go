// Package metrics shows to Prometheus what a store knows of its log, its subscriptions and its relays, and counts what is published.
package metrics

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/edupulse-live/pulse"
)

// Store is what metrics are taken from.
type Store interface {
	Info(ctx context.Context) (pulse.Info, error)
	States(ctx context.Context) ([]pulse.SubscriptionState, error)
}

// Metrics are the metrics of one process.
type Metrics struct {
	registry  *prometheus.Registry
	published *prometheus.CounterVec
}

// New returns the metrics of store, and of this process. store is asked at each scrape.
func New(store Store) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pulse_published_total",
			Help: "Answers of the broker to this process: acked, rejected, withheld behind a rejected one, or unknown and to be published again.",
		}, []string{"destination", "outcome"}),
	}
	m.registry.MustRegister(
		m.published, newLog(store),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// scrapeTimeout is how long the store has to answer.
const scrapeTimeout = 5 * time.Second

// log collects what the store knows.
type log struct {
	store    Store
	up, head *prometheus.Desc
	gauges   []gauge
}

// gauge is one number of each subscription and relay.
type gauge struct {
	desc *prometheus.Desc
	of   func(s *pulse.SubscriptionState) float64
}

func newLog(store Store) *log {
	c := &log{
		store: store,
		up:    prometheus.NewDesc("pulse_store_up", "1 when the store answers.", nil, nil),
		head:  prometheus.NewDesc("pulse_head", "Position of the newest event: how many were ever recorded.", nil, nil),
	}
	add := func(name, help string, of func(s *pulse.SubscriptionState) float64) {
		c.gauges = append(c.gauges, gauge{prometheus.NewDesc(name, help, []string{"kind", "name"}, nil), of})
	}
	add("pulse_cursor", "Position up to which all is handled or published, or has a delivery of its own.",
		func(s *pulse.SubscriptionState) float64 { return float64(s.Cursor.Position) })
	add("pulse_lag", "Positions behind the head; below zero the log was restored or replaced.",
		func(s *pulse.SubscriptionState) float64 { return float64(s.Lag()) })
	add("pulse_retries", "Deliveries that will be tried.",
		func(s *pulse.SubscriptionState) float64 { return float64(s.Retries) })
	add("pulse_waiting", "Deliveries behind another one of their key.",
		func(s *pulse.SubscriptionState) float64 { return float64(s.Waiting) })
	add("pulse_blocked_keys", "Keys held up by a delivery that failed.",
		func(s *pulse.SubscriptionState) float64 { return float64(s.Blocked) })
	add("pulse_dead_letters", "Deliveries that gave up, or that the broker refused.",
		func(s *pulse.SubscriptionState) float64 { return float64(s.Dead) })
	add("pulse_paused", "1 while paused, by hand or by itself.",
		func(s *pulse.SubscriptionState) float64 { return oneIf(s.PausedUntil.After(time.Now())) })
	add("pulse_held", "1 while an instance runs it, in whatever process.",
		func(s *pulse.SubscriptionState) float64 { return oneIf(s.Holder != "") })
	return c
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe is prometheus.Collector's.
func (c *log) Describe(out chan<- *prometheus.Desc) {
	out <- c.up
	out <- c.head
	for _, g := range c.gauges {
		out <- g.desc
	}
}

// Collect is prometheus.Collector's. Of a store that does not answer only that is told.
func (c *log) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	info, err := c.store.Info(ctx)
	var states []pulse.SubscriptionState
	if err == nil {
		states, err = c.store.States(ctx)
	}
	out <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, oneIf(err == nil))
	if err != nil {
		return
	}
	out <- prometheus.MustNewConstMetric(c.head, prometheus.GaugeValue, float64(info.Head))
	for i := range states {
		kind, name := "subscription", states[i].Name
		if destination, ok := strings.CutPrefix(name, pulse.RelayName("")); ok {
			kind, name = "relay", destination
		}
		for _, g := range c.gauges {
			out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.of(&states[i]), kind, name)
		}
	}
}
