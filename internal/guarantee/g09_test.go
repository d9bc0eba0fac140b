//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// A failing handler is tried so many times, then its delivery is a dead letter with error, attempts and, for a panic, the
// stack; its payload can be read. All others are handled.
func TestG09_FailingHandlersEndAsDeadLetters(t *testing.T) {
	t.Parallel()
	failures := map[string]struct {
		fail  func(ctx context.Context) error
		error string // part of the dead letter's
		stack bool
	}{
		"error":  {func(context.Context) error { return errors.New("mailbox full") }, "mailbox full", false},
		"panic":  {func(context.Context) error { panic("index out of range") }, "index out of range", true},
		"goexit": {func(context.Context) error { runtime.Goexit(); return nil }, "Goexit", false},
		"hang":   {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "timeout of 2s exceeded", false},
	}
	const timeout = 2 * time.Second // others are never so long about it, or their transactions would be rolled back and they handled again
	each(t, func(t *testing.T, k kind) {
		for how, f := range failures {
			t.Run(how, func(t *testing.T) {
				t.Parallel()
				eachFeed(t, []string{"plain", "transaction", "batch", "ordered"}, func(t *testing.T, sort string, feed feed) {
					const n, culprit, tries = 60, 23, 3
					p := &poisoned{world: open(t, newPlace(t, k), ""), seen: newTally(), culprits: map[int]bool{culprit: true}, fail: f.fail}
					p.emit(t, numbered(n, n)...) // each with a key of its own
					p.subscribe(t, subscriptionName, append(p.fedWithRecord(t, feed), append(p.options(sort), attempts(tries), pulse.Timeout(timeout), pulse.Start(pulse.Beginning))...)...)
					p.drain(t)
					p.checkDead(t, tries, f.error, f.stack)
					p.checkOthers(t, n)
					if sort != "batch" && p.calls.Load() != tries { // a batch is also split
						t.Errorf("the culprit was tried %d times, want %d", p.calls.Load(), tries)
					}
				})
			})
		}
	})
}

// fedWithRecord is fed, for a test in which no message may be acknowledged whose event would be lost if the process ended then: it is
// handled, or its failure is recorded, or the cursor in the store has not passed it, so that it comes again from the log.
func (p *poisoned) fedWithRecord(t *testing.T, feed feed) []pulse.SubscribeOption {
	t.Helper()
	opts, witness := p.fed(t, feed)
	if witness == nil {
		return nil
	}
	witness.check = func(ps []pulse.Position) error {
		states, err := p.raw.States(context.Background())
		if err != nil {
			return err
		}
		rows, err := p.raw.List(context.Background(), pulse.DeliveryQuery{Subscription: subscriptionName})
		if err != nil {
			return err
		}
		var passed pulse.Position
		for _, s := range states {
			if s.Name == subscriptionName {
				passed = s.Cursor.Position
			}
		}
		recorded := map[pulse.Position]bool{}
		for _, row := range rows {
			recorded[row.Position] = true
		}
		for _, at := range ps {
			if at <= passed && !recorded[at] && p.seen.counts()[int(at)-1] == 0 {
				return fmt.Errorf("position %d is not handled, has no record, and lies before the cursor at %d", at, passed)
			}
		}
		return nil
	}
	return opts
}

// poisoned is a world with a handler that fails for culprits.
type poisoned struct {
	*world
	seen     *tally
	culprits map[int]bool
	fail     func(ctx context.Context) error
	calls    atomic.Int64 // with a culprit
}

func (p *poisoned) handle(ctx context.Context, e lesson) error {
	if p.culprits[e.N] {
		p.calls.Add(1)
		return p.fail(ctx)
	}
	p.seen.add(e)
	return nil
}

// options are the sorts of handlers.
func (p *poisoned) options(sort string) []pulse.SubscribeOption {
	switch sort {
	case "transaction":
		return []pulse.SubscribeOption{p.onTx(func(ctx context.Context, _ any, e lesson) error { return p.handle(ctx, e) })}
	case "batch":
		return []pulse.SubscribeOption{pulse.OnBatch(lessonName, 16, func(ctx context.Context, ds []pulse.Delivery) error {
			var good []lesson
			for i := range ds {
				var e lesson
				if err := ds[i].Decode(&e); err != nil {
					return err
				}
				if p.culprits[e.N] {
					return p.handle(ctx, e)
				}
				good = append(good, e)
			}
			for _, e := range good {
				p.seen.add(e)
			}
			return nil
		})}
	case "ordered":
		return []pulse.SubscribeOption{pulse.On(p.handle), pulse.Ordered()}
	}
	return []pulse.SubscribeOption{pulse.On(p.handle)}
}

