//go:build unix

package guarantee

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/edupulse-live/pulse/internal/failpoint"
)

// relayKeys is how many keys the lessons have that go to a broker.
const relayKeys = 7

// ending is a way in which a relaying process ends.
type ending struct {
	name       string
	failpoints string
	ambush     ambush
}

// relayEndings are all of them, with counts drawn from random. Those in the middle of what is sent need a connection that can be watched.
func relayEndings(random *rand.Rand, host string) []ending {
	nth := func() int { return 1 + random.IntN(4) }
	list := []ending{
		{name: "time", ambush: ambush{At: "time", Nth: nth(), After: time.Duration(random.IntN(6000)) * time.Microsecond}},
		{name: failpoint.LeaseBefore, failpoints: failpoint.LeaseBefore + "=kill@1"},
		{name: failpoint.LeaseAfter, failpoints: failpoint.LeaseAfter + "=kill@1"},
	}
	for _, point := range []string{failpoint.LastBefore, failpoint.LastAfter} {
		list = append(list, ending{name: point, failpoints: point + "=kill@1"})
	}
	for _, point := range []string{failpoint.PublishBefore, failpoint.PublishAfter, failpoint.AdvanceBefore, failpoint.AdvanceAfter} {
		list = append(list, ending{name: point, failpoints: fmt.Sprintf("%s=kill@%d", point, nth())})
	}
	if host != "embedded" && host != onKafka { // whose clients connect to where its servers say they are
		for range 3 {
			list = append(list, ending{name: "bytes", ambush: ambush{At: "bytes", Nth: nth(), Bytes: 1 + random.IntN(40_000)}})
		}
		list = append(list, ending{name: "answer", ambush: ambush{At: "answer", Nth: nth()}})
	}
	for i := range list {
		if list[i].ambush.At != "" {
			list[i].ambush.Act = "kill"
		}
	}
	return list
}

// relayed is one log with one broker, whose relays are hurt.
type relayed struct {
	*world
	kind   kind
	random *rand.Rand
	broker outside // in the test; nil while children embed it
	dir    string
	next   int // number of the next lesson
}

// newRelayed makes a place and a broker.
func newRelayed(t *testing.T, k kind, host string, seed, stream uint64) *relayed {
	t.Helper()
	r := &relayed{world: open(t, newPlace(t, k), ""), kind: k, random: rand.New(rand.NewPCG(seed, stream)), dir: t.TempDir()}
	switch host {
	case "served":
		r.broker = newBroker(t, r.dir)
	case onRabbit, onKafka:
		r.broker = newOutside(t, host)
	}
	return r
}

// more emits n lessons in one transaction.
func (r *relayed) more(t testing.TB, n int) {
	t.Helper()
	r.emit(t, numbered(r.next+n, relayKeys)[r.next:]...)
	r.next += n
}

// some is a number of events that are published one by one, as one batch, or as several.
func (r *relayed) some() int {
	switch r.random.IntN(5) {
	case 0:
		return 800 + r.random.IntN(1500)
	case 1, 2:
		return 1 + r.random.IntN(8)
	default:
		return 10 + r.random.IntN(90)
	}
}

// relay starts a relaying process.
func (r *relayed) relay(t testing.TB, spec childSpec) *process {
	t.Helper()
	spec.Role, spec.Broker = "relay", address(r.broker, r.dir)
	return start(t, r.kind, r.place, spec)
}

// untilEnded emits one lesson after the other until a process has ended.
func (r *relayed) untilEnded(t testing.TB, p *process) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		select {
		case <-p.ended:
			return
		case <-time.After(3 * time.Millisecond):
			r.more(t, 1)
		}
		if time.Now().After(deadline) {
			t.Fatalf("child did not end within %s: %s", patience, p.stderr.tail(10))
		}
	}
}

// kill lets one relay begin and end.
func (r *relayed) kill(t testing.TB, e ending) {
	t.Helper()
	r.more(t, r.some())
	p := r.relay(t, childSpec{Failpoints: e.failpoints, Ambush: e.ambush, TTL: 200 * time.Millisecond})
	r.untilEnded(t, p)
	if !killed(p.cmd.ProcessState) {
		t.Fatalf("%+v: the child was to be killed, but ended by %s: %s", e, p.cmd.ProcessState, p.stderr.tail(10))
	}
}

// finish lets a last relay publish what there is, and compares.
func (r *relayed) finish(t testing.TB) arrived {
	t.Helper()
	p := r.relay(t, childSpec{Handler: "drain", TTL: 200 * time.Millisecond})
	p.awaitLines(t, "drained", 1)
	p.wait(t)
	return r.compare(t, r.read(t))
}

// read reads the stream as a stranger does.
func (r *relayed) read(t testing.TB) []message {
	t.Helper()
	b := r.broker
	if b == nil { // no child has it now
		b = newBroker(t, r.dir)
		defer closeBroker(t, b)
	}
	return stranger(t, b)
}

// Every stored event comes to the broker, and those of a key come first in their order, although the relay is killed again and again
// at every point of its way: before it publishes, in the middle of what it sends, before and after the answer, before and after it
// saves. The broker is a process of its own, or in the one that is killed.
func TestG04_StoredIsPublishedThroughKills(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		var mu sync.Mutex
		kills := map[string]int{}
		seed := rand.Uint64()
		t.Run("worlds", func(t *testing.T) {
			decks := map[string][]ending{} // by host
			for i := range 10 {
				host := hosts()[i%5/4] // four of five
				if others := systems()[1:]; i%5 > 0 && i%5 <= len(others) {
					host = others[i%5-1]
				}
				random := rand.New(rand.NewPCG(seed, uint64(i)))
				for len(decks[host]) < scaled(20, 3) {
					decks[host] = append(decks[host], shuffled(random, relayEndings(random, host))...)
				}
				endings := decks[host][:scaled(20, 3)]
				decks[host] = decks[host][len(endings):]
				t.Run(fmt.Sprintf("%s %d", host, i), func(t *testing.T) {
					t.Parallel()
					r := newRelayed(t, k, host, seed, uint64(i))
					for _, e := range endings {
						r.kill(t, e)
						mu.Lock()
						kills[e.name]++
						mu.Unlock()
					}
					found := r.finish(t)
					t.Logf("seed %d/%d: %+v", seed, i, found)
					if found.owed > 0 {
						t.Errorf("%d events were parked", found.owed)
					}
				})
			}
		})
		total := 0
		for _, n := range kills {
			total += n
		}
		t.Logf("seed %d: %d kills: %v", seed, total, kills)
		atLeast(t, "kills", total, scaled(200, 30))
		for _, e := range relayEndings(rand.New(rand.NewPCG(0, 0)), "served") {
			atLeast(t, "kills at "+e.name, kills[e.name], scaled(8, 0)/len(systems()))
		}
	})
}

// shuffled returns a list in another order.
func shuffled(random *rand.Rand, list []ending) []ending {
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
