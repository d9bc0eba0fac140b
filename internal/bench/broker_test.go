package bench

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
)

// opened is a client on the stream of a new broker, with n events to publish.
func opened(t *testing.T, n int) (*client, jetstream.Stream) {
	t.Helper()
	broker, err := embedNATS(t.Context(), filepath.Join(t.TempDir(), "bench.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	var envs []pulse.Envelope
	for i := range n {
		envs = append(envs, brokertest.Envelope(pulse.Position(i+1), same))
	}
	c := &client{}
	t.Cleanup(c.close)
	if err := c.open(t.Context(), broker.Dir, envs); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(c.conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	return c, stream
}

// TestClientPublishesAll counts in the stream what the client says to have published: whole batches, a part of one, and less than one.
func TestClientPublishesAll(t *testing.T) {
	c, stream := opened(t, 7)
	total := uint64(0)
	for _, n := range []int{2 * clientBatch, 2*clientBatch + 500, 3} {
		if err := c.publish(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		total += uint64(n)
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs != total {
			t.Errorf("after %d more the stream has %d messages, want %d", n, info.State.Msgs, total)
		}
	}
	first, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	want := brokertest.Envelope(1, same)
	if first.Subject != "pulse.0."+want.Name || first.Header.Get("ce-position") != "1" || string(first.Data) != string(want.Data) {
		t.Errorf("the first message is %s with %v and %s", first.Subject, first.Header, first.Data)
	}
}

// TestClientNoticesARefusal publishes to a stream that takes no more.
func TestClientNoticesARefusal(t *testing.T) {
	c, stream := opened(t, 1)
	js, err := jetstream.New(c.conn)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgs = clientBatch / 2
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := c.publish(t.Context(), clientBatch); err == nil || !strings.Contains(err.Error(), "refuses a batch") {
		t.Errorf("a full stream took them: %v", err)
	}
}

func TestOutage(t *testing.T) {
	broker, err := embedNATS(t.Context(), filepath.Join(t.TempDir(), "bench.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	line, envs := &outage{Publisher: broker.Publisher}, []pulse.Envelope{brokertest.Envelope(1, same), brokertest.Envelope(2, same)}
	for _, r := range line.PublishBatch(t.Context(), envs) {
		if r.Outcome != pulse.Unknown || !errors.Is(r.Err, pulse.ErrBroker) {
			t.Errorf("while it is down: %+v", r)
		}
	}
	if _, _, err := line.Last(t.Context()); !errors.Is(err, pulse.ErrBroker) {
		t.Errorf("while it is down, the last message: %v", err)
	}
	if err := endsAt(t.Context(), broker, 2); !errors.Is(err, pulse.ErrBroker) {
		t.Errorf("an empty broker has everything: %v", err)
	}
	line.up.Store(true)
	for _, r := range line.PublishBatch(t.Context(), envs) {
		if r.Outcome != pulse.Acked {
			t.Errorf("when it is up: %+v", r)
		}
	}
	if err := endsAt(t.Context(), broker, 2); err != nil {
		t.Error(err)
	}
}

// same leaves an envelope as it is.
func same(*pulse.Envelope) {}