// checkDead checks the dead letters of the culprits.
func (p *poisoned) checkDead(t *testing.T, tries int, text string, stack bool) {
	t.Helper()
	rows := p.deliveries(t, subscriptionName)
	if len(rows) != len(p.culprits) {
		t.Errorf("%d rows for %d culprits: %+v", len(rows), len(p.culprits), rows)
	}
	for _, row := range rows {
		if row.Status != pulse.StatusDead || row.Attempt != tries || row.FailedAt.IsZero() || row.Name != lessonName {
			t.Errorf("want a dead letter of %d attempts: %+v", tries, row)
		}
		if !strings.Contains(row.Error, text) || stack != strings.Contains(row.Stack, "goroutine") {
			t.Errorf("want an error with %q and a stack %t: %q, stack %q", text, stack, row.Error, row.Stack)
		}
		var found []lesson
		for l, err := range pulse.Load[lesson](t.Context(), p.bus, pulse.Query{After: row.Position - 1, Through: row.Position}) {
			if err != nil {
				t.Error(err)
			}
			found = append(found, l.Event)
		}
		if len(found) != 1 || !p.culprits[found[0].N] || found[0].Key != row.Key {
			t.Errorf("the payload of the dead letter at %d is %+v", row.Position, found)
		}
	}
}

// checkOthers checks that all but the culprits were handled, and once.
func (p *poisoned) checkOthers(t *testing.T, n int) {
	t.Helper()
	count := p.seen.counts()
	for i := range n {
		if want := 1; !p.culprits[i] && count[i] != want {
			t.Errorf("lesson %d was handled %d times, want %d", i, count[i], want)
		}
	}
}

// With one attempt, the culprit alone of a batch is a dead letter.
func TestG09_BatchIsSplitToTheCulprits(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		for how, fail := range map[string]func(context.Context) error{
			"error":  func(context.Context) error { return errors.New("mailbox full") },
			"panic":  func(context.Context) error { panic("index out of range") },
			"goexit": func(context.Context) error { runtime.Goexit(); return nil },
		} {
			eachFeed(t, []string{how}, func(t *testing.T, how string, feed feed) {
				const n = 64
				p := &poisoned{world: open(t, newPlace(t, k), ""), seen: newTally(), culprits: map[int]bool{5: true, 6: true, 50: true}, fail: fail}
				p.emit(t, numbered(n, n)...)
				p.subscribe(t, subscriptionName, append(p.fedWithRecord(t, feed), append(p.options("batch"), attempts(1), pulse.Start(pulse.Beginning))...)...)
				stop := p.run(t) // who drains does not wait for the broker
				await(t, "all are handled or dead", func() bool {
					s := p.state(t, subscriptionName)
					return s.Cursor.Position >= n && s.Retries+s.Waiting == 0 && s.Dead == len(p.culprits)
				})
				stop()
				p.checkDead(t, 1, "", how == "panic")
				p.checkOthers(t, n)
			})
		}
	})
}

// A handler that does not return at all holds up nothing but itself, is shown, is never run a second time beside itself, and
// is judged when it returns.
func TestG09_HungHandlerHoldsUpOnlyItself(t *testing.T) {
	t.Parallel()
	eachKindAndFeed(t, func(t *testing.T, k kind, feed feed) {
		const n, culprit, tries = 200, 17, 2
		release := make(chan struct{})
		var beside, most atomic.Int64
		p := &poisoned{world: open(t, newPlace(t, k), ""), seen: newTally(), culprits: map[int]bool{culprit: true}, fail: func(context.Context) error {
			if now := beside.Add(1); now > most.Load() {
				most.Store(now)
			}
			defer beside.Add(-1)
			<-release
			return errors.New("at last")
		}}
		p.emit(t, numbered(n, n)...)
		fed, _ := p.fed(t, feed)
		p.subscribe(t, subscriptionName, append(append(fed, p.options("ordered")...), attempts(tries), pulse.Timeout(30*time.Millisecond), pulse.Start(pulse.Beginning))...)
		p.run(t)
		await(t, "all others are handled and the hung one is shown", func() bool {
			rows, state := p.deliveries(t, subscriptionName), p.state(t, subscriptionName)
			return p.seen.distinct() == n-1 && len(rows) == 1 && strings.Contains(rows[0].Error, "did not return") && state.Lag() == 0
		})
		p.emit(t, lesson{Key: "later", N: n})
		await(t, "a later event is handled", func() bool { return p.seen.distinct() == n })
		close(release)
		await(t, "it is a dead letter", func() bool { return p.state(t, subscriptionName).Dead == 1 })
		p.checkDead(t, tries, "at last", false)
		if most.Load() != 1 || p.calls.Load() != tries {
			t.Errorf("the hung handler ran %d times, %d beside each other", p.calls.Load(), most.Load())
		}
	})
}

