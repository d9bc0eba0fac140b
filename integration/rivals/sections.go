package main

import (
	"context"
	"slices"
	"time"
)

// carriers are all that carry events from emit to a handler.
var carriers = []entry{pulseEntry, pulseLog, sketchEntry, watermillDefault, watermillBest, riverDefault, riverBest, naiveEntry}

const (
	perSecond  = "events/s"
	cpuUnit    = "ms/1,000"
	processors = ", processors"
)

// measureEmit measures emitting alone: nothing reads what is emitted.
func measureEmit(ctx context.Context, b *bench) error {
	const what = "outside of transactions, 256 callers"
	entries := []entry{pulseRelay, sketchEntry, rawOne, rawUnnest, rawAlone, rawCopy, watermillBest, riverBest, naiveEntry}
	units := bulk()
	err := b.byTurns(ctx, entries, func(e entry, c contestant, t *tally) error {
		s, is := units[e.name]
		if !is {
			s = shape{callers: 256, unit: 1}
		}
		f, err := b.metered(e, s, func() (int64, error) {
			err := b.callers(ctx, c, t, s)
			return t.emitted.Load(), err
		})
		if err == nil {
			b.note("emit", what, e, f)
		}
		return err
	})
	if err != nil {
		return err
	}
	m := func(e entry) float64 { return b.report.median("emit", what, e) }
	b.report.atLeast("emit", "of raw unnest by one caller", m(pulseRelay)/m(rawAlone), 0.6)
	b.report.atLeast("emit", "of raw unnest by four", m(pulseRelay)/m(rawUnnest), 0.6)
	return nil
}

// bounds are what Pulse has to reach, as multiples of others; 0 for none.
type bounds struct{ sketch, watermill, river float64 }

// through measures from emit to handler.
func (b *bench) through(ctx context.Context, section string, s shape, entries []entry, bound bounds) error {
	what := s.name()
	err := b.byTurns(ctx, entries, func(e entry, c contestant, t *tally) error {
		f, err := b.flow(ctx, e, c, t, s)
		if err != nil {
			return err
		}
		b.note(section, what, e, f)
		b.report.add(section, what+", handled again", e.name, "events", float64(t.twice.Load()))
		return nil
	})
	if err != nil {
		return err
	}
	m := func(e entry) float64 { return b.report.median(section, what, e) }
	for _, c := range []struct {
		e     entry
		bound float64
	}{{sketchEntry, bound.sketch}, {watermillBest, bound.watermill}, {riverBest, bound.river}} {
		if c.bound > 0 {
			b.report.atLeast(section, what+", of "+c.e.name, m(pulseEntry)/m(c.e), c.bound)
		}
	}
	return nil
}

func measureEnd(ctx context.Context, b *bench) error {
	for _, callers := range []int{64, 1024} {
		if err := b.through(ctx, "end", shape{callers: callers, unit: 1}, carriers, bounds{0.75, 4, 8}); err != nil {
			return err
		}
	}
	b.report.atMost("end", "processors, 1024 callers, ms for 1,000 events", b.report.median("end", "1024 callers"+processors, pulseEntry), 60)
	return nil
}

func measureTx100(ctx context.Context, b *bench) error {
	return b.through(ctx, "tx100", shape{callers: 8, unit: 100, inTx: true}, carriers, bounds{0.75, 4, 0})
}

// measureTx1 measures transactions sent statement by statement, as all do it, and as one batch, where that can be.
func measureTx1(ctx context.Context, b *bench) error {
	s := shape{callers: 64, unit: 1, inTx: true}
	if err := b.through(ctx, "tx1", s, slices.Concat(carriers, []entry{pulseQueue, sketchQueue}), bounds{0.75, 1.3, 0}); err != nil {
		return err
	}
	m := func(e entry) float64 { return b.report.median("tx1", s.name(), e) }
	b.report.atLeast("tx1", "queued, of sketch, queued", m(pulseQueue)/m(sketchQueue), 0.75)
	b.report.atLeast("tx1", "queued, of watermill, best", m(pulseQueue)/m(watermillBest), 1.3)
	b.report.atLeast("tx1", "queued, of river, best", m(pulseQueue)/m(riverBest), 3.3)
	return nil
}

