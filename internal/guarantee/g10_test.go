//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// One event of a key fails. By default the later ones of the key wait for it, also once it is a dead letter, until a person
// decides; then they go on in order. Other keys go on all the time.
func TestG10_FailedEventHoldsUpItsKeyOnly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		hows := []string{string(pulse.SettleRetry), string(pulse.SettleSkip), string(pulse.SettleDrop)}
		eachFeed(t, hows, func(t *testing.T, sort string, feed feed) {
			how := pulse.Settlement(sort)
			const n, keys, culprit, tries = 300, 10, 43, 4 // of the key of 3, 13, 23 …
			var sick atomic.Bool
			sick.Store(true)
			p := &poisoned{world: open(t, newPlace(t, k), ""), seen: newTally(), culprits: map[int]bool{culprit: true}}
			looked := make(chan struct{}) // at how the others are doing, before the culprit is given up
			p.fail = func(context.Context) error {
				if p.calls.Load() == tries {
					<-looked
				}
				if sick.Load() {
					return errors.New("not this one")
				}
				p.seen.add(lesson{N: culprit})
				return nil
			}
			p.emit(t, numbered(n, keys)...)
			opts, _ := p.fed(t, feed)
			opts = append(append(opts, p.options("ordered")...), pulse.Start(pulse.Beginning),
				pulse.Retry(pulse.RetryPolicy{Attempts: tries, First: 50 * time.Millisecond, Max: 50 * time.Millisecond}))
			p.subscribe(t, subscriptionName, opts...)
			stop := p.run(t)
			others := n - n/keys + culprit/keys
			await(t, "all others are handled", func() bool { return p.seen.distinct() == others })
			if s := p.state(t, subscriptionName); s.Dead != 0 {
				t.Errorf("others were handled only after the culprit was given up: %+v", s)
			}
			close(looked)
			await(t, "the culprit is a dead letter", func() bool { return p.state(t, subscriptionName).Dead == 1 })
			if s := p.state(t, subscriptionName); s.Waiting != n/keys-culprit/keys-1 || s.Blocked != 1 || p.seen.distinct() != others {
				t.Errorf("%d of %d handled, %+v", p.seen.distinct(), others, s)
			}
			sick.Store(false)
			if settled := p.settleAll(t, how); settled != 1 {
				t.Errorf("%d dead letters settled", settled)
			}
			want := n - 1
			if how == pulse.SettleRetry {
				want = n
			}
			await(t, "its key goes on", func() bool { return p.seen.distinct() == want })
			p.drain(t)
			stop()
			ordered(t, "lesson", p.seen.list(), keys)
			p.checkOthers(t, n)
			rows := p.deliveries(t, subscriptionName)
			if kept := how == pulse.SettleSkip; kept != (len(rows) == 1) || kept && (rows[0].Status != pulse.StatusDead || rows[0].Lane != "") {
				t.Errorf("left: %+v", rows)
			}
		})
	})
}

// With SkipFailed the key waits while its event is tried and goes on, in order, once it is a dead letter.
func TestG10_SkipFailedGoesOnWithARecord(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		eachFeed(t, []string{"ordered", "batch"}, func(t *testing.T, sort string, feed feed) {
			const n, keys, tries = 200, 10, 3
			culprits := map[int]bool{43: true, 53: true, 77: true}
			p := &poisoned{world: open(t, newPlace(t, k), ""), seen: newTally(), culprits: culprits}
			var early atomic.Bool
			p.fail = func(context.Context) error {
				if slices.Contains(p.seen.list(), 63) && p.state(t, subscriptionName).Dead < 2 {
					early.Store(true)
				}
				return errors.New("not this one")
			}
			p.emit(t, numbered(n, keys)...)
			opts, _ := p.fed(t, feed)
			opts = append(append(opts, p.options(sort)...), attempts(tries), pulse.SkipFailed(), pulse.Start(pulse.Beginning))
			if sort == "batch" {
				opts = append(opts, pulse.Ordered())
			}
			p.subscribe(t, subscriptionName, opts...)
			p.drain(t)
			ordered(t, "lesson", p.seen.list(), keys)
			p.checkOthers(t, n)
			p.checkDead(t, tries, "not this one", false)
			if early.Load() {
				t.Error("a later event was handled before the earlier was given up")
			}
		})
	})
}

