package natsbroker_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse/natsbroker"
)

// The server that leads the stream is killed under load, then the one that leads a subscription's consumer, then one is stopped, and one
// hands over. Nothing is lost, nothing changes places, and as soon as another server leads the relay publishes again.
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
	elections := watchElections(t, js)
	w := newWorld(t, connect(t, without(nodes, awaitLeader(t, js, streamLeader)), natsbroker.Options{Replicas: 3}))
	w.Begin(t, often)
	for _, way := range []struct {
		what   string
		leader func(ctx context.Context, js jetstream.JetStream) (string, error)
		lose   func(p *process)
	}{
		{"stream's leader killed", streamLeader, (*process).kill},
		{"consumer's leader killed", consumerLeader, (*process).kill},
		{"stream's leader stopped", streamLeader, (*process).stop},
		{"stream's leader handed over", streamLeader, func(*process) { handOver(t, js) }},
	} {
		w.AwaitHandled(t, 1000)
		led := awaitLeader(t, js, streamLeader)
		node := named(t, nodes, awaitLeader(t, js, way.leader))
		w.watched.outage()
		lost := time.Now()
		way.lose(node)
		elected := lost
		if node.Name == led {
			elected = awaitElection(t, js, elections, led)
		}
		eventually(t, "publishing", func() bool { return w.watched.lastAcked().After(elected.Add(time.Millisecond)) })
		again := w.watched.firstAfter(elected)
		w.AwaitHandled(t, 1000)
		t.Logf("%s: elected after %v, published %v later; no acknowledgement for %v, handled again after %v", way.what,
			elected.Sub(lost).Round(time.Millisecond), again.Round(time.Millisecond), w.watched.outage().Round(time.Millisecond), time.Since(lost).Round(time.Millisecond))
		if again > 10*time.Second { // what a busy machine needs; a quiet one takes a tenth of a second
			t.Errorf("published again %v after the stream had a leader", again)
		}
		if node.cmd == nil {
			node.start(t)
		}
		awaitReplicas(t, js)
		for len(elections) > 0 {
			<-elections
		}
	}
	w.AllNoted(t, 100)
	t.Logf("%d changes of each lesson, %d messages twice in the stream", w.Emitted(), w.AllStored(t, payloads(t, js, "PULSE")))
}

// watchElections tells when a leader of the stream is elected, by what that says itself.
func watchElections(t *testing.T, js jetstream.JetStream) <-chan time.Time {
	t.Helper()
	elections := make(chan time.Time, 100)
	_, err := js.Conn().Subscribe("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.PULSE", func(*nats.Msg) { elections <- time.Now() })
	if err == nil {
		err = js.Conn().Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return elections
}

// awaitElection returns when another leader than the one lost was elected. Who is connected to the server that is lost does not hear of
// it, and asks.
func awaitElection(t *testing.T, js jetstream.JetStream, elections <-chan time.Time, lost string) (elected time.Time) {
	t.Helper()
	eventually(t, "the election of another leader", func() bool {
		select {
		case elected = <-elections:
			return true
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		leader, err := streamLeader(ctx, js)
		elected = time.Now()
		return err == nil && leader != "" && leader != lost
	})
	return elected
}

// handOver makes the leader of the stream hand over to another server.
func handOver(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	if _, err := js.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN.PULSE", nil, patience); err != nil {
		t.Fatal(err)
	}
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

// awaitLeader returns the leader.
func awaitLeader(t *testing.T, js jetstream.JetStream, of func(ctx context.Context, js jetstream.JetStream) (string, error)) (leader string) {
	t.Helper()
	eventually(t, "the election of a leader", func() (ok bool) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		var err error
		leader, err = of(ctx, js)
		return err == nil && leader != ""
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
