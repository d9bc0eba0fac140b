package kafkabroker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/internal/brokerworld"
	"github.com/edupulse-live/pulse/kafkabroker"
)

// The topic is removed under load: it is made again, every event is handled once and in order, and the log feeds again what was not handled.
func TestTopicWipedUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: runs clusters for some seconds")
	}
	t.Parallel()
	for name, wipe := range map[string]func(t *testing.T, c *kfake.Cluster){
		"removed": func(t *testing.T, c *kfake.Cluster) {
			eventually(t, "removing the topic", func() bool { return c.DeleteTopic(topicName) == nil })
		},
		"made anew with more partitions": func(t *testing.T, c *kfake.Cluster) {
			eventually(t, "removing the topic", func() bool { return c.DeleteTopic(topicName) == nil })
			if err := c.CreateTopic(topicName, 4, nil); err != nil {
				t.Log("the relay was faster:", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t, kfake.NumBrokers(3))
			w := newWorld(t, connect(t, addresses(c), kafkabroker.Options{}))
			w.Begin(t, often)
			for range 3 {
				w.AwaitHandled(t, 500)
				wipe(t, c)
			}
			w.AwaitHandled(t, 1000)
			w.AllNoted(t, 100)
			w.Emit(t, 100)
			w.AllNoted(t, 100)
			if n := len(stored(t, c, kgo.ReadCommitted())); n < 800 {
				t.Errorf("%d records are in the topic, want what was emitted last", n)
			}
		})
	}
}

// Records that expired while a subscription was away are taken from the log: some of them, or all.
func TestExpiredWhileAway(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]int64{"all": 0, "all but the last 100": 100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			w := newWorld(t, connect(t, addresses(c), kafkabroker.Options{}))
			w.Emit(t, 100)
			eventually(t, "handling", func() bool { return w.Handled(t) >= 800 })
			if err := w.Pause(t.Context(), brokerworld.Subscription, "away"); err != nil {
				t.Fatal(err)
			}
			w.Emit(t, 200)
			head := w.State(t, brokerworld.Subscription).Head
			eventually(t, "publishing", func() bool { return w.Published(t) >= head })
			expire(t, c, keep)
			if err := w.Resume(t.Context(), brokerworld.Subscription); err != nil {
				t.Fatal(err)
			}
			w.AllNoted(t, 100) // before anything else comes
			w.Emit(t, 100)
			w.AllNoted(t, 100)
		})
	}
}

// expire removes all records of the first partition but the last ones.
func expire(t *testing.T, c *kfake.Cluster, keep int64) {
	t.Helper()
	if err := c.DeleteRecords(topicName, 0, c.PartitionInfo(topicName, 0).HighWatermark-keep); err != nil {
		t.Fatal(err)
	}
}

// A feed whose next record expires under its hands fails, and the next one goes on with what is there.
func TestFeedWhoseRecordsExpire(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	b := connect(t, addresses(c), kafkabroker.Options{})
	p := b.Publisher()
	f := open(t, b, pulse.FeedConfig{Window: 10})
	publish(t, p, events(1, 10))
	take(t, f, 10) // the window is full
	f.Close()
	publish(t, p, events(11, 50))
	expire(t, c, 21)
	again := open(t, b, pulse.FeedConfig{})
	if got := positions(take(t, again, 20)); got[0] != 41 || got[19] != 60 {
		t.Errorf("%v came, want 41 to 60", got)
	}
}

// Last notices what a cluster lost that was restored from an older copy: all partitions, or one of them, whose last records it then tells.
func TestLastNoticesALostTail(t *testing.T) {
	t.Parallel()
	for name, restore := range map[string]func(partition string) bool{
		"all partitions": func(string) bool { return true },
		"one of them":    func(partition string) bool { return partition == topicName+"-1" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, older := t.TempDir(), t.TempDir()
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir), kfake.SyncWrites())
			if err != nil {
				t.Fatal(err)
			}
			b := connect(t, addresses(c), kafkabroker.Options{Partitions: 3})
			p := b.Publisher()
			publish(t, p, events(1, 100))
			b.Close()
			c.Close()
			copyInto(t, older, dir)
			c, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir), kfake.SyncWrites())
			if err != nil {
				t.Fatal(err)
			}
			b = connect(t, addresses(c), kafkabroker.Options{})
			publish(t, b.Publisher(), events(101, 100))
			if last, ok, err := b.Publisher().Last(t.Context()); err != nil || !ok || last.Position != 200 {
				t.Fatalf("before anything is lost Last is %+v, %v, %v", last, ok, err)
			}
			b.Close()
			c.Close()
			restoreFrom(t, dir, older, restore)
			c, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir), kfake.SyncWrites())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			b = connect(t, addresses(c), kafkabroker.Options{})
			p = b.Publisher()
			last, ok, err := p.Last(t.Context())
			if err != nil || !ok || last.Position < 90 || last.Position > 100 {
				t.Errorf("Last is %+v, %v, %v, want a position of the older copy", last, ok, err)
			}
			publish(t, p, events(101, 100)) // as a relay does then
			if last, ok, err := b.Publisher().Last(t.Context()); err != nil || !ok || last.Position != 200 {
				t.Errorf("after what was lost is there again Last is %+v, %v, %v", last, ok, err)
			}
		})
	}
}

