package natsbroker_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse/natsbroker"
)

// The server that leads the stream, and then the one that leads a subscription's consumer, is killed under load. Nothing is lost,
// nothing changes places, and as soon as another server leads the relay publishes again.
func TestClusterLosesLeadersUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: runs three servers for half a minute")
	}
	t.Parallel()
	nodes, addresses := processes(t)
	js := client(t, addresses)
	eventually(t, "the election of a leader", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "first", Replicas: 3})
		return err == nil
	})
	connect(t, addresses, natsbroker.Options{Replicas: 3}) // makes the stream
	w := newWorld(t, connect(t, without(nodes, awaitLeader(t, js, streamLeader, "")), natsbroker.Options{Replicas: 3}))
	w.begin(t)
	for _, of := range []struct {
		what   string
		leader func(ctx context.Context, js jetstream.JetStream) (string, error)
	}{{"stream", streamLeader}, {"consumer", consumerLeader}} {
		w.awaitNoted(t, 1000)
		leader := awaitLeader(t, js, of.leader, "")
		w.watched.outage()
		killed := time.Now()
		node := named(t, nodes, leader)
		node.kill()
		awaitLeader(t, js, streamLeader, leader)
		led := time.Now()
		eventually(t, "publishing", func() bool { return w.watched.lastAcked().After(led) })
		again := time.Since(led)
		w.awaitNoted(t, 1000)
		t.Logf("%s's leader killed: another leader known after %v, published %v later, outage %v, handled again after %v", of.what,
			led.Sub(killed).Round(time.Millisecond), again.Round(time.Millisecond), w.watched.outage().Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
		if again > 10*time.Second { // what a busy machine needs; a quiet one takes 1 to 3 seconds
			t.Errorf("published again %v after the stream had a leader", again)
		}
		node.start(t)
		awaitReplicas(t, js)
	}
	w.allNoted(t)
	t.Logf("%d changes of each lesson, %d messages twice in the stream", w.counts["a"], w.allStored(t, js, "PULSE", nil))
}

// without are the addresses of the servers but for one: a client that is connected to another one than the leader does not see that it
// is lost.
func without(nodes []*process, name string) string {
	var urls []string
	for _, p := range nodes {
		if p.Name != name {
			urls = append(urls, p.url())
		}
	}
	return strings.Join(urls, ",")
}

func streamLeader(ctx context.Context, js jetstream.JetStream) (string, error) {
	s, err := js.Stream(ctx, "PULSE")
	if err != nil {
		return "", err
	}
	return s.CachedInfo().Cluster.Leader, nil
}

func consumerLeader(ctx context.Context, js jetstream.JetStream) (leader string, err error) {
	s, err := js.Stream(ctx, "PULSE")
	if err != nil {
		return "", err
	}
	for c := range s.ListConsumers(ctx).Info() {
		leader = c.Cluster.Leader
	}
	return leader, nil
}

// awaitLeader returns the leader, which is not the one lost.
func awaitLeader(t *testing.T, js jetstream.JetStream, of func(ctx context.Context, js jetstream.JetStream) (string, error), lost string) (leader string) {
	t.Helper()
	eventually(t, "the election of a leader", func() (ok bool) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		var err error
		leader, err = of(ctx, js)
		return err == nil && leader != "" && leader != lost
	})
	return leader
}

// awaitReplicas waits until all servers have the stream.
func awaitReplicas(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	eventually(t, "the return of the server", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s, err := js.Stream(ctx, "PULSE")
		if err != nil {
			return false
		}
		current := 0
		for _, r := range s.CachedInfo().Cluster.Replicas {
			if r.Current && !r.Offline {
				current++
			}
		}
		return current == 2
	})
}