// After a crash deliveries are tried one at a time; also then a handler that does not return holds up only itself.
func TestG09_HungHandlerAfterACrashHoldsUpOnlyItself(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		const n, culprit = 100, 3
		release := make(chan struct{})
		p := &poisoned{world: open(t, newPlace(t, k), ""), seen: newTally(), culprits: map[int]bool{culprit: true}, fail: func(context.Context) error {
			<-release
			return nil
		}}
		p.emit(t, numbered(n, n)...)
		crashed := start(t, k, p.place, childSpec{Role: "serve", Handler: "patient"})
		crashed.awaitLines(t, "begun", 8)
		crashed.kill()
		p.subscribe(t, subscriptionName, append(p.options("plain"), attempts(2), pulse.Timeout(30*time.Millisecond), pulse.Start(pulse.Beginning))...)
		stop := p.run(t)
		await(t, "all others are handled", func() bool { return p.seen.distinct() == n-1 })
		close(release)
		p.drain(t)
		stop()
		if rows := p.deliveries(t, subscriptionName); len(rows) > 0 || p.calls.Load() != 1 {
			t.Errorf("%d calls, left %+v", p.calls.Load(), rows)
		}
	})
}

// The waits between attempts grow, and are not the same for all.
func TestG09_BackoffGrowsWithJitter(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		const n, tries, first = 20, 3, 120 * time.Millisecond
		var mu sync.Mutex
		calls := map[int][]time.Time{}
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(n, n)...)
		w.subscribe(t, subscriptionName, pulse.Start(pulse.Beginning), pulse.Concurrency(n), pulse.PauseAfter(10*n*tries),
			pulse.Retry(pulse.RetryPolicy{Attempts: tries, First: first}),
			pulse.On(func(_ context.Context, e lesson) error {
				mu.Lock()
				defer mu.Unlock()
				calls[e.N] = append(calls[e.N], time.Now())
				return errors.New("no")
			}))
		w.drain(t)
		waits := map[time.Duration]bool{}
		for i, times := range calls {
			if len(times) != tries {
				t.Errorf("lesson %d was tried %d times, want %d", i, len(times), tries)
			}
			for j := 1; j < len(times); j++ {
				wait, least := times[j].Sub(times[j-1]), first<<(j-1)/2
				if wait < least {
					t.Errorf("lesson %d waited %s before attempt %d, want at least %s", i, wait, j+1, least)
				}
			}
			for _, row := range w.deliveries(t, subscriptionName) {
				waits[row.FailedAt.Sub(times[0]).Truncate(time.Millisecond)] = true
			}
		}
		atLeast(t, "different times of the last attempts", len(waits), 3)
	})
}

