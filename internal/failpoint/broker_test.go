package failpoint

import (
	"errors"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
)

// points parses a list for a test.
func points(t *testing.T, list string) *Points {
	t.Helper()
	p, err := Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// envelopes are n events for a broker.
func envelopes(n int) []pulse.Envelope {
	envs := make([]pulse.Envelope, n)
	for i := range envs {
		envs[i] = pulse.Envelope{Name: "a.b", Position: pulse.Position(i + 1), Data: []byte(`{}`)}
	}
	return envs
}

// TestPublishPoints fails before and after publishing: nobody knows, but after it the messages are there.
func TestPublishPoints(t *testing.T) {
	for point, there := range map[string]int{PublishBefore: 0, PublishAfter: 3} {
		t.Run(point, func(t *testing.T) {
			broker := membroker.New(nil)
			p := WrapPublisher(broker.Publisher("d"), points(t, point+"=error@1"))
			results := p.PublishBatch(t.Context(), envelopes(3))
			if len(results) != 3 {
				t.Fatalf("%d results", len(results))
			}
			for _, r := range results {
				if r.Outcome != pulse.Unknown || !errors.Is(r.Err, ErrInjected) || !errors.Is(r.Err, pulse.ErrBroker) {
					t.Errorf("got %+v", r)
				}
			}
			if n := len(broker.Messages("d")); n != there {
				t.Errorf("%d messages are there, want %d", n, there)
			}
			for _, r := range p.PublishBatch(t.Context(), envelopes(2)) {
				if r.Outcome != pulse.Acked {
					t.Errorf("the next batch: %+v", r)
				}
			}
		})
	}
}

func TestLastPoints(t *testing.T) {
	for _, point := range []string{LastBefore, LastAfter} {
		p := WrapPublisher(membroker.New(nil).Publisher("d"), points(t, point+"=error@1"))
		if _, ok, err := p.Last(t.Context()); ok || !errors.Is(err, ErrInjected) || !errors.Is(err, pulse.ErrBroker) {
			t.Errorf("%s: %t, %v", point, ok, err)
		}
		if _, ok, err := p.Last(t.Context()); !ok || err != nil {
			t.Errorf("after %s: %t, %v", point, ok, err)
		}
	}
}

// TestSourcePoints fails around Fetch and Ack: only after Ack are the messages acknowledged.
func TestSourcePoints(t *testing.T) {
	for point, again := range map[string]int{FetchAfter: 3, AckBefore: 3, AckAfter: 0} {
		t.Run(point, func(t *testing.T) {
			broker := membroker.New(nil)
			broker.Publisher("d").PublishBatch(t.Context(), envelopes(3))
			s := WrapSource(broker.Source("d"), points(t, point+"=error@1"))
			f, err := s.Open(t.Context(), pulse.FeedConfig{Subscription: "s", Window: 10})
			if err != nil {
				t.Fatal(err)
			}
			msgs, err := f.Fetch(t.Context(), 10)
			if point != FetchAfter {
				if len(msgs) != 3 || err != nil {
					t.Fatal(msgs, err)
				}
				err = f.Ack(t.Context(), []uint64{msgs[0].Receipt, msgs[1].Receipt, msgs[2].Receipt})
			}
			if !errors.Is(err, ErrInjected) || !errors.Is(err, pulse.ErrBroker) {
				t.Errorf("error %v", err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			broker.Publisher("d").PublishBatch(t.Context(), envelopes(4)[3:])
			f, err = s.Open(t.Context(), pulse.FeedConfig{Subscription: "s", Window: 10})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if msgs, err = f.Fetch(t.Context(), 10); err != nil || len(msgs) != again+1 {
				t.Errorf("%d messages come afterwards, want %d, %v", len(msgs), again+1, err)
			}
		})
	}
}
