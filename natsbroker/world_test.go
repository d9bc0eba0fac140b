package natsbroker_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/brokerworld"
	"github.com/edupulse-live/pulse/natsbroker"
)

// often is the pause between changes under load: there are some 2,000 events in a second.
const often = 4 * time.Millisecond

// world is a bus whose events go to a broker and from there to a subscription.
type world struct {
	*brokerworld.World
	watched *watched
}

// newWorld makes a world that runs until the end of the test.
func newWorld(t *testing.T, b *natsbroker.Broker) *world {
	t.Helper()
	seen := &watched{Publisher: b.Publisher(), times: map[pulse.Position]int{}}
	return &world{brokerworld.New(t, "nats", seen, b.Source()), seen}
}

// payloads reads a stream with another client.
func payloads(t *testing.T, js jetstream.JetStream, stream string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var s jetstream.Stream
		var c jetstream.Consumer
		eventually(t, "looking at the stream", func() bool { // a cluster that elects a leader does not answer
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			var err error
			if s, err = js.Stream(ctx, stream); err == nil {
				c, err = s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
			}
			return err == nil
		})
		deadline := time.Now().Add(patience)
		for left := int(s.CachedInfo().State.Msgs); left > 0; {
			batch, err := c.Fetch(min(left, 1000), jetstream.FetchMaxWait(5*time.Second))
			if err != nil {
				t.Fatalf("%d messages before the end: %v", left, err)
			}
			before := left
			for m := range batch.Messages() {
				left--
				if !yield(m.Data()) {
					return
				}
			}
			if err := batch.Error(); left == before && (time.Now().After(deadline) || !errors.Is(err, nats.ErrNoResponders)) {
				t.Fatalf("%d messages before the end: %v", left, err) // no responders: a cluster does not know the new consumer everywhere yet
			}
		}
	}
}

// watched is a publisher that notes what its broker acknowledges.
type watched struct {
	pulse.Publisher
	mu    sync.Mutex
	acked time.Time              // when something was acknowledged last
	all   []time.Time            // when something was acknowledged
	gap   time.Duration          // the longest time between two such
	times map[pulse.Position]int // how often each event was acknowledged
}

func (p *watched) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	results := p.Publisher.PublishBatch(ctx, envs)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range results {
		if results[i].Outcome != pulse.Acked {
			continue
		}
		now := time.Now()
		if !p.acked.IsZero() {
			p.gap = max(p.gap, now.Sub(p.acked))
		}
		p.acked = now
		if len(p.all) == 0 || p.all[len(p.all)-1].Before(now.Add(-time.Millisecond)) {
			p.all = append(p.all, now)
		}
		p.times[envs[i].Position]++
	}
	return results
}

// outage is the longest time without an acknowledgement since it was asked last.
func (p *watched) outage() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	gap := p.gap
	p.gap = 0
	return gap
}

func (p *watched) lastAcked() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// firstAfter is how long after a time something was acknowledged for the first time.
func (p *watched) firstAfter(when time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, _ := slices.BinarySearchFunc(p.all, when, time.Time.Compare)
	if i == len(p.all) {
		return p.acked.Sub(when)
	}
	return p.all[i].Sub(when)
}

// againBefore counts the events up to a position that were published more than once.
func (p *watched) againBefore(position pulse.Position) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, times := range p.times {
		if at <= position && times > 1 {
			n++
		}
	}
	return n
}
