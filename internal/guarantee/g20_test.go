//go:build unix

package guarantee

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// serveUntilSignalled is a process that handles until SIGTERM, and emits meanwhile when it has a Base. Its handlers take their time:
//
//	effects    write an effect in their transaction
//	slow       take 100 ms
//	patient    take an hour, or until their context ends
//	deaf       take an hour, whatever happens
func serveUntilSignalled(ctx context.Context, c *child) error {
	c.say("serving") // and listening to signals
	opts := append(c.fed, pulse.Start(pulse.Beginning), attempts(max(1, c.Tries)))
	if c.Handler == "effects" {
		opts = append(opts, c.onTx(func(ctx context.Context, tx any, e lesson) error { return c.write(ctx, tx, c.bus, e.N) }))
	} else {
		opts = append(opts, pulse.On(func(ctx context.Context, e lesson) error {
			c.say("begun %d", e.N)
			if err := c.takeTime(ctx); err != nil {
				return err
			}
			c.say("handled %d", e.N)
			return nil
		}))
	}
	if err := c.bus.Subscribe(subscriptionName, opts...); err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { c.say("stopping") })
	var emitting sync.WaitGroup
	if c.Base > 0 {
		emitting.Go(func() { c.emitUntil(ctx) })
	}
	err := c.bus.Run(ctx)
	emitting.Wait()
	c.say("stopped")
	return err
}

func (c *child) takeTime(ctx context.Context) error {
	switch c.Handler {
	case "slow":
		time.Sleep(100 * time.Millisecond)
	case "patient":
		<-ctx.Done()
		return ctx.Err()
	case "deaf":
		time.Sleep(time.Hour)
	}
	return nil
}

// emitUntil emits and says what was acknowledged.
func (c *child) emitUntil(ctx context.Context) {
	for n := c.Base; ctx.Err() == nil; n++ {
		id, err := c.bus.Emit(ctx, lesson{Key: "served", N: n})
		switch {
		case err == nil:
			c.say("ack %s", id)
		case !errors.Is(err, context.Canceled):
			c.say("error %v", err)
		}
	}
}

// SIGTERM: the running handlers finish, no others begin, what was handled is saved, and the process ends by itself.
func TestG20_SigtermDrains(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		n := 100
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(n, n)...)
		handled, stops := map[string]int{}, 0
		for ; len(handled) < n; stops++ {
			p := start(t, k, w.place, childSpec{Role: "serve", Handler: "slow", Drain: time.Minute})
			p.awaitLines(t, "begun", min(9, n-len(handled)))
			p.signal(t, syscall.SIGTERM)
			p.awaitLines(t, "stopping", 1)
			begun := len(p.lines("begun"))
			if state := p.wait(t); !state.Success() {
				t.Fatalf("the process ended by %s: %s", state, p.stderr.tail(10))
			}
			if late := len(p.lines("begun")) - begun; late > 8 {
				t.Errorf("%d handlers began after the signal", late)
			}
			if len(p.lines("handled")) != len(p.lines("begun")) {
				t.Errorf("%d handlers began, %d finished", len(p.lines("begun")), len(p.lines("handled")))
			}
			for _, line := range p.lines("handled ") {
				handled[line]++
			}
			if holder := w.state(t, subscriptionName).Holder; holder != "" {
				t.Errorf("after a clean stop %s has the lease", holder)
			}
			w.expectNoAttempts(t)
		}
		for lesson, times := range handled {
			if times != 1 {
				t.Errorf("lesson %s was handled %d times", lesson, times)
			}
		}
		t.Logf("%d stops for %d events", stops, n)
		atLeast(t, "stops", stops, 3)
	})
}

// expectNoAttempts fails the test if a delivery has spent an attempt.
func (w *world) expectNoAttempts(t *testing.T) {
	t.Helper()
	for _, row := range w.deliveries(t, subscriptionName) {
		if row.Attempt > 0 || row.Status == pulse.StatusDead {
			t.Errorf("an attempt was spent: %+v", row)
		}
	}
}

