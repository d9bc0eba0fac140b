package integration_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/edupulse-live/pulse/internal/brokerworld"
)

// A long way with jitter costs no connection.
func TestNetworkLatency(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, l *line) {
		l.Begin(t, often)
		l.AwaitHandled(t, 200)
		before := l.connections.Load()
		for _, stream := range []string{"upstream", "downstream"} {
			defer l.hurt(t, "latency", stream, `{"latency":100,"jitter":40}`)()
		}
		start := time.Now()
		l.AwaitHandled(t, 1000)
		t.Logf("1,000 events in %v", time.Since(start))
		l.complete(t)
		if n := l.connections.Load() - before; n > 0 {
			t.Errorf("connected again %d times", n)
		}
	})
}

// Connections are reset again and again under load.
func TestNetworkResets(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, l *line) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		l.Begin(t, often)
		l.AwaitHandled(t, 200)
		for i := range 25 {
			stream := []string{"upstream", "downstream"}[random.IntN(2)]
			before := l.connections.Load()
			heal := l.hurt(t, "reset_peer", stream, fmt.Sprintf(`{"timeout":%d}`, random.IntN(20)))
			l.awaitConnections(t, before)
			heal()
			time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) // the next one comes at random, in the middle of whatever goes on
			if i%5 == 4 {
				l.AwaitPublished(t, 50)
				l.AwaitHandled(t, 50)
			}
		}
		l.AwaitHandled(t, 200)
		l.complete(t)
	})
}

// Bytes vanish in one direction, and nobody closes the connection: it is noticed all the same, the pause of the relay tells of it, and another
// connection is made.
func TestNetworkHalfOpen(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"upstream", "downstream"} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			overEach(t, func(t *testing.T, l *line) {
				l.Begin(t, often)
				l.AwaitHandled(t, 200)
				before, start := l.connections.Load(), time.Now()
				heal := l.hurt(t, "timeout", stream, `{"timeout":0}`)
				brokerworld.Eventually(t, "a pause of the relay", func() bool { return l.Relay(t).PauseReason != "" })
				t.Logf("noticed after %v", time.Since(start))
				l.awaitConnections(t, before)
				t.Logf("connected again after %v", time.Since(start))
				heal()
				l.AwaitPublished(t, 200)
				l.AwaitHandled(t, 200)
				t.Logf("goes on after %v", time.Since(start))
				l.complete(t)
			})
		})
	}
}

// A narrow line, over which a backlog takes longer than one call waits for its answers.
func TestNetworkBandwidth(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, l *line) {
		l.Emit(t, 10)
		l.AwaitHandled(t, 80)
		for _, stream := range []string{"upstream", "downstream"} {
			defer l.hurt(t, "bandwidth", stream, `{"rate":200}`)()
		}
		start := time.Now()
		l.Emit(t, 300)
		l.complete(t)
		t.Logf("2,400 events in %v", time.Since(start))
	})
}
