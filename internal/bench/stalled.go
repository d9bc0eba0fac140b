package bench

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/rss"
)

// Stalled is what a subscription whose handlers do not return costs those who emit, while a backlog grows behind it.
type Stalled struct {
	Waiting       int64   `json:"waiting"`
	RSSBefore     float64 `json:"rss_before_mib"` // resident memory after a tenth of the backlog, garbage collected
	RSSAfter      float64 `json:"rss_after_mib"`  // after all of it
	RSSGrowth     float64 `json:"rss_growth_mib"`
	NormalPerSec  float64 `json:"normal_per_second"`  // emitting with no subscription; median
	StalledPerSec float64 `json:"stalled_per_second"` // beside the stalled one; median
	Ratio         float64 `json:"ratio"`              // median of the ratios of the rounds
}

func (b *bench) stalled(ctx context.Context) (*Stalled, error) {
	s := &Stalled{}
	if err := b.stalledMemory(ctx, s); err != nil {
		return nil, err
	}
	b.Say("stalled with %d events waiting: %.0f MiB, %.0f MiB more than with a tenth of them", s.Waiting, s.RSSAfter, s.RSSGrowth)
	var normals, stalleds, ratios []float64
	for round := range b.Rounds {
		normal, err := b.emitBeside(ctx, false)
		if err != nil {
			return nil, err
		}
		stalled, err := b.emitBeside(ctx, true)
		if err != nil {
			return nil, err
		}
		b.Say("stalled, round %d: %.0f/s, without %.0f/s", round+1, stalled, normal)
		normals, stalleds, ratios = append(normals, normal), append(stalleds, stalled), append(ratios, stalled/normal)
	}
	s.NormalPerSec, s.StalledPerSec, s.Ratio = median(normals), median(stalleds), median(ratios)
	return s, nil
}

// stalledMemory emits the backlog beside a stalled subscription.
func (b *bench) stalledMemory(ctx context.Context, s *Stalled) error {
	return b.besideStalled(ctx, true, func(bus *pulse.Bus) error {
		upTo := func(n int) error {
			_, _, err := load(ctx, bus, emitCallers, func(emitted int64) bool { return emitted >= int64(n) })
			return err
		}
		if err := upTo(b.Waiting / 10); err != nil {
			return err
		}
		s.RSSBefore = settledRSS()
		if err := upTo(b.Waiting - b.Waiting/10); err != nil {
			return err
		}
		s.RSSAfter = settledRSS()
		s.RSSGrowth = s.RSSAfter - s.RSSBefore
		states, err := bus.Subscriptions(ctx)
		if err == nil {
			s.Waiting = states[0].Lag()
		}
		return err
	})
}

// settledRSS is the resident memory in MiB once garbage is given back to the system.
func settledRSS() float64 {
	debug.FreeOSMemory()
	return rss.MiB(rss.Now())
}

// emitBeside measures emitting, beside a stalled subscription or not.
func (b *bench) emitBeside(ctx context.Context, stalled bool) (rate float64, err error) {
	err = b.besideStalled(ctx, stalled, func(bus *pulse.Bus) error {
		n, took, err := load(ctx, bus, emitCallers, forDuration(b.Time))
		rate = perSecond(n, took)
		return err
	})
	return rate, err
}

// besideStalled runs fn with a bus whose only subscription, if there is one, has handlers that do not return.
func (b *bench) besideStalled(ctx context.Context, stalled bool, fn func(bus *pulse.Bus) error) error {
	bus, done, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	defer done() //nolint:errcheck // what was measured is measured
	if !stalled {
		return fn(bus)
	}
	release := make(chan struct{})
	err = bus.Subscribe("stalled", pulse.Timeout(time.Hour), pulse.On(func(context.Context, submitted) error {
		<-release
		return nil
	}))
	if err != nil {
		return err
	}
	return running(ctx, bus, func() error {
		defer close(release)
		return fn(bus)
	})
}

// Start is what the first run costs.
type Start struct {
	ReadyMS   float64 `json:"ready_ms"`   // creating a store, a bus and a subscription; median
	BinaryMiB float64 `json:"binary_mib"` // size of this program
}

func (b *bench) start(ctx context.Context) (*Start, error) {
	var ready []float64
	for range b.Rounds {
		begin := time.Now()
		bus, done, err := b.fresh(ctx)
		if err != nil {
			return nil, err
		}
		err = bus.Subscribe("bench", pulse.On(func(context.Context, submitted) error { return nil }))
		ready = append(ready, float64(time.Since(begin))/float64(time.Millisecond))
		if closeErr := done(); err == nil {
			err = closeErr
		}
		if err != nil {
			return nil, err
		}
	}
	s := &Start{ReadyMS: median(ready)}
	if path, err := os.Executable(); err == nil {
		if info, err := os.Stat(path); err == nil {
			s.BinaryMiB = rss.MiB(info.Size())
		}
	}
	b.Say("ready after %.1f ms, a program of %.1f MiB", s.ReadyMS, s.BinaryMiB)
	return s, nil
}