func copyInto(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// restoreFrom replaces the directories of partitions by those of an older copy.
func restoreFrom(t *testing.T, dir, older string, which func(partition string) bool) {
	t.Helper()
	restored := 0
	err := filepath.WalkDir(older, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.IsDir() || !strings.HasPrefix(e.Name(), topicName+"-") || !which(e.Name()) {
			return err
		}
		restored++
		rel, err := filepath.Rel(older, path)
		return errors.Join(err, os.RemoveAll(filepath.Join(dir, rel)), os.CopyFS(filepath.Join(dir, rel), os.DirFS(path)))
	})
	if err != nil || restored == 0 {
		t.Fatalf("%d partitions restored, %v", restored, err)
	}
}

// A second process takes a subscription over: the first feed ends, what it had not acknowledged comes to the second, and its late commits
// count for nothing.
func TestAnotherFeedTakesOver(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	b, other := connect(t, addresses(c), kafkabroker.Options{}), connect(t, addresses(c), kafkabroker.Options{})
	p := b.Publisher()
	first := open(t, b, pulse.FeedConfig{})
	publish(t, p, events(1, 20))
	msgs := take(t, first, 20)
	ack(t, first, msgs[:5]...)
	awaitCommit(t, c, 5)
	second := open(t, other, pulse.FeedConfig{})
	ack(t, first, msgs[5:8]...) // too late to be known, and forgotten when it is
	if got := positions(take(t, second, 12)); got[0] > 9 || got[len(got)-1] < 17 {
		t.Errorf("%v came to the second feed", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if msgs, err := first.Fetch(ctx, 10); !errors.Is(err, pulse.ErrBroker) || !strings.Contains(err.Error(), "another feed has taken over") {
		t.Errorf("the first feed gives %v, %v", positions(msgs), err)
	}
}

// awaitCommit waits until the group of the subscription mailer has come to an offset.
func awaitCommit(t *testing.T, c *kfake.Cluster, offset int64) {
	t.Helper()
	eventually(t, "the commit", func() bool {
		g := c.GroupInfo(topicName + ".mailer")
		return g != nil && g.Commits[topicName][0].Offset == offset
	})
}

// Only what is acknowledged without a gap is committed.
func TestCommitsAreContiguous(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	b := connect(t, addresses(c), kafkabroker.Options{})
	f := open(t, b, pulse.FeedConfig{})
	publish(t, b.Publisher(), events(1, 10))
	msgs := take(t, f, 10)
	ack(t, f, msgs[1:4]...)
	ack(t, f, msgs[6])
	awaitCommit(t, c, 0)
	ack(t, f, msgs[0])
	awaitCommit(t, c, 4)
	ack(t, f, msgs[4:6]...)
	awaitCommit(t, c, 7)
}

// A subscription that is dropped leaves no group; a feed of it that is open ends.
func TestForget(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	b := connect(t, addresses(c), kafkabroker.Options{})
	f := open(t, b, pulse.FeedConfig{})
	publish(t, b.Publisher(), events(1, 3))
	ack(t, f, take(t, f, 3)...)
	awaitCommit(t, c, 3)
	for range 2 {
		if err := kafkabroker.Forget(t.Context(), addresses(c), "mailer", nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := f.Fetch(ctx, 1); !errors.Is(err, pulse.ErrBroker) || ctx.Err() != nil {
		t.Errorf("the feed gives %v", err)
	}
	f.Close()
	state, err := kafkabroker.Inspect(t.Context(), addresses(c), nil)
	if err != nil || len(state.Subscriptions) != 0 || state.Last.Position != 3 || !state.Known || !state.Exists {
		t.Errorf("the state is %+v, %v", state, err)
	}
	nothing(t, open(t, b, pulse.FeedConfig{Start: 4}), 300*time.Millisecond)
}

// A subscription that another process forgot begins anew, with all that was acknowledged behind the oldest record that was not.
func TestForgottenBeginsAnew(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	b := connect(t, addresses(c), kafkabroker.Options{})
	publish(t, b.Publisher(), events(1, 5))
	f := open(t, b, pulse.FeedConfig{})
	ack(t, f, take(t, f, 5)[1:]...)
	if err := kafkabroker.Forget(t.Context(), addresses(c), "mailer", nil); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := kafkabroker.Forget(t.Context(), addresses(c), "mailer", nil); err != nil { // it may have committed
		t.Fatal(err)
	}
	if got := positions(take(t, open(t, b, pulse.FeedConfig{}), 5)); got[4] != 5 {
		t.Errorf("%v came, want all five", got)
	}
}

// What another program writes to the topic does not stop a subscription, and hides what was published before only until something follows.
func TestForeignRecords(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	b := connect(t, addresses(c), kafkabroker.Options{})
	p := b.Publisher()
	publish(t, p, events(1, 2))
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic(topicName))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = client.ProduceSync(t.Context(),
		&kgo.Record{},
		&kgo.Record{Key: []byte{0xff}, Value: []byte("hello")},
		&kgo.Record{Value: []byte(`{}`), Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("17")}, {Key: "ce_id", Value: []byte("18")}}},
		&kgo.Record{Value: []byte(`{}`), Headers: []kgo.RecordHeader{{Key: cloudevents.RecordPosition, Value: []byte("1000000")}, {Key: cloudevents.RecordCommitment, Value: []byte("none")}}},
	).FirstErr()
	if err != nil {
		t.Fatal(err)
	}
	if last, ok, err := p.Last(t.Context()); err != nil || ok || last != (pulse.Cursor{}) {
		t.Errorf("Last is %+v, %v, %v, but the last record is another's", last, ok, err)
	}
	publishUntil(t, p, events(3, 2))
	if last, ok, err := p.Last(t.Context()); err != nil || !ok || last.Position != 4 {
		t.Errorf("Last is %+v, %v, %v", last, ok, err)
	}
	f := open(t, b, pulse.FeedConfig{})
	ack(t, f, take(t, f, 4)...)
	nothing(t, f, 200*time.Millisecond)
	take(t, open(t, b, pulse.FeedConfig{Subscription: "late", Start: 3}), 2)
}

// A feed that is still open when its Broker is closed ends: nothing that it delivers could be acknowledged.
func TestFeedEndsWithItsBroker(t *testing.T) {
	t.Parallel()
	b := connect(t, addresses(cluster(t)), kafkabroker.Options{})
	f := open(t, b, pulse.FeedConfig{})
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := f.Fetch(ctx, 1); !errors.Is(err, pulse.ErrBroker) || ctx.Err() != nil {
		t.Errorf("the feed gives %v", err)
	}
}

// Who looks while events are published sees all that were there before.
func TestInspectWhilePublishing(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := connect(t, addresses(c), kafkabroker.Options{}).Publisher()
	publish(t, p, events(1, 1))
	var at atomic.Int64
	at.Store(1)
	ctx, cancel := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for ctx.Err() == nil {
			next := pulse.Position(at.Load()) + 1
			publish(t, p, events(next, 1))
			at.Store(int64(next))
		}
	})
	for range 100 {
		before := pulse.Position(at.Load())
		state, err := kafkabroker.Inspect(t.Context(), addresses(c), nil)
		if err != nil || !state.Known || state.Last.Position < before {
			t.Errorf("the state is %+v, %v, want position %d at least", state, err, before)
			break
		}
	}
	cancel()
	publishing.Wait()
}

