package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/edupulse-live/pulse"
)

// life is one process from its start to its end.
type life struct {
	*node
	bus    *pulse.Bus
	cancel context.CancelFunc
	ran    chan error
}

// slot keeps one process running: when it dies the next one starts after a while. Once faults have ended it reports
// that it stands.
func (w *world) slot(i int) {
	r := w.plan.stream(fmt.Sprintf("slot/%d", i))
	stands := sync.OnceFunc(w.standing.Done)
	defer stands()
	for n := 1; ; n++ {
		healed := w.isHealed()
		if healed && w.plan.restart && i > 0 {
			return
		}
		if l := w.start(fmt.Sprintf("%c%d", 'a'+i, n), r, healed && w.plan.restart); l != nil {
			w.setLife(i, l)
			if healed {
				stands()
			}
			ended := w.endure(l, r, healed, stands)
			w.setLife(i, nil)
			if ended {
				return
			}
		}
		select {
		case <-w.healed:
		case <-time.After(between(r, 50*time.Millisecond, 7*time.Second)):
		}
	}
}

// start starts a process; nil when it died meanwhile. One that only drains does not run.
func (w *world) start(name string, r *rand.Rand, drains bool) *life {
	l := &life{node: w.newNode(name), ran: make(chan error, 1)}
	for l.bus == nil {
		if l.isDead() {
			return nil
		}
		bus, err := w.open(l.node)
		if err != nil {
			w.trace("%s does not start: %v", name, err)
			time.Sleep(between(r, 10*time.Millisecond, 500*time.Millisecond))
			continue
		}
		l.bus = bus
	}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	if drains {
		context.AfterFunc(ctx, func() { l.ran <- nil })
	} else {
		go func() { l.ran <- l.bus.Run(ctx) }()
	}
	w.trace("%s runs", name)
	return l
}

// open makes the bus of a process.
func (w *world) open(n *node) (*pulse.Bus, error) {
	bus, err := pulse.New(n, &pulse.Options{Source: "/school", DrainTimeout: w.plan.drain, Logger: w.log})
	if err != nil {
		return nil, err
	}
	if w.plan.broker != nil {
		if err := bus.Publish(school, w.parts.publisher(w.dest.outlet(n)), w.plan.broker.options()...); err != nil {
			return nil, err
		}
	}
	for _, s := range w.plan.subs {
		if err := bus.Subscribe(s.name, w.handlers(n, bus, s)...); err != nil {
			return nil, err
		}
	}
	return bus, nil
}

// endure lives through what happens to a process until its end. It reports whether the schedule is over.
func (w *world) endure(l *life, r *rand.Rand, healed bool, stands func()) bool {
	heals := w.healed
	if healed {
		heals = nil
	}
	for !l.isDead() {
		next := time.NewTimer(between(r, 500*time.Millisecond, 8*time.Second))
		select {
		case <-next.C:
			if !w.isHealed() && len(w.plan.chaos) > 0 {
				w.befall(l, r, w.plan.chaos[r.IntN(len(w.plan.chaos))])
			}
		case <-heals:
			heals = nil
			if w.plan.restart {
				w.stop(l, r)
			}
			stands()
		case <-w.over:
			w.stop(l, r)
			return true
		case <-l.dead:
		case err := <-l.ran:
			if !l.isDead() {
				w.violate("run: %s returned by itself: %v", l.name, err)
			}
			l.kill()
			return false
		}
		next.Stop()
	}
	w.trace("%s is dead", l.name)
	if !l.stops.Load() {
		w.cover("a process died")
	}
	l.cancel()
	<-l.ran
	return false
}

// befall lets one thing happen to a process.
func (w *world) befall(l *life, r *rand.Rand, what string) {
	switch what {
	case "kill":
		w.coverBusy("a process killed from outside", l)
		w.trace("%s is killed", l.name)
		l.kill()
	case "stop":
		w.stop(l, r)
	case "freeze":
		d := between(r, 100*time.Millisecond, 11*time.Second)
		w.coverBusy("a process frozen", l)
		w.trace("%s is frozen for %v", l.name, d)
		l.suspend(d)
		w.trace("%s is thawed", l.name)
	}
}

// coverBusy covers what happened with handlers running, and without.
func (w *world) coverBusy(what string, l *life) {
	w.history.mu.Lock()
	busy := false
	for r, calls := range w.history.running {
		busy = busy || r.node == l.node && len(calls) > 0
	}
	w.history.mu.Unlock()
	if busy {
		w.cover(what + " while it handled")
	} else {
		w.cover(what + " while it was idle")
	}
}

// stop lets a process end gracefully. Its goroutines that are left behind die with it.
func (w *world) stop(l *life, r *rand.Rand) {
	w.coverBusy("a graceful stop", l)
	w.trace("%s stops", l.name)
	l.stops.Store(true)
	begun := time.Now()
	closes := chance(r, 0.3)
	if closes {
		_ = l.bus.Close() // it stops Run and waits for it
	}
	l.cancel()
	err := <-l.ran
	l.ran <- err
	took := time.Since(begun)
	if early := closes && errors.Is(err, pulse.ErrClosed); err != nil && !early && !l.isDead() {
		w.violate("G20: Run of %s returned %v after a graceful stop", l.name, err)
	}
	if limit := w.plan.drain + 2*time.Second; w.plan.calm && took > limit {
		w.violate("G20: %s took %v to stop, its limit is %v", l.name, took, limit)
	}
	if err := l.bus.Close(); err != nil && !errors.Is(err, pulse.ErrClosed) {
		w.violate("G20: Close of %s: %v", l.name, err)
	}
	w.trace("%s has stopped", l.name)
	l.kill()
}

func (w *world) setLife(i int, l *life) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l == nil {
		delete(w.lives, i)
		return
	}
	w.lives[i] = l
}

// pick chooses a living process; nil when there is none now.
func (w *world) pick(r *rand.Rand) *life {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lives) == 0 {
		return nil
	}
	i := r.IntN(w.plan.instances)
	for w.lives[i] == nil {
		i = (i + 1) % w.plan.instances
	}
	return w.lives[i]
}

// anyLife is a living process to drain through, once all stand that will.
func (w *world) anyLife() *life {
	r := w.plan.stream("drain")
	w.standing.Wait()
	for range 100 {
		if l := w.pick(r); l != nil && !l.isDead() {
			return l
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}