// measureDrain measures the relay alone, with a backlog.
func measureDrain(ctx context.Context, b *bench) error {
	const what, deadRows = "relay alone", "dead rows of events and positions afterwards"
	err := b.byTurns(ctx, []entry{pulseRelay, sketchEntry, watermillDefault, watermillBest, naiveEntry}, func(e entry, c contestant, t *tally) error {
		for left := b.backlog; left > 0; left -= bulkUnit {
			if err := c.emit(ctx, t.next(min(left, bulkUnit))); err != nil {
				return err
			}
		}
		f, err := b.metered(e, shape{unit: b.backlog}, func() (int64, error) { return b.drain(ctx, c.(relaying)) })
		if err != nil {
			return err
		}
		b.note("drain", what, e, f)
		if e.name != pulseRelay.name {
			return nil
		}
		dead, err := b.deadRows(ctx)
		b.report.add("drain", deadRows, e.name, "rows", float64(dead))
		return err
	})
	if err != nil {
		return err
	}
	m := func(e entry) float64 { return b.report.median("drain", what, e) }
	b.report.atLeast("drain", "of watermill, best", m(pulseRelay)/m(watermillBest), 4)
	b.report.atLeast("drain", "events/s", m(pulseRelay), 45_000)
	b.report.atMost("drain", deadRows, b.report.median("drain", deadRows, pulseRelay), 0)
	return nil
}

// drain publishes the backlog, or as much of it as is published in ten times the time of a measurement, and returns how much.
func (b *bench) drain(ctx context.Context, c relaying) (n int64, err error) {
	const glance = 10 * time.Millisecond
	end := time.Now().Add(10 * b.time)
	err = during(ctx, c.relay, func(ctx context.Context) (err error) {
		for n < int64(b.backlog) && time.Now().Before(end) && err == nil {
			if !pauseAfter(ctx, glance) {
				return context.Cause(ctx)
			}
			n, err = c.published(ctx)
		}
		return err
	})
	return n, err
}

// measureLarge measures from emit to handler in an empty log and in one that holds many events.
func measureLarge(ctx context.Context, b *bench) error {
	const empty, full, latency = "empty log", "large log", ", 200/s, p50"
	measure := func(what string, c contestant, t *tally) error {
		f, err := b.flow(ctx, pulseEntry, c, t, shape{callers: 1024, unit: 1})
		if err != nil {
			return err
		}
		waits, err := b.waits(ctx, usualRate, c, t, shape{unit: 1})
		if err != nil {
			return err
		}
		b.report.add("large", what, pulseEntry.name, perSecond, f.perSecond)
		b.report.add("large", what+latency, pulseEntry.name, "ms", quantile(waits, 0.5))
		return nil
	}
	err := b.byTurns(ctx, []entry{pulseEntry}, func(_ entry, c contestant, t *tally) error { return measure(empty, c, t) })
	if err != nil {
		return err
	}
	err = b.on(ctx, pulseEntry, func(c contestant, t *tally) error {
		if err := b.fill(ctx, c, t); err != nil {
			return err
		}
		for range b.rounds {
			if err := measure(full, c, t); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	of := func(what string) float64 {
		return b.report.median("large", full+what, pulseEntry) / b.report.median("large", empty+what, pulseEntry)
	}
	b.report.atLeast("large", "rate, of an empty log's", of(""), 0.9)
	b.report.atMost("large", "latency, of an empty log's", of(latency), 1.1)
	return nil
}

// fill stores events and has them handled.
func (b *bench) fill(ctx context.Context, c contestant, t *tally) error {
	return during(ctx, c.run, func(ctx context.Context) error {
		for t.emitted.Load() < int64(b.stored) {
			if err := c.emit(ctx, t.next(4*bulkUnit)); err != nil {
				return err
			}
		}
		return t.await(ctx, drainWait)
	})
}
