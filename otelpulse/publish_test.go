package otelpulse_test

import (
	"context"
	"fmt"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/membroker"
	"github.com/edupulse-live/pulse/otelpulse"
)

// TestPublisherKeepsTheContract runs the suite of the port over a decorated publisher.
func TestPublisherKeepsTheContract(t *testing.T) {
	s := record(t)
	brokertest.Run(t, brokertest.Options{Keeps: true, Open: func(t testing.TB) brokertest.Broker {
		b := membroker.New(&membroker.Options{MaxBytes: 600_000, MaxBatch: 50})
		return brokertest.Broker{Publisher: otelpulse.Publisher(b.Publisher("d"), "d", s.provider), Source: b.Source("d")}
	}})
}

func TestPublishCapsLinks(t *testing.T) {
	s := record(t)
	p := otelpulse.Publisher(membroker.New(nil).Publisher("d"), "d", s.provider)
	envs := make([]pulse.Envelope, 300)
	for i := range envs {
		envs[i] = brokertest.Envelope(pulse.Position(i+1), func(e *pulse.Envelope) {
			if i%2 == 0 {
				e.Trace = fmt.Sprintf("00-%032x-%016x-01", i+1, i+1)
			}
		})
	}
	envs[2].Trace = "of another system"
	p.PublishBatch(t.Context(), envs)
	span := s.one("publish d")
	if len(span.Links) != 128 || span.DroppedLinks != 0 {
		t.Fatalf("%d links, %d dropped, want 128 and 0", len(span.Links), span.DroppedLinks)
	}
	for i, position := range map[int]int{0: 1, 1: 5, 127: 257} {
		if got, want := span.Links[i].SpanContext.TraceID().String(), fmt.Sprintf("%032x", position); got != want {
			t.Errorf("link %d goes to the trace %s, want %s", i, got, want)
		}
	}
}

func TestPublishFails(t *testing.T) {
	s := record(t)
	b := membroker.New(&membroker.Options{Hook: func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
		if env.Position == 2 {
			return membroker.Refuse
		}
		return membroker.None
	}})
	p := otelpulse.Publisher(b.Publisher("d"), "d", s.provider)
	envs := []pulse.Envelope{brokertest.Envelope(1), brokertest.Envelope(2), brokertest.Envelope(3)}
	results := p.PublishBatch(t.Context(), envs)
	if len(results) != 3 || results[1].Outcome != pulse.Rejected {
		t.Fatalf("the results are %+v: the second must be rejected", results)
	}
	unacked := 0
	for _, r := range results {
		if r.Outcome != pulse.Acked {
			unacked++
		}
	}
	span := s.one("publish d")
	wantAttributes(t, span, map[attribute.Key]string{
		"error.type": "broker failed", "messaging.pulse.batch.unacked_count": fmt.Sprint(unacked), "messaging.batch.message_count": "3",
	})
	if span.Status.Code != codes.Error {
		t.Errorf("the status is %+v", span.Status)
	}
}

// broken is a publisher that breaks its contract.
type broken struct {
	pulse.Publisher
	publish func() []pulse.Result
}

func (b broken) PublishBatch(context.Context, []pulse.Envelope) []pulse.Result { return b.publish() }

// A relay publishes again what a publisher gave no answer for, and goes on when it panics: neither is a success.
func TestPublishWithoutAnswersFails(t *testing.T) {
	for name, tc := range map[string]struct {
		publish func() []pulse.Result
		unacked string
		kind    string
	}{
		"panic":      {func() []pulse.Result { panic("nil map") }, "3", "panic"},
		"one answer": {func() []pulse.Result { return []pulse.Result{{Outcome: pulse.Acked}} }, "2", "_OTHER"},
	} {
		s := record(t)
		p := otelpulse.Publisher(broken{publish: tc.publish}, "d", s.provider)
		func() {
			defer func() { _ = recover() }()
			p.PublishBatch(t.Context(), []pulse.Envelope{brokertest.Envelope(1), brokertest.Envelope(2), brokertest.Envelope(3)})
		}()
		span := s.one("publish d")
		wantAttributes(t, span, map[attribute.Key]string{"error.type": tc.kind, "messaging.pulse.batch.unacked_count": tc.unacked})
		if span.Status.Code != codes.Error {
			t.Errorf("%s: the status is %+v", name, span.Status)
		}
	}
}
