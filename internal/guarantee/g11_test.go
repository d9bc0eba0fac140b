//go:build unix

package guarantee

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// Replay runs the handlers again from where it is told, transactional ones too: the inbox does not take that for duplicates.
func TestG11_ReplayHandlesAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		eachFeed(t, effectHandlers(), func(t *testing.T, sort string, feed feed) {
			const n, from = 120, 51 // the lesson number 50
			w := open(t, newPlace(t, k), "")
			w.emit(t, numbered(n, 7)...)
			fed, _ := w.fed(t, feed)
			w.subscribe(t, subscriptionName, append(fed, w.effectHandler(sort)...)...)
			w.drain(t)
			exactly(t, "effect before the replay", w.effects(t), n, 1)
			if err := w.bus.Replay(t.Context(), subscriptionName, from); err != nil {
				t.Fatal(err)
			}
			w.drain(t)
			for i, times := range w.effects(t) {
				if want := 1 + min(1, (i+1)/from); times != want {
					t.Errorf("effect %d is there %d times, want %d", i, times, want)
				}
			}
			w.replayAll(t)
			w.drain(t)
			if s := w.state(t, subscriptionName); s.Generation != 3 || s.Cursor.Position < n {
				t.Errorf("%+v", s)
			}
			if total := len(w.effectsInOrder(t)); total != n+(n-from+1)+n {
				t.Errorf("%d effects, want %d", total, n+(n-from+1)+n)
			}
		})
	})
}

// Replays while deliveries run, wait for a retry, wait behind one and are dead: in the end each event was handled exactly once in the
// last generation, and never twice in one before.
func TestG11_ReplayAtAnyTime(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		eachFeed(t, []string{"unordered", "ordered"}, func(t *testing.T, sort string, feed feed) {
			n, replays := scaled(200, 60), scaled(10, 4)
			seed := rand.Uint64()
			r := &replayed{world: open(t, newPlace(t, k), ""), random: rand.New(rand.NewPCG(seed, 0)), calls: map[int]int{}}
			r.emit(t, numbered(n, 7)...)
			opts, _ := r.fed(t, feed)
			if sort == "ordered" {
				opts = append(opts, pulse.Ordered())
			}
			r.subscribe(t, subscriptionName, append(opts, attempts(3), pulse.Start(pulse.Beginning), pulse.PauseAfter(1_000_000),
				pulse.OnBatchTx(lessonName, 3, r.handle))...)
			stop := r.run(t)
			found := map[pulse.DeliveryStatus]int{}
			for generation := 1; generation <= replays; generation++ {
				enough := 1 + r.number(15) // of a key no more are handled after one that is dead
				var rows []pulse.DeliveryState
				await(t, "some are handled, and some are not", func() bool {
					rows = r.deliveries(t, subscriptionName)
					return r.called(generation) >= enough && len(rows) > 0
				})
				for _, row := range rows {
					found[row.Status]++
				}
				r.replayAll(t)
			}
			await(t, "the last generation has begun", func() bool { return r.called(replays+1) > 0 })
			r.heal()
			await(t, "all are handled or dead", func() bool {
				s := r.state(t, subscriptionName)
				if s.Dead > 0 {
					r.settleAll(t, pulse.SettleRetry)
				}
				return s.Cursor.Position >= s.Head && s.Dead+s.Retries+s.Waiting == 0
			})
			stop()
			r.check(t, n, replays)
			t.Logf("seed %d: %d replays, rows removed by them: %v", seed, replays, found)
			atLeast(t, "rows removed by replays", found[pulse.StatusRetry]+found[pulse.StatusRunning]+found[pulse.StatusDead]+found[pulse.StatusWaiting], replays)
		})
	})
}

// replayed writes effects that tell their generation.
type replayed struct {
	*world
	mu     sync.Mutex
	random *rand.Rand
	healed bool
	calls  map[int]int // by generation
}

func (r *replayed) called(generation int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[generation]
}

// number is a random one below n.
func (r *replayed) number(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.IntN(n)
}

func (r *replayed) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.healed = true
}

// answer is a random one: the handler fails, parks, takes its time or does it.
func (r *replayed) answer(generation int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[generation]++
	if r.healed {
		return nil
	}
	switch r.random.IntN(8) {
	case 0:
		return errors.New("not now")
	case 1:
		return pulse.RetryAfter(time.Millisecond)
	case 2:
		return pulse.Park("not ever")
	}
	return nil
}

const perGeneration = 1_000_000

func (r *replayed) handle(ctx context.Context, tx pulse.Tx, ds []pulse.Delivery) error {
	for i := range ds {
		var e lesson
		if err := ds[i].Decode(&e); err != nil {
			return err
		}
		if err := r.write(ctx, tx.Unwrap(), r.bus, ds[i].Generation*perGeneration+e.N); err != nil {
			return err
		}
		if err := r.answer(ds[i].Generation); err != nil {
			return err
		}
	}
	return nil
}

// check checks the effects of all generations.
func (r *replayed) check(t *testing.T, n, replays int) {
	t.Helper()
	last := 0
	for effect, times := range r.effects(t) {
		if times != 1 {
			t.Errorf("lesson %d was handled %d times in generation %d", effect%perGeneration, times, effect/perGeneration)
		}
		if effect/perGeneration == replays+1 {
			last++
		}
	}
	if last != n {
		t.Errorf("%d of %d were handled in the last generation", last, n)
	}
}
