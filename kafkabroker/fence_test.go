package kafkabroker_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/kafkabroker"
)

// A publisher that begins fences the one before: that fails once, with nothing of its batch there, and begins again.
func TestTheLastPublisherFencesTheOthers(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	envs := events(1, 30)
	one := connect(t, addresses(c), kafkabroker.Options{}).Publisher()
	two := connect(t, addresses(c), kafkabroker.Options{}).Publisher()
	publish(t, one, envs[:10])
	publish(t, two, envs[10:20])
	for _, r := range one.PublishBatch(t.Context(), envs[10:20]) {
		if r.Outcome != pulse.Unknown || !strings.Contains(r.Err.Error(), "another publisher has taken over") {
			t.Fatalf("the publisher that was fenced answers %+v", r)
		}
	}
	if n := len(stored(t, c, kgo.ReadCommitted())); n != 20 {
		t.Errorf("%d records, want 20: none of what was fenced", n)
	}
	if last, ok, err := one.Last(t.Context()); err != nil || !ok || last.Position != 20 {
		t.Errorf("Last is %+v, %v, %v", last, ok, err)
	}
	publish(t, one, envs[20:])
	if n := len(stored(t, c, kgo.ReadCommitted())); n != 30 {
		t.Errorf("%d records, want 30", n)
	}
}

// A topic in which all transactions were aborted has none of our records, and that is known.
func TestNothingWasCommitted(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	b := connect(t, addresses(c), kafkabroker.Options{})
	p := b.Publisher()
	if _, _, err := p.Last(t.Context()); err != nil { // makes the topic
		t.Fatal(err)
	}
	other, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID("other"), kgo.DefaultProduceTopic(topicName))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for range 3 {
		if err := other.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := other.ProduceSync(t.Context(), kgo.StringRecord("aborted")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := other.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
	}
	if last, ok, err := p.Last(t.Context()); err != nil || !ok || last != (pulse.Cursor{}) {
		t.Errorf("Last is %+v, %v, %v, want nothing, known", last, ok, err)
	}
	publish(t, p, events(1, 3))
}

// A client that does not list a topic yet would abort the transaction it is to commit, and say that it has committed it.
func TestATransactionIsNotEndedBeforeItsTopicIsListed(t *testing.T) {
	t.Parallel()
	servers := addresses(cluster(t))
	b := connect(t, servers, kafkabroker.Options{})
	client, err := kgo.NewClient(kgo.SeedBrokers(servers), kgo.TransactionalID("mine"), kgo.DefaultProduceTopic("pulse"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := kafkabroker.Listed(soon, client, "pulse", make([]kgo.Record, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before anything is produced: %v", err)
	}
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), kgo.StringRecord("first")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := kafkabroker.Listed(t.Context(), client, "pulse", make([]kgo.Record, 1)); err != nil {
		t.Error(err)
	}
	if err := client.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Error(err)
	}
	if _, ok, err := b.Publisher().Last(t.Context()); err != nil || ok {
		t.Errorf("Last says %t, %v: there is a record, and it is no event", ok, err)
	}
}

// Two relays at once, each as if it was alone: what is in the topic is complete, there are duplicates at most, and the events of a key first
// appear in order, for readers of all records too. Five partitions make sure that this is not due to there being one.
func TestTwoRelaysAtOnce(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 5} {
		c := cluster(t)
		envs := events(1, 6000)
		var relays sync.WaitGroup
		fenced := make([]int, 2)
		for i := range fenced {
			p := connect(t, addresses(c), kafkabroker.Options{Partitions: partitions}).Publisher()
			relays.Go(func() { fenced[i] = relay(t, p, envs) })
		}
		relays.Wait()
		if fenced[0]+fenced[1] < 3 {
			t.Errorf("the relays fenced each other %d times only", fenced)
		}
		for _, level := range []kgo.IsolationLevel{kgo.ReadUncommitted(), kgo.ReadCommitted()} {
			firstInOrder(t, stored(t, c, level), envs)
		}
		t.Logf("%d partitions: fenced %v times", partitions, fenced)
	}
}

// relay publishes envs as a relay does: from behind the last there, and from there again after a failure, but not at once. It returns how
// often it failed.
func relay(t *testing.T, p pulse.Publisher, envs []pulse.Envelope) (failed int) {
	wait := 10 * time.Millisecond
	for {
		last, ok, err := p.Last(t.Context())
		if err != nil || !ok {
			if failed++; failed > 100 {
				t.Errorf("Last fails again and again: %v, %v", ok, err)
				return failed
			}
			time.Sleep(rand.N(wait))
			wait = min(2*wait, time.Second)
			continue
		}
		for rest := envs[last.Position:]; ; {
			if len(rest) == 0 {
				return failed
			}
			n := min(1+rand.IntN(100), len(rest))
			results := p.PublishBatch(t.Context(), rest[:n])
			if results[n-1].Outcome != pulse.Acked {
				failed++
				time.Sleep(rand.N(wait)) // another one's turn, for longer each time: otherwise they only fence each other
				wait = min(2*wait, time.Second)
				break
			}
			rest, wait = rest[n:], 10*time.Millisecond
		}
		if t.Context().Err() != nil {
			return failed
		}
	}
}

// firstInOrder fails the test unless records have each of envs, and those of a key for the first time in order.
func firstInOrder(t *testing.T, records []*kgo.Record, envs []pulse.Envelope) {
	t.Helper()
	index := map[string]int{}
	for i := range envs {
		index[envs[i].ID.String()] = i
	}
	last, seen := map[string]int{}, map[int]bool{}
	for _, r := range records {
		i, ok := index[headerOf(r, "ce_id")]
		if !ok {
			t.Fatalf("a record of another event: %v", r.Headers)
		}
		if key := string(r.Key); !seen[i] {
			if i < last[key] {
				t.Fatalf("event %d first appears after %d of the same key", i, last[key])
			}
			seen[i], last[key] = true, i
		}
	}
	if len(seen) != len(envs) {
		t.Errorf("%d of %d events are there", len(seen), len(envs))
	}
}

func headerOf(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// A call whose context ends on the way leaves nothing half: all of the batch is there, or none, and publishing again completes it in order.
func TestCancelledOnTheWay(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := connect(t, addresses(c), kafkabroker.Options{Partitions: 5}).Publisher()
	envs := events(1, 2000)
	cut := 0
	for at := 0; at < len(envs); {
		n := min(100, len(envs)-at)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(3000))*time.Microsecond)
		results := p.PublishBatch(ctx, envs[at:at+n])
		cancel()
		if results[0].Outcome != pulse.Acked {
			cut++
		}
		if _, _, err := p.Last(t.Context()); err != nil { // ends the transaction that was cut
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, r := range stored(t, c, kgo.ReadCommitted()) {
			found[headerOf(r, "ce_id")] = true
		}
		there := 0
		for _, env := range envs[at : at+n] {
			if found[env.ID.String()] {
				there++
			}
		}
		if there != 0 && there != n {
			t.Fatalf("%d of %d events of a batch are there", there, n)
		}
		if results[0].Outcome == pulse.Acked && there != n {
			t.Fatal("a batch that was acknowledged is not there")
		}
		publishUntil(t, p, envs[at:at+n])
		at += n
	}
	firstInOrder(t, stored(t, c, kgo.ReadUncommitted()), envs)
	if cut < 3 {
		t.Errorf("only %d calls were cut", cut)
	}
}
