package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/edupulse-live/pulse"
)

// Down is what a broker that does not answer costs those who emit, while a backlog grows, and how long it takes to publish all of it once
// the broker is up again. Its emitting is compared with that of a bus without a destination, because a relay that publishes
// takes time from those who emit: next to one the ratio would flatter.
type Down struct {
	Waiting        int64   `json:"waiting"`
	RSSBefore      float64 `json:"rss_before_mib"` // resident memory after a tenth of the backlog, garbage collected
	RSSAfter       float64 `json:"rss_after_mib"`  // after all of it
	RSSGrowth      float64 `json:"rss_growth_mib"`
	NormalPerSec   float64 `json:"normal_per_second"` // emitting with no destination; median
	DownPerSec     float64 `json:"down_per_second"`   // with one that is down; median
	Ratio          float64 `json:"ratio"`             // median of the ratios of the rounds
	CatchUpSeconds float64 `json:"catch_up_seconds"`  // from the broker's return, which the relay has to notice, until it has everything
	CatchUpPerSec  float64 `json:"catch_up_per_second"`
}

func (b *bench) down(ctx context.Context) (*Down, error) {
	d := &Down{}
	if err := b.downMemory(ctx, d); err != nil {
		return nil, err
	}
	b.Say("down with %d events waiting: %.0f MiB, %.0f MiB more than with a tenth of them; up again, all published in %.1f s",
		d.Waiting, d.RSSAfter, d.RSSGrowth, d.CatchUpSeconds)
	var normals, downs, ratios []float64
	for round := range b.Rounds {
		normal, err := b.emitBeside(ctx, false)
		if err != nil {
			return nil, err
		}
		down, err := b.emitWhileDown(ctx)
		if err != nil {
			return nil, err
		}
		b.Say("down, round %d: %.0f/s, with nowhere to publish %.0f/s", round+1, down, normal)
		normals, downs, ratios = append(normals, normal), append(downs, down), append(ratios, down/normal)
	}
	d.NormalPerSec, d.DownPerSec, d.Ratio = median(normals), median(downs), median(ratios)
	return d, nil
}

// downMemory emits the backlog while the broker is down, and then lets it come up.
func (b *bench) downMemory(ctx context.Context, d *Down) error {
	return b.whileDown(ctx, func(bus *pulse.Bus, broker *Broker, line *outage) error {
		upTo := func(n int) error {
			_, _, err := load(ctx, bus, emitCallers, func(emitted int64) bool { return emitted >= int64(n) })
			return err
		}
		if err := upTo(b.Waiting / 10); err != nil {
			return err
		}
		d.RSSBefore = settledRSS()
		if err := upTo(b.Waiting - b.Waiting/10); err != nil {
			return err
		}
		d.RSSAfter = settledRSS()
		d.RSSGrowth = d.RSSAfter - d.RSSBefore
		states, err := bus.Subscriptions(ctx)
		if err != nil {
			return err
		}
		d.Waiting = states[0].Lag()
		begin := time.Now()
		line.up.Store(true)
		if err := bus.Drain(ctx); err != nil {
			return err
		}
		took := time.Since(begin)
		d.CatchUpSeconds, d.CatchUpPerSec = took.Seconds(), perSecond(d.Waiting, took)
		return endsAt(ctx, broker, states[0].Head)
	})
}

// emitWhileDown measures emitting while the broker is down.
func (b *bench) emitWhileDown(ctx context.Context) (rate float64, err error) {
	err = b.whileDown(ctx, func(bus *pulse.Bus, _ *Broker, _ *outage) error {
		n, took, err := load(ctx, bus, emitCallers, forDuration(b.Time))
		rate = perSecond(n, took)
		return err
	})
	return rate, err
}

// whileDown runs fn with a bus whose only destination is down, until line is up.
func (b *bench) whileDown(ctx context.Context, fn func(bus *pulse.Bus, broker *Broker, line *outage) error) error {
	bus, done, err := b.freshOn(ctx, slog.New(slog.DiscardHandler)) // it would complain of what is done to it
	if err != nil {
		return err
	}
	err = b.withBroker(ctx, func(broker *Broker) error {
		line := &outage{Publisher: broker.Publisher}
		if err := bus.Publish(destination, line); err != nil {
			return err
		}
		return running(ctx, bus, func() error { return fn(bus, broker, line) })
	})
	return errors.Join(err, done())
}

// outage is a publisher whose broker does not answer until it is up.
type outage struct {
	pulse.Publisher
	up atomic.Bool
}

var errDown = fmt.Errorf("%w: nobody answers", pulse.ErrBroker)

// PublishBatch is that of the publisher, or leaves the outcome of every message unknown.
func (o *outage) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	if o.up.Load() {
		return o.Publisher.PublishBatch(ctx, envs)
	}
	results := make([]pulse.Result, len(envs))
	for i := range results {
		results[i].Err = errDown
	}
	return results
}

// Last is that of the publisher, or an error.
func (o *outage) Last(ctx context.Context) (pulse.Cursor, bool, error) {
	if o.up.Load() {
		return o.Publisher.Last(ctx)
	}
	return pulse.Cursor{}, false, errDown
}
