package bench

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/edupulse-live/pulse"
)

// Handle is how fast an ordered subscription handles what waits in the log.
type Handle struct {
	Events    int64   `json:"events"`
	PerSecond float64 `json:"per_second"` // median
}

// handle drains the same backlog once a round, with a new subscription each.
func (b *bench) handle(ctx context.Context) (*Handle, error) {
	bus, done, err := b.fresh(ctx)
	if err != nil {
		return nil, err
	}
	defer done() //nolint:errcheck // what was measured is measured
	waiting, _, err := load(ctx, bus, emitCallers, forDuration(b.Time))
	if err != nil {
		return nil, err
	}
	var rates []float64
	for round := range b.Rounds {
		took, err := b.drainOnce(ctx, bus, round)
		if err != nil {
			return nil, err
		}
		rates = append(rates, perSecond(waiting, took))
		b.Say("handle, round %d: %.0f/s of %d waiting events, ordered", round+1, rates[round], waiting)
	}
	return &Handle{waiting, median(rates)}, nil
}

func (b *bench) drainOnce(ctx context.Context, bus *pulse.Bus, round int) (time.Duration, error) {
	err := bus.Subscribe("bench-"+string(rune('a'+round)), pulse.Start(pulse.Beginning), pulse.Ordered(),
		pulse.On(func(context.Context, submitted) error { return nil }))
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	err = bus.Drain(ctx)
	return time.Since(begin), err
}

// latencyRate is how many events a second the latency is measured at.
const latencyRate = 200

// Latency is the time from the call of Emit to the call of the handler, at a steady rate that does not wait for answers. Of the
// percentiles of the rounds it has the medians: a disk that stands still for a moment spoils one round.
type Latency struct {
	Rate   int     `json:"rate_per_second"`
	Events int     `json:"events"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"` // of all rounds
}

// stopwatch collects latencies.
type stopwatch struct {
	mu sync.Mutex
	ms []float64
}

func (w *stopwatch) handle(_ context.Context, e submitted) error {
	took := float64(time.Now().UnixNano()-e.At) / 1e6
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ms = append(w.ms, took)
	return nil
}

// take returns what was collected and begins anew.
func (w *stopwatch) take() []float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	ms := w.ms
	w.ms = nil
	return ms
}

func (b *bench) latency(ctx context.Context) (*Latency, error) {
	bus, done, err := b.fresh(ctx)
	if err != nil {
		return nil, err
	}
	defer done() //nolint:errcheck // what was measured is measured
	l, err := b.measureLatency(ctx, bus)
	if err == nil {
		b.Say("latency of %d events at %d/s: p50 %.2f ms, p99 %.2f ms", l.Events, l.Rate, l.P50, l.P99)
	}
	return l, err
}

// LatencyName is the subscription whose latency is measured. A broker elsewhere keeps something of it.
const LatencyName = "bench"

// measureLatency is the latency of a subscription with these options.
func (b *bench) measureLatency(ctx context.Context, bus *pulse.Bus, opts ...pulse.SubscribeOption) (*Latency, error) {
	var watch stopwatch
	if err := bus.Subscribe(LatencyName, append(opts, pulse.Ordered(), pulse.On(watch.handle))...); err != nil {
		return nil, err
	}
	settle()
	l := &Latency{Rate: latencyRate}
	var p50, p99 []float64
	err := running(ctx, bus, func() error {
		for range b.Rounds {
			if err := errors.Join(steady(ctx, bus, latencyRate, b.Time), bus.Drain(ctx)); err != nil {
				return err
			}
			ms := watch.take()
			slices.Sort(ms)
			n := len(ms)
			p50, p99 = append(p50, ms[n/2]), append(p99, ms[n*99/100])
			l.Events, l.Max = l.Events+n, max(l.Max, ms[n-1])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.P50, l.P99 = median(p50), median(p99)
	return l, nil
}

// running runs the bus while fn runs.
func running(ctx context.Context, bus *pulse.Bus, fn func() error) error {
	ctx, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- bus.Run(ctx) }()
	err := fn()
	stop()
	if runErr := <-ran; err == nil {
		err = runErr
	}
	return err
}

// steady emits at a rate, each event at its time, whether or not earlier ones are done.
func steady(ctx context.Context, bus *pulse.Bus, rate int, d time.Duration) error {
	var wg sync.WaitGroup
	errs := make(chan error, 1)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for n := range int(d.Seconds() * float64(rate)) {
		<-tick.C
		wg.Go(func() {
			if _, err := bus.Emit(ctx, newSubmitted(n%emitCallers, n)); err != nil {
				select {
				case errs <- err:
				default:
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}
