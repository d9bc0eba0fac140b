package kafkabroker_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/edupulse-live/pulse/kafkabroker"
)

// faults are what may happen to a cluster of three under load, again and again. Each returns how often it had an effect that can be counted.
func faults() map[string]func(t *testing.T, c *kfake.Cluster) int {
	fail := func(err *kerr.Error, keys ...kmsg.Key) func(*testing.T, *kfake.Cluster) int {
		return func(t *testing.T, c *kfake.Cluster) int {
			h := c.Fault(kfake.Fault{Keys: keys, Err: err, Count: 3})
			defer h.Remove()
			if err := h.Wait(t.Context(), 1); err != nil {
				t.Error(err)
			}
			return h.Hits()
		}
	}
	return map[string]func(t *testing.T, c *kfake.Cluster) int{
		"produce answered with an error after append":  fail(kerr.NotEnoughReplicasAfterAppend, kmsg.Produce),
		"produce answered with a timeout after append": fail(kerr.RequestTimedOut, kmsg.Produce),
		"too few replicas":                                  fail(kerr.NotEnoughReplicas, kmsg.Produce),
		"another publisher fences":                          fail(kerr.InvalidProducerEpoch, kmsg.Produce),
		"end of the transaction answered with an error":     fail(kerr.UnknownServerError, kmsg.EndTxn),
		"the connection is cut at the end of a transaction": cut(kmsg.EndTxn),
		"the connection is cut at produce":                  cut(kmsg.Produce),
		"commit of a place answered with an error":          fail(kerr.NotCoordinator, kmsg.OffsetCommit),
		"the leader moves":                                  func(_ *testing.T, c *kfake.Cluster) int { c.ShufflePartitionLeaders(); return 1 },
		"the coordinators move":                             func(_ *testing.T, c *kfake.Cluster) int { c.RehashCoordinators(); return 1 },
		"a broker is removed":                               removeBroker,
	}
}

// cut cuts the connection instead of doing what is asked.
func cut(key kmsg.Key) func(*testing.T, *kfake.Cluster) int {
	return func(t *testing.T, c *kfake.Cluster) int {
		hit := make(chan struct{})
		c.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			close(hit)
			return nil, errCut, true
		})
		select {
		case <-hit:
		case <-time.After(patience):
			t.Error("nothing was asked")
		}
		return 1
	}
}

// removeBroker takes the leader of the first partition away, and adds another broker.
func removeBroker(t *testing.T, c *kfake.Cluster) int {
	if _, _, err := c.AddNode(-1, 0); err != nil {
		t.Error(err)
	}
	if err := c.RemoveNode(c.LeaderFor(topicName, 0)); err != nil {
		t.Error(err)
	}
	return 1
}

var errCut = kerr.NetworkException

// Whatever happens to the cluster under load, every event is in the topic, those of a key for the first time in order, and handled once and in
// order.
func TestFaultsUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: runs clusters for some seconds")
	}
	t.Parallel()
	for _, partitions := range []int{1, 5} {
		for name, fault := range faults() {
			t.Run(name+map[int]string{1: "", 5: ", five partitions"}[partitions], func(t *testing.T) {
				t.Parallel()
				c := cluster(t, kfake.NumBrokers(3))
				w := newWorld(t, connect(t, addresses(c), kafkabroker.Options{Partitions: partitions}))
				w.Begin(t, often)
				w.AwaitHandled(t, 100)
				const times = 5
				hits := 0
				for range times {
					hits += fault(t, c)
					w.AwaitPublished(t, 200)
				}
				w.AwaitHandled(t, 500)
				w.AllNoted(t, 100)
				again := allStored(t, w, c)
				if hits < times {
					t.Errorf("the fault happened %d times only", hits)
				}
				t.Logf("%d changes of each lesson, %d events again, %d faults", w.Emitted(), again, hits)
			})
		}
	}
}