// Handlers fail at random, the bus is stopped and started again, the store fails: no key is ever reordered.
func TestG10_DefaultNeverReorders(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		eachFeed(t, []string{"plain", "transaction", "batch"}, func(t *testing.T, sort string, feed feed) {
			n, keys, restarts := scaled(1500, 300), 12, scaled(5, 3)
			seed := rand.Uint64()
			r := &reordering{place: newPlace(t, k), seen: newTally(), keys: keys, random: rand.New(rand.NewPCG(seed, 0)), next: map[int]int{}}
			r.broker = feed.open(t)
			r.session(t, sort, "", func(w *world) { w.emit(t, numbered(n/2, keys)...) })
			for i := range restarts {
				point := []string{failpoint.AdvanceBefore, failpoint.AdvanceAfter, failpoint.TransactAfter}[i%3] // the last one only in transactions
				r.session(t, sort, fmt.Sprintf("%s=error@%d", point, 5+i), func(w *world) {
					before := r.seen.distinct()
					stop := w.run(t)
					if i == 1 {
						w.emit(t, numbered(n, keys)[n/2:]...)
					}
					await(t, "some are handled", func() bool { return r.seen.distinct() >= min(n, before+n/(2*restarts)) })
					stop()
				})
			}
			r.session(t, sort, "", func(w *world) {
				w.drain(t)
				ordered(t, "lesson, first handled,", firsts(r.seen.list()), keys)
				if r.seen.distinct() != n {
					t.Errorf("%d of %d were handled", r.seen.distinct(), n)
				}
				if sort == "transaction" {
					exactly(t, "effect", w.effects(t), n, 1)
					ordered(t, "effect", w.effectsInOrder(t), keys)
				}
			})
			t.Logf("seed %d: %d restarts, %d failed attempts, %d handled for %d events", seed, restarts, r.failed, len(r.seen.list()), n)
			atLeast(t, "failed attempts", r.failed, n/20)
		})
	})
}

// reordering watches the order in which a handler that fails at random gets the events of each key.
type reordering struct {
	place  place
	seen   *tally
	keys   int
	broker outside // that feeds it; nil for the log

	mu     sync.Mutex
	random *rand.Rand
	next   map[int]int // by key: the first number that was not handled yet
	failed int
}

func (r *reordering) session(t *testing.T, sort, failpoints string, step func(w *world)) {
	t.Helper()
	w := open(t, r.place, failpoints)
	defer w.shut(t)
	opts := []pulse.SubscribeOption{pulse.Ordered(), soon(), pulse.Start(pulse.Beginning), pulse.PauseAfter(1_000_000)}
	if r.broker != nil {
		w.publish(t, r.broker, "")
		opts = append(opts, pulse.From(destination, r.broker.Source()))
	}
	switch sort {
	case "plain":
		opts = append(opts, pulse.On(func(_ context.Context, e lesson) error { return r.handle(t, e) }))
	case "transaction":
		opts = append(opts, w.onTx(func(ctx context.Context, tx any, e lesson) error {
			if err := r.handle(t, e); err != nil {
				return err
			}
			return w.write(ctx, tx, w.bus, e.N)
		}))
	case "batch":
		opts = append(opts, pulse.OnBatch(lessonName, 20, func(_ context.Context, ds []pulse.Delivery) error {
			for i := range ds {
				var e lesson
				if err := ds[i].Decode(&e); err != nil {
					return err
				}
				if err := r.handle(t, e); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	w.subscribe(t, subscriptionName, opts...)
	step(w)
}

// handle fails now and then. An event must not come before all earlier ones of its key were handled.
func (r *reordering) handle(t *testing.T, e lesson) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := e.N % r.keys
	next, ok := r.next[key]
	if !ok {
		next = key
	}
	if e.N > next {
		t.Errorf("lesson %d came before %d of its key was handled", e.N, next)
	}
	if r.random.IntN(10) == 0 {
		r.failed++
		return errors.New("now and then")
	}
	r.seen.add(e)
	r.next[key] = max(next, e.N+r.keys)
	return nil
}
