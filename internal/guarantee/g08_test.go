//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// receiver is the outside world: it counts the idempotency keys it got for each event and subscription.
type receiver struct {
	mu     sync.Mutex
	keys   map[string]map[string]int // by subscription and number of the lesson
	owners map[string]string         // by key
	got    int
	most   int // attempt
	latest int // generation
}

func newReceiver() *receiver {
	return &receiver{keys: map[string]map[string]int{}, owners: map[string]string{}}
}

// receive takes one call in the form of deliver.
func (r *receiver) receive(t testing.TB, line string) {
	t.Helper()
	var subscription, key string
	var n, attempt, generation int
	if _, err := fmt.Sscanf(line, "%s %d %s %d %d", &subscription, &n, &key, &attempt, &generation); err != nil {
		t.Errorf("%q: %v", line, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	what := fmt.Sprintf("%s of lesson %d", subscription, n)
	if r.keys[what] == nil {
		r.keys[what] = map[string]int{}
	}
	r.keys[what][key]++
	if owner, ok := r.owners[key]; ok && owner != what {
		t.Errorf("%s and %s have the same key %s", owner, what, key)
	}
	r.owners[key] = what
	r.got++
	r.most, r.latest = max(r.most, attempt), max(r.latest, generation)
}

// check fails unless each of n lessons came, always with one key, in both subscriptions.
func (r *receiver) check(t testing.TB, n int) {
	t.Helper()
	for _, subscription := range receivers() {
		for i := range n {
			what := fmt.Sprintf("%s of lesson %d", subscription, i)
			if len(r.keys[what]) != 1 {
				t.Errorf("%s came with %d keys, want 1: %v", what, len(r.keys[what]), r.keys[what])
			}
		}
	}
}

func receivers() []string { return []string{"mail", "push"} }

// deliver subscribes what calls a receiver. A call fails now and then; every tenth lesson is parked while poisoned.
func (w *world) deliver(random func(n int) int, poisoned bool, receive func(line string), opts ...pulse.SubscribeOption) error {
	var errs []error
	for _, name := range receivers() {
		errs = append(errs, w.bus.Subscribe(name, append(slices.Clone(opts), pulse.Start(pulse.Beginning), soon(),
			pulse.OnDelivery(lessonName, func(_ context.Context, d *pulse.Delivery) error {
				var e lesson
				if err := d.Decode(&e); err != nil {
					return err
				}
				receive(fmt.Sprintf("%s %d %s %d %d", name, e.N, d.IdempotencyKey(), d.Attempt, d.Generation))
				switch {
				case poisoned && e.N%10 == 0:
					return pulse.Park("poison")
				case random(4) == 0:
					return errors.New("the answer was lost")
				}
				return nil
			}))...))
	}
	return errors.Join(errs...)
}

// deliverUntilDrained is a process that delivers to a receiver, the test.
func deliverUntilDrained(ctx context.Context, c *child) error {
	err := c.deliver(rand.IntN, c.Handler == "poisoned", func(line string) {
		c.say("call %s", line)
		time.Sleep(2 * time.Millisecond) // what a call takes
	}, c.fed...)
	if err != nil {
		return err
	}
	if err = c.bus.Drain(ctx); err == nil {
		c.say("drained")
	}
	return err
}

// One key for an event and subscription, through failed calls, restarts, dead letters tried again, and replay.
func TestG08_OneIdempotencyKey(t *testing.T) {
	t.Parallel()
	eachKindAndFeed(t, func(t *testing.T, k kind, feed feed) {
		n := scaled(200, 50)
		p := newPlace(t, k)
		r := newReceiver()
		broker := feed.open(t)
		session := func(poisoned bool, step func(w *world)) {
			t.Helper()
			w := open(t, p, "")
			defer w.shut(t)
			var opts []pulse.SubscribeOption
			if broker != nil { // which brings again what it is not told to be done
				points := points(t, failpoint.FetchAfter+"=error@3,"+failpoint.AckBefore+"=error@2")
				w.publish(t, broker, "")
				opts = []pulse.SubscribeOption{pulse.From(destination, failpoint.WrapSource(broker.Source(), points))}
			}
			if err := w.deliver(rand.IntN, poisoned, func(line string) { r.receive(t, line) }, opts...); err != nil {
				t.Fatal(err)
			}
			step(w)
			w.drain(t)
		}
		session(true, func(w *world) { w.emit(t, numbered(n/2, 7)...) })
		session(true, func(w *world) { w.emit(t, numbered(n, 7)[n/2:]...) })
		dead := 0
		session(false, func(w *world) { dead = w.settleAll(t, pulse.SettleRetry) })
		before := r.got
		session(false, func(w *world) {
			if broker != nil {
				if _, err := w.bus.Republish(t.Context(), destination, broker.Publisher(), pulse.Query{}, nil); err != nil {
					t.Fatal(err)
				}
			}
			w.replayAll(t)
		})
		r.check(t, n)
		t.Logf("%d calls for %d lessons, %d dead letters tried again, %d calls of the replay", r.got, n, dead, r.got-before)
		atLeast(t, "calls that came again", r.got-len(r.keys), n)
		atLeast(t, "dead letters tried again", dead, 2*n/10)
		atLeast(t, "calls of the replay", r.got-before, 2*n)
		atLeast(t, "attempts of one call", r.most, 2)
	})
}

// The same with processes that are killed while they call.
func TestG08_OneIdempotencyKeyThroughKills(t *testing.T) {
	t.Parallel()
	eachDurableAndHost(t, func(t *testing.T, k kind, host string) {
		n, kills := scaled(300, 60), scaled(6, 2)
		w := open(t, newPlace(t, k), "")
		var spec childSpec
		if host != "" {
			spec = hosted(t, host)
		}
		w.emit(t, numbered(n, 7)...)
		r := newReceiver()
		done := 0
		session := func(handler string, kill bool) {
			t.Helper()
			spec.Role, spec.Handler = "deliver", handler
			p := start(t, k, w.place, spec)
			if kill {
				p.awaitLines(t, "call", 1)
				time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
				p.kill()
				if killed(p.cmd.ProcessState) {
					done++
				}
			} else {
				p.awaitLines(t, "drained", 1)
				p.wait(t)
			}
			for _, line := range p.lines("call ") {
				r.receive(t, line)
			}
		}
		for range kills {
			session("poisoned", true)
		}
		session("poisoned", false)
		first := r.got
		dead := w.settleAll(t, pulse.SettleRetry)
		session("", true)
		w.replayAll(t)
		for range kills {
			session("", true)
		}
		session("", false)
		r.check(t, n)
		t.Logf("%d kills, %d calls for %d lessons, %d before the replay, %d dead letters tried again", done, r.got, n, first, dead)
		atLeast(t, "dead letters tried again", dead, 2*n/10)
		atLeast(t, "calls", r.got, 4*n)
		atLeast(t, "kills", done, kills)
		if r.latest != 2 {
			t.Errorf("calls came up to generation %d, want 2", r.latest)
		}
	})
}

// settleAll decides about all dead letters.
func (w *world) settleAll(t testing.TB, how pulse.Settlement) int {
	t.Helper()
	n, err := w.bus.Settle(t.Context(), pulse.DeliveryQuery{}, how)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// replayAll replays all subscriptions from the beginning, except relays.
func (w *world) replayAll(t testing.TB) {
	t.Helper()
	states, err := w.bus.Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if strings.HasPrefix(s.Name, pulse.RelayName("")) {
			continue
		}
		if err := w.bus.Replay(t.Context(), s.Name, pulse.Beginning); err != nil {
			t.Fatal(err)
		}
	}
}