// A cluster whose servers were all replaced by others, one after another, is still found by who is connected to it.
func TestAllServersAreReplaced(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(2))
	b := connect(t, addresses(c), kafkabroker.Options{})
	p := b.Publisher()
	publish(t, p, events(1, 1))
	for node := range int32(2) {
		if _, _, err := c.AddNode(-1, 0); err != nil {
			t.Fatal(err)
		}
		publishUntil(t, p, events(pulse.Position(2*node+2), 1))
		if _, _, err := b.Publisher().Last(t.Context()); err != nil { // the next one begins anew
			t.Fatal(err)
		}
		if err := c.RemoveNode(node); err != nil {
			t.Fatal(err)
		}
		publishUntil(t, p, events(pulse.Position(2*node+3), 1))
	}
	take(t, open(t, b, pulse.FeedConfig{}), 5)
}

// What was aborted is not taken for the last event, also when it is more than comes at once.
func TestAbortedIsNotLast(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := publisher(t, connect(t, addresses(c), kafkabroker.Options{}))
	publish(t, p, []pulse.Envelope{sized(1, 300_000), sized(2, 300_000)})
	var envs []pulse.Envelope
	for i := range pulse.Position(9) {
		envs = append(envs, sized(3+i, 100_000))
	}
	defer c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError}).Remove()
	if r := p.PublishBatch(t.Context(), envs)[0]; r.Outcome != pulse.Unknown {
		t.Fatalf("the outcome is %+v", r)
	}
	if last, ok, err := p.Last(t.Context()); err != nil || !ok || last.Position != 2 {
		t.Errorf("Last is %+v, %v, %v, want position 2", last, ok, err)
	}
}
