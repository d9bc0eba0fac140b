package pulse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// Run runs the subscriptions and blocks until ctx ends. Then it reads no more, lets running handlers finish
// within the drain timeout, saves how far they came and returns nil. Interrupted deliveries come again later and
// have spent no attempt.
//
// Several processes may run the same subscription on one store: one of them is active, another takes over when it
// ends.
//
// A subscription or destination that does not match the log, because that was restored or replaced, is paused with an ErrDiverged as
// the reason, until a person resumes it; the others go on. When all of this bus are stopped so Run returns why. Its other errors
// are a closed store and a subscription that was dropped while it ran; then all have been stopped.
func (b *Bus) Run(ctx context.Context) error {
	return b.runAs(ctx, false)
}

// runAs is Run, on behalf of Drain or not. Only a Run beside a Run is an error: else the second waits for the first to end.
func (b *Bus) runAs(ctx context.Context, drain bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		active, err := b.begin(cancel, drain)
		if err != nil {
			return err
		}
		if active == nil {
			break
		}
		select {
		case <-active:
		case <-ctx.Done():
			return nil
		}
	}
	defer b.end()
	return b.run(ctx, cancel)
}

// begin claims the bus for running. While it has to wait, active is closed when who has the bus ends.
func (b *Bus) begin(cancel context.CancelFunc, drain bool) (active <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return nil, fmt.Errorf("run: %w: the bus was closed", ErrClosed)
	case b.running && (b.draining || drain):
		return b.stopped, nil
	case b.running:
		return nil, fmt.Errorf("run: %w: this bus is running already", ErrInvalid)
	}
	b.running, b.draining, b.stop, b.stopped = true, drain, cancel, make(chan struct{})
	return nil, nil
}

func (b *Bus) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.stopped)
	b.running, b.draining, b.stop, b.stopped = false, false, nil, nil
}

// run runs everything until ctx ends or one part fails.
func (b *Bus) run(ctx context.Context, cancel context.CancelFunc) error {
	var background, runners sync.WaitGroup
	watch, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	background.Go(func() { b.watchHead(watch) })
	if h, ok := b.store.(Hinter); ok {
		background.Go(func() { b.listen(watch, h) })
	}
	if ix, ok := b.store.(Indexer); ok {
		background.Go(func() { b.keepIndexed(ctx, ix) })
	}
	errs := make(chan error, len(b.runners))
	for _, r := range b.runners {
		r.diverged.Store(nil) // as it was in a former Run
	}
	for _, r := range b.runners {
		runners.Go(func() {
			if err := r.run(ctx); err != nil {
				errs <- err
				cancel()
			}
		})
	}
	<-ctx.Done()
	runners.Wait()
	unwatch()
	background.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Drain runs the subscriptions until all that was emitted is handled, a dead letter or behind one, and returns. It waits for retries, for what
// handlers emit, and for each destination to be asked whether it still has what was published. While Run is active on this bus
// it only waits.
func (b *Bus) Drain(ctx context.Context) error {
	b.mu.Lock()
	runners := maps.Clone(b.runners)
	b.mu.Unlock()
	for _, r := range runners {
		r.draining.Add(1)
		defer r.draining.Add(-1)
	}
	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() {
		err := b.runAs(runCtx, true)
		ran <- err
		stop()
	}()
	err := b.awaitDrained(runCtx, runners)
	stop()
	if runErr := <-ran; runErr != nil {
		return runErr
	}
	return err
}

// awaitDrained waits until every one of runners has nothing left to do.
func (b *Bus) awaitDrained(ctx context.Context, runners map[string]*runner) error {
	for {
		drained, err := b.drained(ctx, runners)
		if ctx.Err() != nil && b.isClosed() {
			return fmt.Errorf("drain: %w: the bus was closed before everything was handled", ErrClosed)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("drain: %w before everything was handled", ctx.Err())
		}
		if drained || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-b.saved:
		case <-time.After(pollInterval):
		}
	}
}

func (b *Bus) drained(ctx context.Context, runners map[string]*runner) (bool, error) {
	if len(runners) == 0 {
		return true, nil
	}
	states, err := b.Subscriptions(ctx)
	if err != nil {
		return false, fmt.Errorf("drain: %w", err)
	}
	info, err := b.store.Info(ctx) // afterwards: the head is beyond what the handlers emitted that the cursors have passed
	if err != nil {
		return false, fmt.Errorf("drain: %w", err)
	}
	done := true
	for _, s := range states {
		r := runners[s.Name]
		if r == nil {
			continue
		}
		if err := diverged(&s); err != nil {
			return false, fmt.Errorf("drain: %w", err)
		}
		if s.PausedUntil.Equal(Forever) {
			return false, fmt.Errorf("drain: subscription %q is paused (%s): resume it first", s.Name, s.PauseReason)
		}
		done = done && s.Cursor.Position >= info.Head && s.Retries == 0 && (r.sub.publisher == nil || r.healed.Load())
	}
	return done, nil
}

// keepIndexed fills the store's index of the log whenever for a while nothing was emitted and nothing handled.
func (b *Bus) keepIndexed(ctx context.Context, ix Indexer) {
	const quiet, step = 250 * time.Millisecond, 1000
	indexed := Position(-1)
	for b.head.wait(ctx, indexed) == nil {
		head, handled := b.head.now(), b.handled.Load()
		pause(ctx, quiet)
		for more := true; more && ctx.Err() == nil && b.head.now() == head && b.handled.Load() == handled; {
			var err error
			if more, err = ix.Index(ctx, step); err != nil && ctx.Err() == nil {
				b.log.Warn("pulse: the index of the log was not filled, queries scan more", "error", err)
			}
			if more = more && err == nil; !more {
				indexed = head
			}
		}
	}
}
