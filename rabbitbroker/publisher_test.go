package rabbitbroker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// sized is an edit that makes a payload of so many bytes.
func sized(n int) func(*pulse.Envelope) {
	return func(e *pulse.Envelope) { e.Data = []byte(`"` + strings.Repeat("x", n-2) + `"`) }
}

// Payloads of all sizes come as they were, up to the limit; beyond it they are Rejected.
func TestSizes(t *testing.T) {
	t.Parallel()
	b := connect(t, shared.Server(t).URL(), rabbitbroker.Options{})
	p, f := b.Publisher(), open(t, b, pulse.FeedConfig{})
	limit := p.Capabilities().MaxBytes
	probe := events(1, 1, sized(2))[0]
	most := limit - probe.Size() + 2
	var envs []pulse.Envelope
	for i, n := range []int{2, 3, 4096, 131_000, 131_072, 131_073, 1 << 20, most} {
		envs = append(envs, events(pulse.Position(i+1), 1, sized(n))...)
	}
	envs[0].Data = []byte("0") // one byte
	publish(t, p, envs)
	for i, m := range take(t, f, len(envs)) {
		if m.ID != envs[i].ID || !bytes.Equal(m.Data, envs[i].Data) {
			t.Errorf("message %d has %d bytes, want %d", i, len(m.Data), len(envs[i].Data))
		}
	}
	refusedWith(t, p, events(20, 2, sized(most+1)), pulse.Rejected, "it takes")
	empty := events(30, 1)
	empty[0].Data = nil
	refusedWith(t, p, empty, pulse.Rejected, "the event has no data")
}

// A server that takes less than it was said to closes the channel without saying which message it was: that one is found, and Rejected, and
// the others are published, in order.
func takesLess(t *testing.T, srv *rabbittest.Server) {
	b := connect(t, srv.URL(), rabbitbroker.Options{})
	p, f := b.Publisher(), open(t, b, pulse.FeedConfig{})
	envs := events(1, 40)
	sized(100_001)(&envs[25])
	results := p.PublishBatch(t.Context(), envs)
	for i, r := range results {
		want := pulse.Acked
		switch {
		case i == 25:
			want = pulse.Rejected
		case i > 25:
			want = pulse.Withheld
		}
		if r.Outcome != want {
			t.Fatalf("event %d: outcome %d, want %d: %v", i, r.Outcome, want, r.Err)
		}
	}
	rest := envs[26:]
	publish(t, p, rest)
	next := pulse.Position(1)
	for next <= 40 {
		m := take(t, f, 1)[0]
		if m.Position > next {
			t.Fatalf("position %d came when %d was next", m.Position, next)
		}
		if m.Position == next {
			if next++; next == 26 {
				next++
			}
		}
	}
}

// Headers that do not fit into one frame would cost the connection: such an event is Rejected.
func TestHeadersTooLarge(t *testing.T) {
	t.Parallel()
	p := connect(t, shared.Server(t).URL(), rabbitbroker.Options{}).Publisher()
	many := `{"a":"x"`
	for i := range 40 {
		many += fmt.Sprintf(`,"b%d":%q`, i, strings.Repeat("y", 4000))
	}
	extensions := func(text string) func(*pulse.Envelope) {
		return func(e *pulse.Envelope) { e.Extensions = []byte(text) }
	}
	publish(t, p, events(1, 1))
	refusedWith(t, p, events(2, 2, extensions(many+"}")), pulse.Rejected, "its headers take", "frame_max")
	refusedWith(t, p, events(2, 2, extensions(`{"`+strings.Repeat("n", 250)+`":"x"}`)), pulse.Rejected, "has a name of more than")
	refusedWith(t, p, events(2, 2, extensions(`{"datacontenttype":"application/`+strings.Repeat("n", 250)+`+json"}`)), pulse.Rejected, "the content type has")
	publish(t, p, events(3, 1, extensions(`{"note":"`+strings.Repeat("y", 60_000)+`"}`)))
}

// What nobody listens to is confirmed and counted, each message once, and logged once for each name. A queue that is bound to the alternate
// exchange has it instead.
func TestUnrouted(t *testing.T) {
	t.Parallel()
	srv, exchange := shared.Server(t), shared.Name()
	var log bytes.Buffer
	b := connect(t, srv.URL(), rabbitbroker.Options{Exchange: exchange, Log: slog.New(slog.NewTextHandler(&log, nil))})
	p := b.Publisher()
	open(t, b, pulse.FeedConfig{Names: []string{"quiz.>"}})
	var envs []pulse.Envelope
	for i := range 3000 {
		name := []string{"quiz.submitted", "lesson.published", "lesson.withdrawn"}[i%3]
		envs = append(envs, events(pulse.Position(i+1), 1, func(e *pulse.Envelope) { e.Name = name })...)
	}
	publish(t, p, envs)
	if n := p.Unrouted(); n != 2000 {
		t.Errorf("%d of 2000 were counted", n)
	}
	if n := strings.Count(log.String(), "nobody listens"); n != 2 || !strings.Contains(log.String(), "name=lesson.withdrawn") {
		t.Errorf("the log is\n%s", &log)
	}
	ch := client(t, srv.URL())
	seen := queue(t, ch, exchange+".unrouted", "", nil)
	publish(t, p, events(4000, 2))
	if n := p.Unrouted(); n != 2000 {
		t.Errorf("%d were counted when a queue takes them", n-2000)
	}
	for range 2 {
		if d, ok, err := ch.Get(seen, true); err != nil || !ok || d.RoutingKey != "lesson.published" {
			t.Errorf("from the alternate exchange comes %q, %v, %v", d.RoutingKey, ok, err)
		}
	}
}