// A handler ends its process. It is found and given up after its attempts, and all others are handled.
func TestG09_HandlerThatEndsTheProcessIsFound(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		for _, how := range []string{"exit", "kill", "fatal"} {
			t.Run(how, func(t *testing.T) {
				t.Parallel()
				eachFeed(t, []string{"plain", "transaction", "batch", "ordered"}, func(t *testing.T, sort string, feed feed) {
					if feed.name != fromLog && how != "kill" {
						return // for the broker all ends are the same
					}
					n, tries, culprits := 60, scaled(3, 2), map[int]bool{23: true, 24: true}
					w := open(t, newPlace(t, k), "")
					w.emit(t, numbered(n, n)...)
					spec := childSpec{Role: "die", Handler: how + "/" + sort, Tries: tries}
					if b := feed.open(t); b != nil {
						spec.Broker, spec.TTL = address(b, ""), 200*time.Millisecond
					}
					deaths, most := 0, len(culprits)*tries+1
					handled := map[int]int{}
					for ; ; deaths++ {
						if deaths > most {
							t.Fatalf("the process died %d times: rows %+v", deaths, w.deliveries(t, subscriptionName))
						}
						c := start(t, k, w.place, spec)
						c.wait(t)
						for _, line := range c.lines("handled ") {
							i, err := strconv.Atoi(line)
							if err != nil {
								t.Fatal(err)
							}
							handled[i]++
						}
						if len(c.lines("drained")) > 0 {
							break
						}
					}
					p := &poisoned{world: w, culprits: culprits}
					p.checkDead(t, tries, "process died", false)
					twice := 0
					for i := range n {
						if !culprits[i] && handled[i] == 0 {
							t.Errorf("lesson %d was not handled", i)
						}
						twice += max(0, handled[i]-1)
					}
					t.Logf("%d deaths for %d culprits of %d attempts, %d deliveries came again", deaths, len(culprits), tries, twice)
					atLeast(t, "deaths", deaths, len(culprits)*tries)
				})
			})
		}
	})
}

// dieHandling is a process whose handlers end it for two lessons.
func dieHandling(ctx context.Context, c *child) error {
	how, sort, _ := strings.Cut(c.Handler, "/")
	p := &poisoned{world: c.world, seen: newTally(), culprits: map[int]bool{23: true, 24: true}, fail: func(context.Context) error { return die(how) }}
	p.seen.each = func(e lesson) { c.say("handled %d", e.N) }
	if err := c.bus.Subscribe(subscriptionName, append(append(c.fed, p.options(sort)...), attempts(c.Tries), pulse.Start(pulse.Beginning))...); err != nil {
		return err
	}
	err := c.bus.Drain(ctx)
	if err == nil {
		c.say("drained")
	}
	return err
}

// A handler that ends the process is not alone: beside it runs another subscription, whose handlers take long and are
// interrupted each time. None of them is blamed.
func TestG09_InnocentsAreNotBlamedForTheEndOfTheProcess(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		n, tries := 3, 3
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(n, n)...)
		deaths, interrupted, handled := 0, 0, map[string]bool{}
		for ; ; deaths++ {
			if deaths > tries+1 {
				t.Fatalf("the process died %d times: rows %+v", deaths, w.deliveries(t, ""))
			}
			c := start(t, k, w.place, childSpec{Role: "die beside", Tries: tries})
			c.wait(t)
			interrupted += len(c.lines("begun ")) - len(c.lines("handled "))
			for _, line := range c.lines("handled ") {
				handled[line] = true
			}
			if len(c.lines("drained")) > 0 {
				break
			}
		}
		p := &poisoned{world: w, culprits: map[int]bool{1: true}}
		p.checkDead(t, tries, "process died", false)
		if len(handled) != n {
			t.Errorf("%d of %d were handled by the other subscription: %+v", len(handled), n, w.deliveries(t, "slow"))
		}
		t.Logf("%d deaths, %d innocent deliveries interrupted", deaths, interrupted)
		atLeast(t, "deaths", deaths, tries)
		atLeast(t, "innocent deliveries interrupted", interrupted, 1)
	})
}

// dieBeside is dieHandling beside a subscription that is slow.
func dieBeside(ctx context.Context, c *child) error {
	begun := make(chan struct{}, 1000)
	err := c.bus.Subscribe("slow", attempts(c.Tries), pulse.Start(pulse.Beginning), pulse.On(func(_ context.Context, e lesson) error {
		c.say("begun %d", e.N)
		if e.N == 0 { // a long job
			begun <- struct{}{}
			time.Sleep(200 * time.Millisecond)
		}
		c.say("handled %d", e.N)
		return nil
	}))
	if err != nil {
		return err
	}
	p := &poisoned{world: c.world, seen: newTally(), culprits: map[int]bool{1: true}, fail: func(context.Context) error {
		select { // in the middle of the other's work, if it has any
		case <-begun:
		case <-time.After(2 * time.Second):
		}
		return die("exit")
	}}
	if err := c.bus.Subscribe(subscriptionName, append(p.options("plain"), attempts(c.Tries), pulse.Start(pulse.Beginning))...); err != nil {
		return err
	}
	if err = c.bus.Drain(ctx); err == nil {
		c.say("drained")
	}
	return err
}

