//go:build unix

package guarantee

import (
	"context"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// leases are what three relays think of how long a lease lasts: as if their clocks did not agree. One that the first takes has expired for
// the others long before it is renewed, so that two publish at the same time again and again.
func leases() []time.Duration {
	return []time.Duration{30 * time.Millisecond, 400 * time.Millisecond, 1200 * time.Millisecond}
}

// Three processes relay to one destination. They take each other's place all the time, are killed and are stopped for a while: nothing is
// lost, and no key is reordered.
func TestG06_ThreeRelaysThroughKillsAndPauses(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		for _, system := range systems() {
			t.Run(system, func(t *testing.T) {
				t.Parallel()
				throughKillsAndPauses(t, k, system)
			})
		}
	})
}

func throughKillsAndPauses(t *testing.T, k kind, system string) {
	host := "served"
	if system != onNATS {
		host = system
	}
	seed := rand.Uint64()
	r := newRelayed(t, k, host, seed, 0)
	running := make([]*process, len(leases()))
	for i, ttl := range leases() {
		running[i] = r.relay(t, childSpec{TTL: ttl})
	}
	holders := map[string]bool{}
	kills, pauses := 0, 0
	for step := range scaled(40, 10) {
		r.more(t, r.some())
		i := r.random.IntN(len(running))
		running[i].awaitLines(t, "relaying", 1)
		for until := time.Now().Add(time.Duration(r.random.IntN(150)) * time.Millisecond); time.Now().Before(until); {
			r.more(t, 1)
			holders[r.state(t, pulse.RelayName(destination)).Holder] = true
		}
		if step%2 == 0 {
			running[i].kill()
			running[i] = r.relay(t, childSpec{TTL: leases()[i]})
			kills++
			continue
		}
		running[i].signal(t, syscall.SIGSTOP) // also in the middle of a write, which stops the others
		time.Sleep(time.Duration(r.random.IntN(300)) * time.Millisecond)
		running[i].signal(t, syscall.SIGCONT)
		pauses++
	}
	for _, p := range running {
		p.awaitLines(t, "relaying", 1)
		p.signal(t, syscall.SIGTERM)
		p.wait(t)
	}
	delete(holders, "")
	t.Logf("seed %d: %d kills, %d pauses, %d holders seen: %+v", seed, kills, pauses, len(holders), r.finish(t))
	atLeast(t, "kills", kills, scaled(20, 5))
	atLeast(t, "holders of the lease seen", len(holders), scaled(5, 2))
}

// The same in one process, with every store: three buses over one log, whose leases expire as soon as they are taken, or soon after.
func TestG06_ThreeRelaysInOneProcess(t *testing.T) {
	t.Parallel()
	eachSystem(t, func(t *testing.T, k kind, system string) {
		n, ttl, pause := scaled(4000, 600), 20*time.Millisecond, 5*time.Millisecond
		switch system {
		case onRabbit: // where a relay cannot ask what the one before has published: a lease has to last for a batch
			n, ttl, pause = 2000, 400*time.Millisecond, 25*time.Millisecond
		case onKafka: // where a relay ends the transaction of the one before
			n, ttl, pause = 2000, 100*time.Millisecond, 15*time.Millisecond
		}
		b := newOutside(t, system)
		p := newPlace(t, k)
		w := open(t, p, "")
		holders := &publishing{}
		var stops []func()
		for range leases() {
			own := open(t, &tunedPlace{p, ttl, &sync.RWMutex{}}, "")
			own.publishTo(t, &takeovers{Publisher: dialOutside(t, b).Publisher(), seen: holders})
			stops = append(stops, own.run(t))
		}
		enough := scaled(8, 2)
		for i := 0; i < n || holders.soFar() < enough && i < 10*n; i += 20 {
			w.emit(t, numbered(i+20, relayKeys)[i:]...)
			time.Sleep(pause) // so that there is something to publish all the time
		}
		await(t, "all is published", func() bool {
			s := w.state(t, pulse.RelayName(destination))
			return s.Lag() == 0
		})
		for _, stop := range stops {
			stop()
		}
		found := w.compare(t, stranger(t, b))
		t.Logf("%d changes of who publishes: %+v", holders.changes, found)
		atLeast(t, "changes of who publishes", holders.changes, enough)
	})
}

// takeovers is a publisher that counts how often another one than before publishes.
type takeovers struct {
	pulse.Publisher
	seen *publishing
}

// publishing is who has published last.
type publishing struct {
	mu      sync.Mutex
	last    *takeovers
	changes int
}

func (p *publishing) soFar() (changes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changes
}

func (p *takeovers) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	p.seen.mu.Lock()
	if p.seen.last != p {
		p.seen.last = p
		p.seen.changes++
	}
	p.seen.mu.Unlock()
	return p.Publisher.PublishBatch(ctx, envs)
}