// A full queue refuses: what it took stays, nothing is Rejected, and who publishes is told. When there is room again all come, those of a key
// for the first time in order.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	srv, exchange := shared.Server(t), shared.Name()
	b := connect(t, srv.URL(), rabbitbroker.Options{Exchange: exchange})
	ch := client(t, srv.URL())
	full := queue(t, ch, exchange, "#", amqp.Table{"x-queue-type": "quorum", "x-max-length": 500, "x-overflow": "reject-publish"})
	p, rest, refused := b.Publisher(), events(1, 3000), 0
	next := 1
	drain := func(n int) {
		for range n {
			d, ok, err := ch.Get(full, true)
			if err != nil || !ok {
				return
			}
			at, _ := strconv.Atoi(d.Headers["cloudEvents_position"].(string))
			if at > next {
				t.Fatalf("position %d came when %d was next", at, next)
			}
			if at == next {
				next++
			}
		}
	}
	for deadline := time.Now().Add(patience); len(rest) > 0 && time.Now().Before(deadline); {
		acked := 0
		for _, r := range p.PublishBatch(t.Context(), rest) {
			switch r.Outcome {
			case pulse.Acked:
				acked++
			case pulse.Unknown:
				if refused++; !strings.Contains(r.Err.Error(), "a queue refuses the message for now") {
					t.Fatalf("%v", r.Err)
				}
			default:
				t.Fatalf("outcome %d: %v", r.Outcome, r.Err)
			}
		}
		if rest = rest[acked:]; acked == 0 {
			drain(200)
		}
	}
	eventually(t, "all messages", func() bool { drain(100); return next > 3000 })
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// Two publishers of the same events at once: what comes is in order for the first time, and comes twice at most.
func TestTwoPublishers(t *testing.T) {
	t.Parallel()
	srv, exchange := shared.Server(t), shared.Name()
	b := connect(t, srv.URL(), rabbitbroker.Options{Exchange: exchange})
	f := open(t, b, pulse.FeedConfig{Window: 10_000})
	envs := events(1, 2000)
	var both sync.WaitGroup
	for i := range 2 {
		both.Go(func() {
			p := b.Publisher()
			for at := 0; at < len(envs); at += 100 {
				publish(t, p, envs[at:at+100])
				randomly(time.Duration(i+1) * time.Millisecond)
			}
		})
	}
	both.Wait()
	next, times := pulse.Position(1), map[pulse.Position]int{}
	for _, m := range take(t, f, 2*len(envs)) {
		if times[m.Position]++; m.Position > next {
			t.Fatalf("position %d came when %d was next", m.Position, next)
		}
		if m.Position == next {
			next++
		}
	}
	for at, n := range times {
		if n != 2 {
			t.Errorf("position %d came %d times", at, n)
		}
	}
}

// A context that ends while a batch is on its way loses nothing that was Acked, and the next batch finds all well.
func TestCancelledInside(t *testing.T) {
	t.Parallel()
	b := connect(t, shared.Server(t).URL(), rabbitbroker.Options{})
	p, f := b.Publisher(), open(t, b, pulse.FeedConfig{Window: 60_000})
	rest, cancelled := events(1, 20_000), 0
	for len(rest) > 0 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		acked := 0
		for _, r := range p.PublishBatch(ctx, rest[:min(4000, len(rest))]) {
			if r.Outcome == pulse.Acked {
				acked++
			} else if !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Fatal(r.Err)
			}
		}
		if ctx.Err() != nil {
			cancelled++
		}
		cancel()
		if cancelled > 5 {
			publish(t, p, rest[:min(4000, len(rest))])
			acked = min(4000, len(rest))
		}
		rest = rest[acked:]
	}
	next := pulse.Position(1)
	for next <= 20_000 {
		m := take(t, f, 1)[0]
		if m.Position > next {
			t.Fatalf("position %d came when %d was next", m.Position, next)
		}
		if m.Position == next {
			next++
		}
	}
	if cancelled == 0 {
		t.Error("no context ended inside")
	}
}

// A server that is short of memory takes nothing: PublishBatch does not wait for ever, says why, and goes on when there is memory again.
func shortOfMemory(t *testing.T, srv *rabbittest.Server) {
	b := connect(t, srv.URL(), rabbitbroker.Options{})
	p, f := b.Publisher(), open(t, b, pulse.FeedConfig{})
	publish(t, p, events(1, 10))
	if err := srv.Control(t.Context(), "set_vm_memory_high_watermark", "absolute", "1MB"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	refusedWith(t, p, events(11, 4000, sized(5000)), pulse.Unknown, "the server takes no messages because it is short of something (low on memory)")
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("that took %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	if r := p.PublishBatch(ctx, events(11, 4000, sized(5000)))[0]; r.Outcome != pulse.Unknown || !errors.Is(r.Err, context.DeadlineExceeded) {
		t.Errorf("before it gives up: %+v", r)
	}
	cancel()
	if msgs := take(t, f, 10); f.Ack(t.Context(), []uint64{msgs[9].Receipt}) != nil {
		t.Error("acknowledging stands still too")
	}
	if err := srv.Control(t.Context(), "set_vm_memory_high_watermark", "absolute", "1GB"); err != nil {
		t.Fatal(err)
	}
	publishUntil(t, p, events(11, 10))
}
