//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
	"github.com/edupulse-live/pulse/natsbroker"
)

// destination is what relays call the broker.
const destination = "nats"

const (
	brokerToken  = "chalk"
	brokerStream = "PULSE"
)

// embedBroker runs a server in this process, to which others can connect.
func embedBroker(ctx context.Context, dir string, log *slog.Logger) (*natsbroker.Broker, error) {
	return natsbroker.Embed(ctx, dir, &natsbroker.Options{Listen: "127.0.0.1:0", Auth: natsbroker.Auth{Token: brokerToken}, Log: log})
}

// newBroker is embedBroker for a test.
func newBroker(t testing.TB, dir string) natsOutside {
	t.Helper()
	b, err := embedBroker(t.Context(), dir, quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBroker(t, b) })
	return natsOutside{b}
}

// closeBroker closes a broker that may be closed already.
func closeBroker(t testing.TB, b interface{ Close() error }) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Errorf("close the broker: %v", err)
	}
}

// publish adds the broker as the destination of the world's bus, with failpoints.
func (w *world) publish(t testing.TB, b outside, failpoints string) {
	t.Helper()
	points, err := failpoint.Parse(failpoints)
	if err == nil {
		err = w.bus.Publish(destination, failpoint.WrapPublisher(b.Publisher(), points))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// message is what a stranger sees of a message in the stream.
type message struct {
	seq     uint64
	id      uuid.UUID
	subject string
	data    string
}

// stranger reads what was published from its beginning to its end with the client library of the broker alone.
func stranger(t testing.TB, b outside) []message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	msgs, err := b.read(ctx)
	if err != nil {
		t.Fatalf("reading the stream: %v", err)
	}
	return msgs
}

func readStream(ctx context.Context, url string) ([]message, error) {
	nc, err := nats.Connect(url, nats.Token(brokerToken))
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	s, err := js.Stream(ctx, brokerStream)
	if err != nil {
		return nil, err
	}
	last := s.CachedInfo().State.LastSeq
	if last == 0 {
		return nil, nil
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	it, err := c.Messages()
	if err != nil {
		return nil, err
	}
	defer it.Stop()
	defer context.AfterFunc(ctx, it.Stop)()
	var msgs []message
	for len(msgs) == 0 || msgs[len(msgs)-1].seq < last {
		m, err := it.Next()
		if err != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		id, err := uuid.Parse(m.Headers().Get("ce-id"))
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", meta.Sequence.Stream, err)
		}
		msgs = append(msgs, message{seq: meta.Sequence.Stream, id: id, subject: m.Subject(), data: string(m.Data())})
	}
	return msgs, nil
}

// arrived is what came out of comparing a log with a stream.
type arrived struct {
	messages   int
	distinct   int
	duplicates int
	owed       int // not there, and visible as deliveries of the relay
}

// compare fails the test unless every event of the log is in the stream, or owed by the relay as a delivery that can be seen, as it was
// emitted; nothing else is there; and the events of each key come there first in their order.
func (w *world) compare(t testing.TB, msgs []message) (found arrived) {
	t.Helper()
	stored := w.stored(t)
	owed := map[pulse.Position]pulse.DeliveryStatus{}
	for _, row := range w.deliveries(t, pulse.RelayName(destination)) {
		owed[row.Position] = row.Status
	}
	first := map[uuid.UUID]bool{}
	last := map[string]pulse.Position{} // by key
	for i, m := range msgs {
		if m.seq != uint64(i+1) {
			t.Fatalf("message %d of the stream has the sequence number %d", i+1, m.seq)
		}
		env, ok := stored[m.id]
		if !ok || m.subject != "pulse.0."+env.Name || m.data != string(env.Data) {
			t.Errorf("message %d, %s with %.80s, is no event of the log, where it is %+v", m.seq, m.subject, m.data, env)
			continue
		}
		if first[m.id] {
			found.duplicates++
			continue
		}
		first[m.id] = true
		if env.Key != "" && env.Position < last[env.Key] {
			t.Errorf("message %d: position %d comes for the first time after %d of the same key %s", m.seq, env.Position, last[env.Key], env.Key)
		}
		last[env.Key] = max(last[env.Key], env.Position)
	}
	var lost []pulse.Position
	for id, env := range stored {
		switch _, waits := owed[env.Position]; {
		case !first[id] && waits:
			found.owed++
		case !first[id]:
			lost = append(lost, env.Position)
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		t.Errorf("%d events are neither at the broker nor parked: positions %v", len(lost), lost[:min(10, len(lost))])
	}
	found.messages, found.distinct = len(msgs), len(first)
	return found
}

// hosts are the ways to run a broker: in a process of its own, the test's, or in the one that is killed.
func hosts() []string { return []string{"served", "embedded"} }

// address is where a child finds a broker: the URL of one, or a directory in which it runs its own.
func address(b outside, dir string) string {
	if b != nil {
		return b.address()
	}
	return embeddedPrefix + dir
}

const embeddedPrefix = "embedded:"

// dialBroker opens the broker a child was told.
func (c *child) dialBroker(ctx context.Context) (outside, error) {
	if dir, ok := strings.CutPrefix(c.Broker, embeddedPrefix); ok {
		b, err := embedBroker(ctx, dir, slog.New(slog.DiscardHandler))
		return natsOutside{b}, err
	}
	return dialAddress(ctx, c.Broker)
}

// refusal is the Pad of events that a refusing broker does not take.
const refusal = "refuse me"

// refusing is a publisher that refuses some events for good, as brokers do that have limits of their own.
type refusing struct{ pulse.Publisher }

func (p refusing) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	n := slices.IndexFunc(envs, func(env pulse.Envelope) bool { return strings.Contains(string(env.Data), refusal) })
	if n < 0 {
		return p.Publisher.PublishBatch(ctx, envs)
	}
	results := append(p.Publisher.PublishBatch(ctx, envs[:n]), make([]pulse.Result, len(envs)-n)...)
	taken := n == 0 || results[n-1].Outcome == pulse.Acked
	for i := n; i < len(envs); i++ {
		results[i].Err = fmt.Errorf("%w: not this one, or one behind it", pulse.ErrBroker)
		switch {
		case taken && i == n:
			results[i].Outcome = pulse.Rejected
		case taken:
			results[i].Outcome = pulse.Withheld
		}
	}
	return results
}
