package natsbroker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// A server that is stopped and comes back, with its messages or without, is found again: what waits ends, what is opened again works.
func TestServerComesBack(t *testing.T) {
	t.Parallel()
	for _, wiped := range []bool{false, true} {
		t.Run(fmt.Sprint("wiped ", wiped), func(t *testing.T) {
			dir := t.TempDir()
			s := run(t, &server.Options{Authorization: token, StoreDir: dir})
			port := s.Addr().(*net.TCPAddr).Port
			b := connect(t, s.ClientURL(), natsbroker.Options{})
			p, f := b.Publisher(), open(t, b, pulse.FeedConfig{})
			publish(t, p, events(1, 20))
			expect(t, f, through(1, 5)...)
			failure := make(chan error, 1)
			go func() {
				var err error
				for err == nil { // what had arrived before comes still
					_, err = f.Fetch(t.Context(), 10)
				}
				failure <- err
			}()
			s.Shutdown()
			s.WaitForShutdown()
			if err := <-failure; !errors.Is(err, pulse.ErrBroker) {
				t.Errorf("Fetch gives %v, want an ErrBroker", err)
			}
			f.Close()
			if r := p.PublishBatch(t.Context(), events(21, 1))[0]; r.Outcome != pulse.Unknown {
				t.Errorf("publishing to nobody: %+v", r)
			}
			if wiped {
				dir = t.TempDir()
			}
			run(t, &server.Options{Authorization: token, StoreDir: dir, Port: port})
			publishUntil(t, p, events(21, 20))
			at := pulse.Position(1)
			if wiped {
				at = 21
			}
			if oldest := first(t, b); oldest != at {
				t.Errorf("the oldest message is of position %d, want %d", oldest, at)
			}
			f = open(t, b, pulse.FeedConfig{})
			if wiped {
				expect(t, f, through(21, 40)...)
			} else if msgs := take(t, f, 35); msgs[34].Position != 40 {
				t.Errorf("%v came", positions(msgs))
			}
		})
	}
}

// A cluster loses one of three servers while a relay publishes and a subscription reads: all is there once, in order.
func TestClusterLosesAServer(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: runs three servers")
	}
	t.Parallel()
	servers, addresses := cluster(t)
	b := connect(t, addresses, natsbroker.Options{Replicas: 3})
	p := b.Publisher()
	publish(t, p, events(1, 100))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for _, s := range servers {
			if s.JetStreamIsStreamLeader("$G", "PULSE") {
				s.Shutdown()
				s.WaitForShutdown()
				return
			}
		}
	}()
	for at := 101; at < 1000; at += 30 {
		publishUntil(t, p, events(at, 30))
	}
	<-stopped
	all := readAll(t, b, 1000)
	for i := range all {
		if all[i].Position != pulse.Position(i+1) {
			t.Fatalf("position %d came as number %d", all[i].Position, i+1)
		}
	}
}

// The leader hands over while batches are on their way, one after the other and atomic ones: who publishes does not hear of it, and all is
// there once, in order.
func TestClusterHandsOver(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: runs three servers")
	}
	t.Parallel()
	_, addresses := cluster(t)
	b := connect(t, addresses, natsbroker.Options{Replicas: 3})
	js := client(t, addresses)
	p := b.Publisher()
	var handed atomic.Int64
	var handing sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	handing.Go(func() {
		for ctx.Err() == nil {
			if _, err := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN.PULSE", nil); err != nil {
				return
			}
			handed.Add(1)
			time.Sleep(300 * time.Millisecond)
		}
	})
	const changes, enough = 6, 500
	next, troubled := 1, 0
	for deadline := time.Now().Add(patience); (handed.Load() < changes || next < enough) && time.Now().Before(deadline); {
		n := 1 + next%40
		results := p.PublishBatch(t.Context(), events(next, n))
		acked, _, _ := outcomes(results)
		if acked < n {
			t.Logf("event %d: %v", next+acked, results[acked].Err)
			troubled++
		}
		next += acked
	}
	stop()
	handing.Wait()
	n := int(handed.Load())
	t.Logf("%d events published while the leader handed over %d times; %d batches in trouble", next-1, n, troubled)
	if n < changes || next < enough || troubled > n/3 {
		t.Errorf("too many batches in trouble, or too few of all")
	}
	all := readAll(t, b, next-1)
	for i := range all {
		if all[i].Position != pulse.Position(i+1) {
			t.Fatalf("position %d came as number %d", all[i].Position, i+1)
		}
	}
}

// readAll reads n messages, from the first again when the feed ends.
func readAll(t *testing.T, b *natsbroker.Broker, n int) (all []pulse.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(all) < n {
		f, err := b.Source().Open(ctx, pulse.FeedConfig{Subscription: "all", Window: 2 * n})
		for all = nil; err == nil && len(all) < n; {
			var msgs []pulse.Message
			msgs, err = f.Fetch(ctx, n)
			all = append(all, msgs...)
		}
		if ctx.Err() != nil {
			t.Fatalf("after %d of %d messages: %v", len(all), n, err)
		}
		if f != nil {
			f.Close()
		}
	}
	return all
}
