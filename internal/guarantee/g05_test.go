//go:build unix

package guarantee

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// stoppedTTL is how long the lease of a relay lives that is to be stopped: longer than it takes to renew it, shorter than what the relay itself
// believes.
const stoppedTTL = 1500 * time.Millisecond

// stops are the moments at which a relay is stopped.
func stops(random *rand.Rand, system string) []ambush {
	nth := func() int { return 1 + random.IntN(3) }
	list := []ambush{
		{At: "before", Nth: nth()},
		{At: "before", Nth: nth()},
		{At: "bytes", Nth: nth(), Bytes: 1 + random.IntN(600)},
		{At: "bytes", Nth: nth(), Bytes: 1 + random.IntN(30_000)},
		{At: "answer", Nth: nth()},
		{At: "after", Nth: nth()},
	}
	for i := range list {
		list[i].Act = "stop"
		if system == onKafka && (list[i].At == "bytes" || list[i].At == "answer") { // its clients connect to where its servers say they are
			list[i].At = "time"
			list[i].After = time.Duration(random.IntN(3000)) * time.Microsecond
		}
	}
	return list
}

// outcome counts what became of the batches during which relays were stopped.
type outcome struct {
	mu      sync.Mutex
	rounds  int
	at      map[string]int // rounds by moment
	refused map[string]int // batches of which the broker took nothing more, since another relay had written
	acked   map[string]int // batches that were at the broker when the relay was stopped
}

// A relay is stopped for longer than its lease lives, before, in the middle of and after publishing; another one takes over and publishes;
// then the first goes on with what it had in hand. Nothing is lost, no key is reordered, and where the other one has written, a broker
// that can refuse takes nothing more from the first.
func TestG05_OrderThroughAStoppedRelay(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		for _, system := range systems() {
			t.Run(system, func(t *testing.T) { orderThroughStops(t, k, system) })
		}
	})
}

// orderThroughStops stops relays in worlds of their own.
func orderThroughStops(t *testing.T, k kind, system string) {
	worlds, rounds, host := 5, scaled(10, 2), "served"
	if system != onNATS {
		worlds, rounds, host = 3, 6, system
	}
	seed := rand.Uint64()
	o := &outcome{at: map[string]int{}, refused: map[string]int{}, acked: map[string]int{}}
	t.Run("worlds", func(t *testing.T) {
		for i := range worlds {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				r := newRelayed(t, k, host, seed, uint64(i))
				for done := 0; done < rounds; {
					moments := stops(r.random, system)
					from := i % len(moments) // so that a few rounds of each world come to every moment
					for _, a := range slices.Concat(moments[from:], moments[:from]) {
						ttl := stoppedTTL
						if done == 0 {
							ttl = 0 // as long as ever
						}
						if done++; done <= rounds {
							r.stopOne(t, a, ttl, o)
						}
					}
				}
				t.Logf("seed %d/%d: %+v", seed, i, r.finish(t))
			})
		}
	})
	t.Logf("seed %d: %d rounds: stopped %v, refused %v, answered %v", seed, o.rounds, o.at, o.refused, o.acked)
	atLeast(t, "rounds", o.rounds, worlds*rounds)
	if system == onRabbit { // which refuses nobody: what both publish comes twice
		return
	}
	if o.refused["before"] != o.at["before"] {
		t.Errorf("%d relays were stopped before publishing, and %d batches of theirs were refused", o.at["before"], o.refused["before"])
	}
	if system == onNATS {
		atLeast(t, "batches interrupted in the middle and refused", o.refused["bytes"], scaled(5, 0))
	}
	atLeast(t, "relays stopped behind their batch", o.acked["after"]+o.acked["answer"], scaled(5, 0)/len(systems()))
}

// stopOne is one round.
func (r *relayed) stopOne(t testing.TB, a ambush, ttl time.Duration, o *outcome) {
	t.Helper()
	r.more(t, r.some())
	first := r.relay(t, childSpec{Ambush: a, TTL: ttl})
	r.untilSaid(t, first, "stopping")
	r.more(t, 1+r.random.IntN(100)) // so that the second has something to write
	second := r.relay(t, childSpec{TTL: ttl})
	r.published(t)
	first.signal(t, syscall.SIGCONT)
	r.untilSaid(t, first, "answered")
	r.more(t, 5)
	r.published(t)
	for _, p := range []*process{first, second} {
		p.signal(t, syscall.SIGTERM)
		if state := p.wait(t); !state.Success() {
			t.Errorf("%+v: the process ended by %s: %s", a, state, p.stderr.tail(10))
		}
	}
	var acked, refused int
	if _, err := fmt.Sscanf(first.lines("answered ")[0], "%d %d", &acked, &refused); err != nil {
		t.Fatal(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rounds++
	o.at[a.At]++
	if refused > 0 {
		o.refused[a.At]++
	} else if acked > 0 {
		o.acked[a.At]++
	} else if _, fenced := r.broker.(natsOutside); fenced { // else it may have been stopped while it connected
		t.Errorf("%+v: the batch was neither taken nor refused: %s", a, first.lines("answered "))
	}
}

// untilSaid emits one lesson after the other until a process says something.
func (r *relayed) untilSaid(t testing.TB, p *process, what string) {
	t.Helper()
	await(t, "child says "+what, func() bool {
		if len(p.lines(what)) > 0 {
			return true
		}
		select {
		case <-p.ended:
			t.Fatalf("child ended (%v): %s", p.cmd.ProcessState, p.stderr.tail(10))
		default:
		}
		r.more(t, 1)
		return false
	})
}

// published waits until the relay has saved that it published all.
func (r *relayed) published(t testing.TB) {
	t.Helper()
	await(t, "all is published", func() bool {
		s := r.state(t, pulse.RelayName(destination))
		return s.Lag() == 0
	})
}
