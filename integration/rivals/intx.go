package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// measureTx measures what an event adds to a transaction of the user's; nothing reads what is emitted.
func measureTx(ctx context.Context, b *bench) error {
	if err := closedTx(ctx, b); err != nil {
		return err
	}
	return openTx(ctx, b)
}

// Transactions one after the other on 64 connections: first without the event, then with it.
func closedTx(ctx context.Context, b *bench) error {
	const without, with, times = "closed loop, without event", "closed loop, with event", "closed loop, time of that without"
	entries := []entry{pulseRelay, pulseQueue, sketchEntry, watermillBest, riverBest, naiveEntry}
	err := b.byTurns(ctx, entries, func(e entry, c contestant, t *tally) error {
		const slices = 4 // by turns, so that both see the same machine
		part := *b
		part.time = max(b.time/slices, time.Millisecond)
		var counts, took [2]float64
		for i := range 2 * slices {
			start, before := time.Now(), t.emitted.Load()
			s := shape{callers: connections, unit: 1, inTx: true}
			loop := contestant(c)
			if i%2 == 0 {
				loop = withoutEvent{c}
			}
			if err := part.callers(ctx, loop, t, s); err != nil {
				return err
			}
			took[i%2] += time.Since(start).Seconds()
			counts[i%2] += float64(t.emitted.Load() - before)
		}
		b.report.add("tx", without, e.name, "tx/s", counts[0]/took[0])
		b.report.add("tx", with, e.name, "tx/s", counts[1]/took[1])
		b.report.add("tx", times, e.name, "times", counts[0]/took[0]/(counts[1]/took[1]))
		return nil
	})
	if err != nil {
		return err
	}
	b.report.atMost("tx", times, b.report.median("tx", times, pulseRelay), 1.75)
	b.report.atMost("tx", times+", queued", b.report.median("tx", times, pulseQueue), 1.75)
	return nil
}

// withoutEvent does the work only.
type withoutEvent struct{ contestant }

func (w withoutEvent) transact(ctx context.Context, _ []lesson, work work) error {
	return w.contestant.transact(ctx, nil, work)
}

// How many emits or transactions come in a second, whether those before are over or not.
const (
	usualRate = 200
	busyRate  = 1000
)

// Transactions that come at a rate, every other one with the event.
func openTx(ctx context.Context, b *bench) error {
	const without, with, more = "200 tx/s without event, p50", "200 tx/s with event, p50", "200 tx/s, the event adds"
	entries := []entry{pulseRelay, pulseQueue, sketchEntry, watermillBest, riverBest, naiveEntry}
	err := b.byTurns(ctx, entries, func(e entry, c contestant, t *tally) error {
		var mu sync.Mutex
		var took [2][]float64
		i := 0
		err := b.atRate(ctx, usualRate, func(ctx context.Context) error {
			mu.Lock()
			i++
			which := i % 2
			mu.Unlock()
			var evs []lesson
			if which == 1 {
				evs = t.next(1)
			}
			start := time.Now()
			err := c.transact(ctx, evs, enrol)
			ms := time.Since(start).Seconds() * 1000
			mu.Lock()
			defer mu.Unlock()
			took[which] = append(took[which], ms)
			return err
		})
		if err != nil {
			return err
		}
		p50 := [2]float64{quantile(took[0], 0.5), quantile(took[1], 0.5)}
		b.report.add("tx", without, e.name, "ms", p50[0])
		b.report.add("tx", with, e.name, "ms", p50[1])
		b.report.add("tx", more, e.name, "ms", p50[1]-p50[0])
		return nil
	})
	if err != nil {
		return err
	}
	b.report.atMost("tx", more+", ms", b.report.median("tx", more, pulseRelay), 0.3)
	b.report.atMost("tx", more+", queued, ms", b.report.median("tx", more, pulseQueue), 0.3)
	return nil
}

// atRate starts do so many times a second, at times that follow no beat, and waits for all.
func (b *bench) atRate(ctx context.Context, rate int, do func(context.Context) error) error {
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed error
	end := time.Now().Add(b.time)
	for due := time.Now(); due.Before(end); due = due.Add(time.Duration(rand.Int64N(2 * int64(time.Second) / int64(rate)))) {
		if wait := time.Until(due); wait > 0 && !pauseAfter(ctx, wait) {
			break
		}
		group.Go(func() {
			if err := do(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	group.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	return failed
}

// waits emits so many times a second, and returns the times from emit to handler.
func (b *bench) waits(ctx context.Context, rate int, c contestant, t *tally, s shape) (waits []float64, err error) {
	err = during(ctx, c.run, func(ctx context.Context) error {
		if err := b.warm(ctx, c, t); err != nil {
			return err
		}
		first := t.emitted.Load()
		if err := b.atRate(ctx, rate, func(ctx context.Context) error { return s.emit(ctx, c, t.next(1)) }); err != nil {
			return err
		}
		if err := t.await(ctx, drainWait); err != nil {
			return err
		}
		waits = t.waits(first)
		return nil
	})
	return waits, err
}

// measureLatency measures the time from emit to handler at a rate.
func measureLatency(ctx context.Context, b *bench) error {
	const emit, tx, busy = "200/s by Emit", "200/s in a transaction", "1,000/s by Emit"
	for _, way := range []struct {
		what    string
		rate    int
		s       shape
		entries []entry
	}{
		{emit, usualRate, shape{unit: 1}, []entry{pulseEntry, pulseLog, sketchEntry, watermillBest, riverBest, naiveEntry}},
		{tx, usualRate, shape{unit: 1, inTx: true}, []entry{pulseEntry, pulseLog, pulseElsewhere, sketchEntry, watermillBest, riverBest, naiveEntry}},
		{busy, busyRate, shape{unit: 1}, []entry{pulseEntry, pulseLog, sketchEntry, watermillBest, riverBest}},
	} {
		err := b.byTurns(ctx, way.entries, func(e entry, c contestant, t *tally) error {
			waits, err := b.waits(ctx, way.rate, c, t, way.s)
			if err != nil {
				return err
			}
			b.report.add("latency", way.what+", p50", e.name, "ms", quantile(waits, 0.5))
			b.report.add("latency", way.what+", p99", e.name, "ms", quantile(waits, 0.99))
			return nil
		})
		if err != nil {
			return err
		}
	}
	m := func(what string, e entry) float64 { return b.report.median("latency", what+", p50", e) }
	b.report.atMost("latency", "by Emit, p50 of river's", m(emit, pulseEntry)/m(emit, riverBest), 1)
	b.report.atMost("latency", "by Do, p50 of river's", m(tx, pulseEntry)/m(tx, riverBest), 1)
	b.report.atMost("latency", "by Tx elsewhere, p50, ms", m(tx, pulseElsewhere), 5)
	return nil
}