// Many deliveries are due for another attempt when the process ends. Those that were not being tried are not charged.
func TestG09_WaitingRetriesAreNotChargedForACrash(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		const n, concurrency = 60, 8
		p := newPlace(t, k)
		w := open(t, p, "")
		w.emit(t, numbered(n, n)...)
		w.subscribe(t, subscriptionName, pulse.Start(pulse.Beginning), pulse.On(func(context.Context, lesson) error {
			return pulse.RetryAfter(300 * time.Millisecond)
		}))
		stop := w.run(t)
		await(t, "all wait for another attempt", func() bool { return w.state(t, subscriptionName).Retries == n })
		stop()
		for crash, most := range []int{concurrency, 1} { // the second one comes when deliveries are tried one by one
			c := start(t, k, p, childSpec{Role: "serve", Handler: "patient", Tries: 10})
			c.awaitLines(t, "begun", most)
			c.kill()
			running := 0
			for _, row := range w.deliveries(t, subscriptionName) {
				if row.Status == pulse.StatusRunning {
					running++
				}
			}
			t.Logf("crash %d is charged to %d of %d deliveries", crash+1, running, n)
			if running > most {
				t.Errorf("crash %d is charged to %d deliveries, of which at most %d were being tried", crash+1, running, most)
			}
			atLeast(t, "deliveries charged", running, most)
		}
	})
}

// die ends the process.
func die(how string) error {
	switch how {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "fatal": // the runtime ends the process, no recover helps
		var mu sync.Mutex
		mu.Unlock()
	}
	os.Exit(5)
	return nil
}

// A process is stopped gracefully, again and again: no delivery has spent an attempt, whether its handler finished within the
// drain timeout or was interrupted by it.
func TestG09_GracefulStopSpendsNoAttempt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		for _, sort := range []string{"plain", "ordered", "transaction"} {
			t.Run(sort, func(t *testing.T) {
				t.Parallel()
				n, stops := 200, scaled(8, 4)
				p := newPlace(t, k)
				var interrupted, calls atomic.Int64
				seen := newTally()
				session := func(stopped bool, step func(w *world, begun <-chan struct{})) {
					w, err := openWorld(t.Context(), p, "", &pulse.Options{Logger: quiet(t), DrainTimeout: 5 * time.Millisecond})
					if err != nil {
						t.Fatal(err)
					}
					defer w.shut(t)
					begun := make(chan struct{})
					var first sync.Once
					handle := func(ctx context.Context, e lesson) error {
						calls.Add(1)
						wait := time.Duration(1+e.N%4*5) * time.Millisecond
						if stopped {
							first.Do(func() { close(begun); wait = time.Hour })
						}
						select {
						case <-time.After(wait):
							seen.add(e)
							return nil
						case <-ctx.Done():
							interrupted.Add(1)
							return fmt.Errorf("interrupted: %w", ctx.Err())
						}
					}
					opts := []pulse.SubscribeOption{pulse.On(handle), attempts(1), pulse.Start(pulse.Beginning)}
					switch sort {
					case "ordered":
						opts = append(opts, pulse.Ordered())
					case "transaction":
						opts[0] = w.onTx(func(ctx context.Context, _ any, e lesson) error { return handle(ctx, e) })
					}
					w.subscribe(t, subscriptionName, opts...)
					step(w, begun)
				}
				session(false, func(w *world, _ <-chan struct{}) { w.emit(t, numbered(n, 7)...) })
				for range stops {
					session(true, func(w *world, begun <-chan struct{}) {
						stop := w.run(t)
						<-begun
						stop()
						for _, row := range w.deliveries(t, subscriptionName) {
							if row.Attempt != 0 || row.Status == pulse.StatusDead {
								t.Errorf("a stop has left %+v", row)
							}
						}
					})
				}
				session(false, func(w *world, _ <-chan struct{}) {
					w.drain(t)
					if s := w.state(t, subscriptionName); s.Dead != 0 {
						t.Errorf("%+v", s)
					}
				})
				if seen.distinct() != n {
					t.Errorf("%d of %d were handled", seen.distinct(), n)
				}
				t.Logf("%d stops, %d handlers interrupted, %d calls for %d events", stops, interrupted.Load(), calls.Load(), n)
				atLeast(t, "interrupted handlers", int(interrupted.Load()), stops)
			})
		}
	})
}
