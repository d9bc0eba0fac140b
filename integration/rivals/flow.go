package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// shape says how events are emitted.
type shape struct {
	callers int
	unit    int  // events emitted at once
	inTx    bool // in transactions of the user's
}

// name is for the report.
func (s shape) name() string { return fmt.Sprintf("%d callers", s.callers) }

// emitted calls the contestant as the shape says.
func (s shape) emit(ctx context.Context, c contestant, evs []lesson) error {
	if s.inTx {
		return c.transact(ctx, evs, enrol)
	}
	return c.emit(ctx, evs)
}

// flow is what came of it.
type flow struct {
	perSecond float64
	cpu       float64 // milliseconds of processors for 1,000 events
}

const (
	warmUp    = 200
	drainWait = 2 * time.Minute // without anything being handled
)

// flow emits for some time, no more events ahead of the handler than settings allow, and waits until all are handled.
func (b *bench) flow(ctx context.Context, e entry, c contestant, t *tally, s shape) (f flow, err error) {
	err = during(ctx, c.run, func(ctx context.Context) error {
		if err := b.warm(ctx, c, t); err != nil {
			return err
		}
		t.limit(b.ahead)
		f, err = b.metered(e, s, func() (int64, error) {
			before := t.handled.Load()
			if err := b.callers(ctx, c, t, s); err != nil {
				return 0, err
			}
			err := t.await(ctx, drainWait)
			return t.handled.Load() - before, err
		})
		return err
	})
	return f, err
}

// metered measures fn, which returns how many events it was about.
func (b *bench) metered(e entry, s shape, fn func() (int64, error)) (flow, error) {
	stop, err := b.startProfile(e, s)
	if err != nil {
		return flow{}, err
	}
	defer stop()
	before, err := b.server.cpu()
	if err != nil {
		return flow{}, err
	}
	start := time.Now()
	n, err := fn()
	if err != nil {
		return flow{}, err
	}
	took := time.Since(start)
	after, err := b.server.cpu()
	return flow{float64(n) / took.Seconds(), (after - before).Seconds() * 1e6 / float64(n)}, err
}

// note adds a flow to the report.
func (b *bench) note(section, what string, e entry, f flow) {
	b.report.add(section, what, e.name, perSecond, f.perSecond)
	b.report.add(section, what+processors, e.name, cpuUnit, f.cpu)
}

// warm emits some events and waits for them: then everything is connected and running, and each connection of the application has once done
// what it will do, which the server and the driver prepare when they first meet it there.
func (b *bench) warm(ctx context.Context, c contestant, t *tally) error {
	var group, begun sync.WaitGroup
	begun.Add(b.connections)
	errs := make([]error, b.connections)
	for i := range errs {
		group.Go(func() {
			came := sync.OnceFunc(begun.Done)
			defer came() // nobody waits for one that failed
			errs[i] = c.transact(ctx, t.next(1), func(ctx context.Context, tx pgx.Tx) error {
				came()
				begun.Wait() // so that each has a connection of its own
				return enrol(ctx, tx)
			})
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for range warmUp / 100 {
		if err := c.transact(ctx, t.next(100), enrol); err != nil {
			return err
		}
	}
	if err := c.emit(ctx, t.next(1)); err != nil {
		return err
	}
	return t.await(ctx, drainWait)
}

// callers emits from so many goroutines until the time is over.
func (b *bench) callers(ctx context.Context, c contestant, t *tally, s shape) error {
	var group sync.WaitGroup
	var failed atomic.Pointer[error]
	end := time.Now().Add(b.time)
	for range s.callers {
		group.Go(func() {
			for time.Now().Before(end) && failed.Load() == nil {
				err := t.enter(ctx, s.unit)
				if err == nil {
					err = s.emit(ctx, c, t.next(s.unit))
				}
				if err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// await waits until everything emitted is handled.
func (t *tally) await(ctx context.Context, patience time.Duration) error {
	seen, since := t.handled.Load(), time.Now()
	for t.handled.Load() < t.emitted.Load() {
		if now := t.handled.Load(); now != seen {
			seen, since = now, time.Now()
		}
		if time.Since(since) > patience {
			return t.lost()
		}
		if !pauseAfter(ctx, time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// during runs fn while work runs, ends work and waits for it. When work ends before, fn is told to.
func during(ctx context.Context, work, fn func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	worked := make(chan error, 1)
	working, stop := context.WithCancel(ctx)
	go func() {
		err := work(working)
		if err != nil {
			cancel(fmt.Errorf("it ended by itself: %w", err))
		}
		worked <- err
	}()
	err := fn(ctx)
	stop()
	if ended := <-worked; err == nil || ended != nil && errors.Is(err, context.Canceled) {
		err = ended
	}
	cancel(nil)
	return err
}

// startProfile writes a CPU profile of a measurement of Pulse, when that is wanted, until the returned function is called.
func (b *bench) startProfile(e entry, s shape) (stop func(), err error) {
	if b.profile == "" || !strings.HasPrefix(e.name, "pulse") {
		return func() {}, nil
	}
	name := fmt.Sprintf("%s-%d-callers-%d-events-tx-%t.pprof", strings.ReplaceAll(strings.ReplaceAll(e.name, ",", ""), " ", "-"), s.callers, s.unit, s.inTx)
	file, err := os.Create(filepath.Join(b.profile, name))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close() // an incomplete profile shows when it is read
	}, nil
}
