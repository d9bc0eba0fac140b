package bench

import (
	"fmt"
	"math"
)

// Line is one row of the report for people.
type Line struct{ Section, Measure, Value string }

// Lines is the report as a table.
func (r *Report) Lines() []Line {
	var lines []Line
	add := func(section, measure, format string, args ...any) {
		lines = append(lines, Line{section, measure, fmt.Sprintf(format, args...)})
	}
	if s := r.Start; s != nil {
		add(SectionStart, "store, bus and subscription ready", "%.1f ms", s.ReadyMS)
		add(SectionStart, "size of this program", "%.1f MiB", s.BinaryMiB)
	}
	if e := r.Emit; e != nil {
		add(SectionEmit, fmt.Sprintf("%d concurrent callers, each event synced", e.Callers), "%.0f/s", e.PerSecond)
		add(SectionEmit, fmt.Sprintf("raw inserts of the same row, %d in a transaction", e.RawBatch), "%.0f/s", e.RawPerSecond)
		add(SectionEmit, "ratio", "%.2f", e.Ratio)
	}
	if h := r.Handle; h != nil {
		add(SectionHandle, fmt.Sprintf("%d waiting events, ordered subscription", h.Events), "%.0f/s", h.PerSecond)
	}
	if l := r.Latency; l != nil {
		add(SectionLatency, fmt.Sprintf("Emit to handler at %d/s, %d events", l.Rate, l.Events), "p50 %.2f ms, p99 %.2f ms", l.P50, l.P99)
	}
	if s := r.Stalled; s != nil {
		add(SectionStalled, fmt.Sprintf("%d events waiting for a stalled subscription", s.Waiting), "%.0f MiB, grown by %.0f MiB", s.RSSAfter, whole(s.RSSGrowth))
		add(SectionStalled, "emitting beside it", "%.0f/s", s.StalledPerSec)
		add(SectionStalled, "emitting without it", "%.0f/s", s.NormalPerSec)
		add(SectionStalled, "ratio", "%.2f", s.Ratio)
	}
	return append(lines, r.brokerLines()...)
}

// brokerLines are those of the sections with a broker.
func (r *Report) brokerLines() []Line {
	var lines []Line
	add := func(section, measure, format string, args ...any) {
		lines = append(lines, Line{section, measure, fmt.Sprintf(format, args...)})
	}
	if s := r.Relay; s != nil {
		add(SectionRelay, fmt.Sprintf("%d waiting events, published by the relay", s.Events), "%.0f/s", s.PerSecond)
		add(SectionRelay, s.client(), "%.0f/s", s.ClientPerSecond)
		add(SectionRelay, "reading and encoding the same events alone", "%.0f/s", s.ReadPerSecond)
		add(SectionRelay, "ratio to the slower of the two", "%.2f", s.Ratio)
	}
	if l := r.Broker; l != nil {
		add(SectionBroker, fmt.Sprintf("Emit to handler, published, at %d/s, %d events", l.Rate, l.Events), "p50 %.2f ms, p99 %.2f ms", l.P50, l.P99)
	}
	if d := r.Down; d != nil {
		add(SectionDown, fmt.Sprintf("%d events waiting for a broker that is down", d.Waiting), "%.0f MiB, grown by %.0f MiB", d.RSSAfter, whole(d.RSSGrowth))
		add(SectionDown, "emitting meanwhile", "%.0f/s", d.DownPerSec)
		add(SectionDown, "emitting with nowhere to publish", "%.0f/s", d.NormalPerSec)
		add(SectionDown, "ratio", "%.2f", d.Ratio)
		add(SectionDown, "the broker is up again: all published after", "%.1f s, %.0f/s", d.CatchUpSeconds, d.CatchUpPerSec)
	}
	return lines
}

// client says what the client alone did.
func (r *Relay) client() string {
	if r.Server == serverNATS {
		return fmt.Sprintf("the NATS client alone, %d such messages in a batch", clientBatch)
	}
	return fmt.Sprintf("the %s client alone, with such messages", r.Server)
}

// whole rounds to a whole number, of which none is -0.
func whole(x float64) float64 { return math.Round(x) + 0 }
