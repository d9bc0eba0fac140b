package demo

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse/internal/rss"
)

// Report is what became of a year. It counts what the handler did, read from the handler's own table and compared with the plan:
// not what the bus says about itself.
type Report struct {
	Emitted    int `json:"emitted"`   // events of the plan whose Emit was acknowledged
	Published  int `json:"published"` // events of the plan that the broker has acknowledged; 0 without a broker
	Handled    int `json:"handled"`   // different events of the plan that were handled
	Lost       int `json:"lost"`      // of the plan and not handled
	Duplicates int `json:"duplicates"`
	OutOfOrder int `json:"out_of_order"` // handled after a later one of their student or course

	Seconds         float64      `json:"seconds"` // of this process, from the first Emit to the last commit of the handler
	EventsPerSecond float64      `json:"events_per_second"`
	Latency         Milliseconds `json:"latency_ms"` // from calling Emit to the commit of the handler, all events of this process
	PeakRSS         float64      `json:"peak_rss_mib"`
}

// Milliseconds are quantiles of times.
type Milliseconds struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Clean reports whether every event was handled exactly once and in order.
func (r *Report) Clean() bool {
	return r.Lost == 0 && r.Duplicates == 0 && r.OutOfOrder == 0
}

// report reads back what was handled and counts.
func (r *yearRun) report(ctx context.Context, store Store) (*Report, error) {
	t := newTally(r.plan, r.ids())
	var waited []time.Duration
	times := make(map[int64]time.Duration, len(r.batches))
	seconds := r.allEmitted
	for _, b := range r.batches {
		times[b.batch] = b.at
		seconds = max(seconds, b.at)
	}
	err := inBooks(ctx, store, r.opts.Schema, func(b books) error {
		return b.each(ctx, func(batch int64, ids []byte) {
			at, now := times[batch]
			for id := range slices.Chunk(ids, len(uuid.UUID{})) {
				i, planned := t.count(uuid.UUID(id))
				if planned && now && at > r.began[i] {
					waited = append(waited, at-r.began[i])
				}
			}
		})
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(waited)
	report := &Report{
		Emitted: int(r.emitted.Load()), Published: r.published.count(), Handled: t.handled, Lost: len(r.plan.events) - t.handled, Duplicates: t.duplicates, OutOfOrder: t.outOfOrder,
		Seconds: round(seconds.Seconds()),
		Latency: Milliseconds{P50: quantile(waited, 0.50), P99: quantile(waited, 0.99)},
		PeakRSS: round(rss.MiB(rss.Peak())),
	}
	if seconds > 0 {
		report.EventsPerSecond = round(float64(report.Emitted) / seconds.Seconds())
	}
	return report, nil
}

// tally compares what was handled with a plan.
type tally struct {
	plan   *plan
	events map[uuid.UUID]int32 // id -> index in the plan
	seen   []bool              // by event
	latest []int32             // by key: the latest event handled so far, or -1

	handled, duplicates, outOfOrder int
}

// idsOf finds the events of a plan by their ids.
func idsOf(p *plan, secret []byte) map[uuid.UUID]int32 {
	ids := make(map[uuid.UUID]int32, len(p.events))
	h := newHasher(secret)
	for i := range p.events {
		ids[h.event(p, &p.events[i])] = int32(i)
	}
	return ids
}

func newTally(p *plan, ids map[uuid.UUID]int32) *tally {
	t := &tally{plan: p, events: ids, seen: make([]bool, len(p.events)), latest: make([]int32, p.keys())}
	for k := range t.latest {
		t.latest[k] = -1
	}
	return t
}

// count counts one effect and returns the event it belongs to. Events that are not of the plan, from another year
// in the same log, do not count.
func (t *tally) count(id uuid.UUID) (event int32, planned bool) {
	i, planned := t.events[id]
	if !planned {
		return 0, false
	}
	if t.seen[i] {
		t.duplicates++
		return i, true
	}
	t.seen[i] = true
	t.handled++
	if k := t.plan.key(&t.plan.events[i]); i > t.latest[k] {
		t.latest[k] = i
	} else {
		t.outOfOrder++
	}
	return i, true
}

// quantile returns the q-quantile of sorted times, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min(int(q*float64(len(sorted))), len(sorted)-1)
	return round(float64(sorted[i]) / float64(time.Millisecond))
}

// round keeps three decimals, which is more than any of these numbers is good for.
func round(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }
