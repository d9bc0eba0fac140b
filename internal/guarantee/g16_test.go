//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// cancelling is a store that ends a context at its nth operation, before or after it is done, or while it is under way.
type cancelling struct {
	full
	n      int64
	when   string // "before", "while", "after"
	cancel context.CancelFunc
	count  atomic.Int64
	// of the broker was the operation, perhaps with one of the store beside it
	atBroker atomic.Bool
}

func moments() []string { return []string{"before", "while", "after"} }

// fired reports that the operation was reached.
func (c *cancelling) fired() bool { return c.count.Load() >= c.n }

// around does an operation.
func (c *cancelling) around(do func() error) error {
	if c.count.Add(1) != c.n {
		return do()
	}
	switch c.when {
	case "before":
		c.cancel()
	case "while":
		defer time.AfterFunc(50*time.Microsecond, c.cancel).Stop()
	case "after":
		defer c.cancel()
	}
	err := do()
	if c.when == "while" {
		c.cancel()
	}
	return err
}

func (c *cancelling) Append(ctx context.Context, recs []pulse.Record) error {
	return c.around(func() error { return c.full.Append(ctx, recs) })
}

func (c *cancelling) Read(ctx context.Context, q pulse.Query) (page pulse.Page, err error) {
	err = c.around(func() error { page, err = c.full.Read(ctx, q); return err })
	return page, err
}

func (c *cancelling) Info(ctx context.Context) (info pulse.Info, err error) {
	err = c.around(func() error { info, err = c.full.Info(ctx); return err })
	return info, err
}

func (c *cancelling) Transact(ctx context.Context, fn func(context.Context, pulse.Tx) error) error {
	return c.around(func() error {
		return c.full.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
			return c.around(func() error { return fn(ctx, tx) })
		})
	})
}

func (c *cancelling) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (got pulse.Lease, err error) {
	err = c.around(func() error { got, err = c.full.Acquire(ctx, lease, ttl); return err })
	return got, err
}

func (c *cancelling) Release(ctx context.Context, lease pulse.Lease) error {
	return c.around(func() error { return c.full.Release(ctx, lease) })
}

func (c *cancelling) States(ctx context.Context) (states []pulse.SubscriptionState, err error) {
	err = c.around(func() error { states, err = c.full.States(ctx); return err })
	return states, err
}

func (c *cancelling) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	return c.around(func() error { return c.full.Advance(ctx, lease, p) })
}

func (c *cancelling) List(ctx context.Context, q pulse.DeliveryQuery) (rows []pulse.DeliveryState, err error) {
	err = c.around(func() error { rows, err = c.full.List(ctx, q); return err })
	return rows, err
}

// cancelAt opens a bus on the world's store whose nth operation from now on cancels the context returned.
func (w *world) cancelAt(t *testing.T, n int, when string) (context.Context, *cancelling, *world) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	c := &cancelling{full: w.raw, n: int64(n), when: when, cancel: cancel}
	c.count.Store(-1 << 40) // not while the bus is made
	bus, err := pulse.New(c, &pulse.Options{Logger: quiet(t), DrainTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	c.count.Store(0)
	t.Cleanup(func() { _ = bus.Close() })
	return ctx, c, &world{place: w.place, raw: w.raw, store: c, bus: bus}
}

// Emit, EmitAll and transactions are cancelled before, while and after each operation of the store: what is reported as stored
// is, what is reported as not stored is not.
func TestG16_CancelledEmitLosesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		w := open(t, newPlace(t, k), "")
		ways := map[string]func(ctx context.Context, w *world, n int) ([]uuid.UUID, error){
			"Emit": func(ctx context.Context, w *world, n int) ([]uuid.UUID, error) {
				id, err := w.bus.Emit(ctx, lesson{Key: "key", N: n})
				return []uuid.UUID{id}, err
			},
			"EmitAll": func(ctx context.Context, w *world, n int) ([]uuid.UUID, error) {
				return w.bus.EmitAll(ctx, []pulse.Event{lesson{Key: "key", N: n}, lesson{Key: "key", N: n}})
			},
			"Transact": func(ctx context.Context, w *world, n int) (ids []uuid.UUID, err error) {
				err = w.transact(ctx, func(_ any, e pulse.Emitter) error {
					id, err := e.Emit(ctx, lesson{Key: "key", N: n})
					ids = append(ids, id)
					return err
				})
				return ids, err
			},
		}
		var a answers
		cancelled := 0
		for name, way := range ways {
			for range scaled(10, 3) {
				for n := 0; n <= 2; n++ { // 0: cancelled before it is called
					for _, when := range moments() {
						ctx, c, cw := w.cancelAt(t, n, when)
						if n == 0 {
							c.cancel()
						}
						ids, err := way(ctx, cw, n)
						if err != nil && !errors.Is(err, context.Canceled) {
							t.Errorf("%s: %v", name, err)
						}
						if err != nil {
							cancelled++
						}
						for _, id := range ids {
							a.note(id, err)
						}
						if err := cw.bus.Close(); err != nil { // waits for what was handed over
							t.Error(err)
						}
					}
				}
			}
		}
		a.check(t, w.stored(t))
		atLeast(t, "cancelled calls", cancelled, scaled(100, 30))
		atLeast(t, "acknowledged events", len(a.acked), 20)
	})
}

// Run and Drain are cancelled at each operation of the store, one after the other: nothing is lost, no effect comes twice, no
// attempt is spent.
func TestG16_CancelledRunLosesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		for _, sort := range []string{"single", "ordered-batch"} {
			t.Run(sort, func(t *testing.T) {
				t.Parallel()
				w := open(t, newPlace(t, k), "")
				emitted, runs, fired := 0, 0, 0
				deepest := scaled(40, 14)
				for n := 1; n <= deepest; n++ {
					for i, when := range moments() {
						w.emit(t, numbered(emitted+6, 3)[emitted:]...)
						emitted += 6
						ctx, c, cw := w.cancelAt(t, n, when)
						cw.subscribe(t, subscriptionName, append(cw.effectHandler(sort), attempts(1))...)
						if err := cw.runOrDrain(ctx, i%2 == 0); err != nil && !errors.Is(err, context.Canceled) {
							t.Errorf("operation %d, %s: %v", n, when, err)
						}
						runs++
						if c.fired() {
							fired++
						}
						for _, row := range w.deliveries(t, subscriptionName) { // what others had overtaken when it ended
							if row.Status == pulse.StatusDead || row.Attempt > 0 {
								t.Errorf("operation %d, %s: an attempt was spent: %+v", n, when, row)
							}
						}
					}
				}
				w.subscribe(t, subscriptionName, w.effectHandler(sort)...)
				w.drain(t)
				exactly(t, "effect of lesson", w.effects(t), emitted, 1)
				t.Logf("%d runs, %d cancelled at an operation of the store, %d events", runs, fired, emitted)
				atLeast(t, "runs cancelled at an operation", fired, runs/3)
			})
		}
	})
}

// runOrDrain runs the bus until ctx ends or all is handled.
func (w *world) runOrDrain(ctx context.Context, drain bool) error {
	if drain {
		return w.bus.Drain(ctx)
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- w.bus.Run(run) }()
	err := w.bus.Drain(run)
	stop()
	return errors.Join(<-ran, err)
}

// The iteration over the log is cancelled again and again and goes on where it was: all is seen, nothing twice.
func TestG16_CancelledLogIterationGoesOn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		n := 2500
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(n, 7)...)
		seen, errs := pulse.Position(0), 0
		for i := 0; seen < pulse.Position(n); i++ {
			ctx, _, cw := w.cancelAt(t, 1+i%3, moments()[i%len(moments())])
			for env, err := range cw.bus.Log(ctx, pulse.Query{After: seen, Limit: 250}) {
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Fatal(err)
					}
					errs++
					continue
				}
				if env.Position != seen+1 {
					t.Fatalf("position %d follows %d", env.Position, seen)
				}
				seen++
			}
			if i > 200 {
				t.Fatalf("no progress after position %d", seen)
			}
		}
		t.Logf("%d cancelled iterations", errs)
		atLeast(t, "cancelled iterations", errs, 2)
	})
}

// What a person does is cancelled at each operation: it is done, or not done and said so.
func TestG16_CancelledControlSaysSo(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(3, 3)...)
		w.subscribe(t, subscriptionName, pulse.Start(pulse.Beginning), pulse.On(func(context.Context, lesson) error { return pulse.Park("poison") }))
		w.drain(t)
		for i, when := range moments() {
			for n := range 4 {
				ctx, c, cw := w.cancelAt(t, n, when)
				if n == 0 {
					c.cancel()
				}
				before := w.state(t, subscriptionName)
				err := cw.bus.Pause(ctx, subscriptionName, fmt.Sprint("reason ", i, n))
				paused := w.state(t, subscriptionName).PauseReason == fmt.Sprint("reason ", i, n)
				if paused != (err == nil) {
					t.Errorf("pause: %v, but paused is %t", err, paused)
				}
				_, err = cw.bus.Settle(ctx, pulse.DeliveryQuery{Positions: []pulse.Position{before.Head}}, pulse.SettleRetry)
				if retried := w.state(t, subscriptionName).Dead < before.Dead; retried && err != nil {
					t.Errorf("settle: %v, but it was done", err)
				}
			}
		}
	})
}
