package natsbroker_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/natsbroker"
)

// events returns n envelopes from position first on, as a school has them.
func events(first, n int) []pulse.Envelope {
	envs := make([]pulse.Envelope, n)
	for i := range envs {
		envs[i] = brokertest.Envelope(pulse.Position(first+i), func(e *pulse.Envelope) {
			e.Key, e.Actor = "lesson-"+strconv.Itoa(i%100), uuid.New()
			e.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
			e.Data = json.RawMessage(`{"lesson":"` + uuid.NewString() + `","title":"Fractions and decimals","course":"Mathematics 7","minutes":45}`)
		})
	}
	return envs
}

func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{1, 10, 100, 1000, 4000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			p := embed(b, b.TempDir(), natsbroker.Options{}).Publisher()
			envs := events(1, size)
			position := pulse.Position(0)
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += size {
				for i := range envs {
					position++
					envs[i].Position = position
				}
				for _, r := range p.PublishBatch(b.Context(), envs) {
					if r.Outcome != pulse.Acked {
						b.Fatal(r.Err)
					}
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkAgainstClient publishes in turns by the Publisher and by the client's own loop with the same headers, made before: atomic
// batches by hand from ten on, else one answer awaited for each. The ratio is the Publisher's speed by the client's.
func BenchmarkAgainstClient(b *testing.B) {
	for _, size := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			ours := embed(b, b.TempDir(), natsbroker.Options{}).Publisher()
			theirs := newLoop(b, size)
			envs := events(1, size)
			var took [2]time.Duration
			rounds := 0
			for b.Loop() {
				start := time.Now()
				for i, r := range ours.PublishBatch(b.Context(), envs) {
					envs[i].Position += pulse.Position(size)
					if r.Outcome != pulse.Acked {
						b.Fatal(r.Err)
					}
				}
				middle := time.Now()
				theirs.publish(b)
				took[0] += middle.Sub(start)
				took[1] += time.Since(middle)
				rounds += size
			}
			b.ReportMetric(float64(took[1])/float64(took[0]), "ratio")
			b.ReportMetric(float64(rounds)/took[0].Seconds(), "ours/s")
			b.ReportMetric(float64(rounds)/took[1].Seconds(), "client/s")
		})
	}
}

// loop is the client alone.
type loop struct {
	nc      *nats.Conn
	msgs    []*nats.Msg
	inbox   string
	answers *nats.Subscription
}

func newLoop(b *testing.B, size int) *loop {
	b.Helper()
	_, nc := admin(b, embed(b, b.TempDir(), natsbroker.Options{}))
	l := &loop{nc: nc, inbox: nats.NewInbox(), msgs: make([]*nats.Msg, size)}
	for i, env := range events(1, size) {
		headers, err := cloudevents.AppendHeaders(nil, &env)
		if err != nil {
			b.Fatal(err)
		}
		l.msgs[i] = &nats.Msg{Subject: "pulse.0." + env.Name, Header: nats.Header{}, Data: env.Data}
		for _, h := range headers {
			l.msgs[i].Header[h.Name] = []string{h.Value}
		}
	}
	var err error
	if l.answers, err = nc.SubscribeSync(l.inbox); err != nil {
		b.Fatal(err)
	}
	return l
}

func (l *loop) publish(b *testing.B) {
	id, last := uuid.NewString(), len(l.msgs)-1
	for i, m := range l.msgs {
		if last >= 9 {
			m.Header["Nats-Batch-Id"] = []string{id}
			m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
			if i == last {
				m.Header["Nats-Batch-Commit"] = []string{"1"}
			}
		}
		if i == last {
			m.Reply = l.inbox
		}
		if err := l.nc.PublishMsg(m); err != nil {
			b.Fatal(err)
		}
	}
	if m, err := l.answers.NextMsgWithContext(b.Context()); err != nil || bytes.Contains(m.Data, []byte("error")) {
		b.Fatalf("%v, %s", err, m.Data)
	}
}

func BenchmarkFetch(b *testing.B) {
	broker := embed(b, b.TempDir(), natsbroker.Options{})
	p := broker.Publisher()
	for done := 0; done < b.N; done += 1000 {
		p.PublishBatch(b.Context(), events(done+1, min(1000, b.N-done)))
	}
	f, err := broker.Source().Open(b.Context(), pulse.FeedConfig{Subscription: "mailer", Window: 2048})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		msgs, err := f.Fetch(b.Context(), 512)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Ack(b.Context(), receipts(msgs)); err != nil {
			b.Fatal(err)
		}
		done += len(msgs)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// BenchmarkLatency is the way of one message there and back: published, synced, fetched, acknowledged.
func BenchmarkLatency(b *testing.B) {
	broker := embed(b, b.TempDir(), natsbroker.Options{})
	p := broker.Publisher()
	f, err := broker.Source().Open(b.Context(), pulse.FeedConfig{Subscription: "mailer"})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	envs := events(1, 1)
	for b.Loop() {
		p.PublishBatch(b.Context(), envs)
		envs[0].Position++
		msgs, err := f.Fetch(b.Context(), 512)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Ack(b.Context(), receipts(msgs)); err != nil {
			b.Fatal(err)
		}
	}
}
