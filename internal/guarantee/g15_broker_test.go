//go:build unix

package guarantee

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/rss"
)

// outageEmits is how many emits are timed.
func outageEmits() int { return scaled(1000, 200) }

// The broker goes down before a backlog: Emit goes on as before, what the relay holds in memory has a bound, nothing is parked, and
// when the broker is back all arrives. Not parallel to other tests: it measures the memory of the process.
func TestG15_BrokerDownBeforeABacklog(t *testing.T) {
	notUnderRace(t)
	eachBacklog(t, func(t *testing.T, k kind, system string, b backlog) {
		server := newStanding(t, system)
		w := open(t, newPlace(t, k), "")
		w.publishTo(t, dialOutside(t, server).Publisher())
		before := w.emitLatencies(t, outageEmits())
		w.drain(t)
		stop := w.run(t)
		w.emit(t, lesson{Key: "key-0"})
		w.untilPublished(t) // so that it is publishing that fails
		server.stop(t)
		w.emitBacklog(t, b.events, b.size)
		used := heapInUse()
		relay := pulse.RelayName(destination)
		grown := w.watchHeap(t, used, func() bool { return w.state(t, relay).PauseReason != "" })
		down := w.emitLatencies(t, outageEmits())
		if rows := w.deliveries(t, relay); len(rows) > 0 {
			t.Errorf("an outage has left %+v", rows[0])
		}
		t.Logf("%d events waiting: %.1f MiB more; median emit %s, before %s", b.events, rss.MiB(grown), down[len(down)/2], before[len(before)/2])
		if grown > heapCeiling {
			t.Errorf("the relay takes %.1f MiB, want at most %.1f", rss.MiB(grown), rss.MiB(heapCeiling))
		}
		if limit := 10*before[len(before)/2] + 20*time.Millisecond; down[len(down)/2] > limit {
			t.Errorf("the median emit took %s, want at most %s", down[len(down)/2], limit)
		}
		again := server.again(t)
		w.untilPublished(t)
		stop()
		if s := w.state(t, relay); s.Dead > 0 {
			t.Errorf("%+v", s)
		}
		if last, ok, err := again.Publisher().Last(t.Context()); err != nil || ok && last.Position != w.state(t, relay).Head {
			t.Errorf("the last message is %d of %d: %v", last.Position, w.state(t, relay).Head, err)
		}
	})
}

// eachBacklog runs a test for every store, broker and size of events, one after the other.
func eachBacklog(t *testing.T, fn func(t *testing.T, k kind, system string, b backlog)) {
	each(t, func(t *testing.T, k kind) {
		for _, system := range systems() {
			if system == onKafka && os.Getenv(atLength) != "1" {
				continue // where a relay waits 15 seconds for a server that is gone
			}
			for size, b := range backlogs() {
				t.Run(system+"/"+size, func(t *testing.T) { fn(t, k, system, b) })
			}
		}
	})
}

// publishTo adds a destination to the world's bus.
func (w *world) publishTo(t testing.TB, p pulse.Publisher) {
	t.Helper()
	if err := w.bus.Publish(destination, p); err != nil {
		t.Fatal(err)
	}
}

// untilPublished waits until the relay has saved that it published all. While it goes on so does the patience.
func (w *world) untilPublished(t testing.TB) {
	t.Helper()
	lag := func() int64 {
		s := w.state(t, pulse.RelayName(destination))
		return s.Lag()
	}
	for left := lag(); left > 0; left = lag() {
		await(t, fmt.Sprintf("%d events are waiting, fewer than that", left), func() bool { return lag() < left })
	}
}

// The same seen from outside: the resident memory of a process that emits while its broker is down.
func TestG15_ResidentMemoryWhileTheBrokerIsDown(t *testing.T) {
	eachDurable(t, func(t *testing.T, k kind) {
		server := newStanding(t, onNATS)
		p := start(t, k, newPlace(t, k), childSpec{Role: "outage", Broker: server.address(), Base: outageBacklog()})
		p.awaitLines(t, "connected", 1)
		server.stop(t)
		var peaks [2]int64
		for i := range peaks {
			p.awaitLines(t, "peak", i+1)
			if _, err := fmt.Sscan(p.lines("peak ")[i], &peaks[i]); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("at most %.1f MiB resident with %d events waiting, %.1f MiB with twice as many", rss.MiB(peaks[0]), outageBacklog(), rss.MiB(peaks[1]))
		if peaks[1] > residentCeiling {
			t.Errorf("%.1f MiB resident, want at most %.1f", rss.MiB(peaks[1]), rss.MiB(residentCeiling))
		}
		if grown := peaks[1] - peaks[0]; grown > 24*mib {
			t.Errorf("twice the backlog takes %.1f MiB more: memory is not flat", rss.MiB(grown))
		}
	})
}

func outageBacklog() int { return scaled(60_000, 20_000) }

// emitThroughOutage is a process that emits twice as many as its Base and relays, while the broker goes down.
func emitThroughOutage(ctx context.Context, c *child) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- c.bus.Run(ctx) }()
	c.say("connected")
	pad := strings.Repeat("x", 200)
	for half := range 2 {
		for i := 0; i < c.Base; i += 500 {
			evs := make([]pulse.Event, 500)
			for j := range evs {
				evs[j] = lesson{Key: fmt.Sprint("key-", j%64), N: half*c.Base + i + j, Pad: pad}
			}
			if _, err := c.bus.EmitAll(ctx, evs); err != nil {
				return err
			}
		}
		c.say("peak %d", rss.Peak())
	}
	stop()
	return <-ran
}

// silent is a publisher whose broker takes connections and does not answer.
type silent struct {
	pulse.Publisher
	called  chan struct{} // closed at the first call
	once    sync.Once
	release <-chan struct{}
}

func (p *silent) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	p.once.Do(func() { close(p.called) })
	select {
	case <-p.release:
		return p.Publisher.PublishBatch(ctx, envs)
	case <-ctx.Done():
		results := make([]pulse.Result, len(envs))
		for i := range results {
			results[i].Err = fmt.Errorf("%w: no answer", pulse.ErrBroker)
		}
		return results
	}
}

// The broker is there and does not answer while the relay has its hands full: the same holds.
func TestG15_SilentBrokerBeforeABacklog(t *testing.T) {
	notUnderRace(t)
	eachBacklog(t, func(t *testing.T, k kind, system string, b backlog) {
		broker := newOutside(t, system)
		w := open(t, newPlace(t, k), "")
		release := make(chan struct{})
		p := &silent{Publisher: broker.Publisher(), called: make(chan struct{}), release: release}
		w.publishTo(t, p)
		w.emitBacklog(t, b.events, b.size)
		before, used := w.emitLatencies(t, outageEmits()), heapInUse()
		stop := w.run(t)
		<-p.called
		grown := w.watchHeap(t, used, func() bool { return true })
		held := w.emitLatencies(t, outageEmits())
		t.Logf("%d events waiting: %.1f MiB more; median emit %s, before %s", b.events, rss.MiB(grown), held[len(held)/2], before[len(before)/2])
		if grown > heapCeiling {
			t.Errorf("the relay takes %.1f MiB, want at most %.1f", rss.MiB(grown), rss.MiB(heapCeiling))
		}
		if limit := 10*before[len(before)/2] + 20*time.Millisecond; held[len(held)/2] > limit {
			t.Errorf("the median emit took %s, want at most %s", held[len(held)/2], limit)
		}
		close(release)
		w.untilPublished(t)
		stop()
	})
}