// Handlers that take longer than the drain timeout are interrupted, and left behind if they do not listen. The process ends in time.
func TestG20_DrainHasALimit(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		for _, handler := range []string{"patient", "deaf"} {
			t.Run(handler, func(t *testing.T) {
				t.Parallel()
				const drain = 300 * time.Millisecond
				w := open(t, newPlace(t, k), "")
				w.emit(t, numbered(20, 20)...)
				p := start(t, k, w.place, childSpec{Role: "serve", Handler: handler, Drain: drain})
				p.awaitLines(t, "begun", 8)
				began := time.Now()
				p.signal(t, syscall.SIGTERM)
				state := p.wait(t)
				took := time.Since(began)
				if !state.Success() {
					t.Errorf("the process ended by %s: %s", state, p.stderr.tail(10))
				}
				if took < drain || took > drain+10*time.Second { // one second for those that do not listen, and a busy machine
					t.Errorf("it took %s to stop, with a limit of %s", took, drain)
				}
				w.expectNoAttempts(t)
				w.expectAllHandled(t, k, 20)
				t.Logf("stopped after %s", took)
			})
		}
	})
}

// expectAllHandled lets another process handle what there is.
func (w *world) expectAllHandled(t *testing.T, k kind, n int) {
	t.Helper()
	p := start(t, k, w.place, childSpec{Role: "serve", Handler: "slow", Drain: time.Minute})
	p.awaitLines(t, "handled", n)
	p.signal(t, syscall.SIGTERM)
	if state := p.wait(t); !state.Success() {
		t.Errorf("the process ended by %s: %s", state, p.stderr.tail(10))
	}
	w.expectNoAttempts(t)
}

// A second signal ends the process at once. What it was handling is handled by the next one.
func TestG20_SecondSignalAborts(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(20, 20)...)
		p := start(t, k, w.place, childSpec{Role: "serve", Handler: "patient", Drain: time.Hour})
		p.awaitLines(t, "begun", 8)
		p.signal(t, syscall.SIGTERM)
		p.awaitLines(t, "stopping", 1)
		select {
		case <-p.ended:
			t.Fatalf("the first signal has ended it: %s", p.cmd.ProcessState)
		case <-time.After(50 * time.Millisecond):
		}
		p.signal(t, syscall.SIGTERM)
		state := p.wait(t)
		if status := state.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGTERM {
			t.Errorf("the second signal: %s", state)
		}
		w.expectAllHandled(t, k, 20)
	})
}

// Signals, one or two, while the process is at each point of its writes, which take their time: all other promises hold.
func TestG20_SignalsAtFailpoints(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		n, acked, drained, aborted := 150, 0, 0, 0
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(n, 7)...)
		var acks []string
		for i, point := range failpoint.Names() {
			for _, signals := range []int{1, 2} {
				p := start(t, k, w.place, childSpec{
					Role: "serve", Handler: "effects", Drain: 20 * time.Second, Failpoints: point + "=sleep:20ms", Base: 1000 * (2*i + signals),
					Tries: 5, // who aborts a process takes an attempt away from what it was handling
				})
				p.awaitLines(t, "serving", 1)
				if !strings.HasPrefix(point, "lease.") {
					p.awaitLines(t, "ack", 2)
				}
				time.Sleep(time.Duration(random.IntN(40)) * time.Millisecond)
				p.signal(t, syscall.SIGTERM)
				if signals == 2 {
					time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond)
					_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
				}
				switch state := p.wait(t); {
				case state.Success():
					drained++
				case state.Sys().(syscall.WaitStatus).Signaled():
					aborted++ // by the second one, or because it had not even begun
				default:
					t.Errorf("%s: the process ended by %s: %s", point, state, p.stderr.tail(10))
				}
				acks = append(acks, p.lines("ack ")...)
				for _, line := range p.lines("error") {
					t.Errorf("%s: emit: %s", point, line)
				}
			}
		}
		stored := w.stored(t)
		for _, ack := range acks {
			acked++
			if _, ok := stored[uuid.MustParse(ack)]; !ok {
				t.Errorf("event %s was acknowledged and is lost", ack)
			}
		}
		p := start(t, k, w.place, childSpec{Role: "handle", Handler: "single"})
		p.awaitLines(t, "drained", 1)
		effects, lessons := w.effects(t), w.lessons(t)
		for i := range lessons {
			if effects[i] != 1 {
				t.Errorf("effect of lesson %d: %d times", i, effects[i])
			}
		}
		if len(effects) != len(lessons) {
			t.Errorf("%d effects for %d lessons", len(effects), len(lessons))
		}
		if err := w.check(t.Context()); err != nil {
			t.Error(err)
		}
		t.Logf("seed %d: %d processes drained, %d aborted, %d emits acknowledged, %d events handled", seed, drained, aborted, acked, len(lessons))
		atLeast(t, "processes that drained", drained, len(failpoint.Names()))
		atLeast(t, "processes aborted", aborted, 1)
		atLeast(t, "emits acknowledged", acked, 20)
	})
}
