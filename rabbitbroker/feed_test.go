package rabbitbroker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// ended waits until a feed fails, and returns why.
func ended(t testing.TB, f pulse.Feed) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if _, err := f.Fetch(ctx, 10); err != nil {
			if ctx.Err() != nil {
				t.Fatal("the feed does not end")
			}
			return err
		}
	}
}

// named is an edit that sets the event's name.
func named(name string) func(*pulse.Envelope) {
	return func(e *pulse.Envelope) { e.Name = name }
}

// A plain AMQP client reads events with the attributes of the CloudEvents binding, and what it writes, as others write it, comes as events:
// with either prefix, with values of AMQP's types, and in structured mode. What is no event is skipped, and does not come again.
func TestForeignClient(t *testing.T) {
	t.Parallel()
	srv, exchange := shared.Server(t), shared.Name()
	b := connect(t, srv.URL(), rabbitbroker.Options{Exchange: exchange})
	ch, f := client(t, srv.URL()), open(t, b, pulse.FeedConfig{Names: []string{"lesson.>"}})
	foreign := queue(t, ch, exchange, "lesson.*", nil)
	env := events(7, 1, func(e *pulse.Envelope) {
		e.Key, e.Extensions = "żółw 1", []byte(`{"count":3,"live":true,"region":"north"}`)
	})[0]
	publish(t, b.Publisher(), []pulse.Envelope{env})
	d, ok, err := ch.Get(foreign, true)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if d.Exchange != exchange || d.RoutingKey != "lesson.published" || d.ContentType != "application/json" || d.DeliveryMode != amqp.Persistent || d.MessageId != env.ID.String() || string(d.Body) != string(env.Data) {
		t.Errorf("the message is %+v", d)
	}
	for name, want := range map[string]any{
		"cloudEvents_specversion": "1.0", "cloudEvents_id": env.ID.String(), "cloudEvents_type": "lesson.published", "cloudEvents_source": "/brokertest",
		"cloudEvents_subject": "żółw 1", "cloudEvents_position": "7", "cloudEvents_dataversion": int64(1),
		"cloudEvents_count": int64(3), "cloudEvents_live": true, "cloudEvents_region": "north",
	} {
		if d.Headers[name] != want {
			t.Errorf("header %s is %#v, want %#v", name, d.Headers[name], want)
		}
	}
	take(t, f, 1)

	when := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	structured, err := cloudevents.Marshal(events(9, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range []amqp.Publishing{
		{ContentType: "application/json", Body: []byte(`{"a":1}`), Headers: amqp.Table{
			"cloudEvents:specversion": "1.0", "cloudEvents:id": "17", "cloudEvents:source": "/lms", "cloudEvents:type": "lesson.imported",
			"cloudEvents:time": when, "cloudEvents:room": int32(12), "cloudEvents:open": false, "x-trace": "other", "cloudEvents:big": int64(1) << 40,
		}},
		{ContentType: "text/plain", Body: []byte("hello"), Headers: amqp.Table{"cloudEvents_id": "18"}},
		{ContentType: cloudevents.ContentType, Body: structured},
	} {
		if err := ch.PublishWithContext(t.Context(), exchange, "lesson.imported", true, false, msg); err != nil {
			t.Fatal(err)
		}
	}
	msgs := take(t, f, 2)
	first := msgs[0]
	if first.Name != "lesson.imported" || first.Source != "/lms" || !first.OccurredAt.Equal(when) || string(first.Data) != `{"a":1}` ||
		string(first.Extensions) != `{"big":"1099511627776","ceid":"17","open":false,"room":12}` {
		t.Errorf("from another program comes %+v with %s", first.Envelope, first.Extensions)
	}
	if msgs[1].Position != 9 {
		t.Errorf("in structured mode comes %+v", msgs[1].Envelope)
	}
	if err := f.Ack(t.Context(), []uint64{msgs[0].Receipt, msgs[1].Receipt}); err != nil {
		t.Error(err)
	}
	f.Close()
	again := open(t, b, pulse.FeedConfig{Names: []string{"lesson.>"}})
	if msgs := take(t, again, 1); msgs[0].ID != env.ID {
		t.Errorf("%+v came again", msgs[0].Envelope)
	}
	nothing(t, again, 200*time.Millisecond)
}

// A pattern that ends with ">" stands for one word at least, at the server already: its queue does not even get the name without one.
func TestPatterns(t *testing.T) {
	t.Parallel()
	srv, exchange := shared.Server(t), shared.Name()
	b := connect(t, srv.URL(), rabbitbroker.Options{Exchange: exchange})
	for sub, names := range map[string][]string{"deep": {"lesson.>"}, "flat": {"lesson.*"}, "two": {"lesson.>", "lesson.published"}, "none": {}, "every": {">"}, "all": nil} {
		open(t, b, pulse.FeedConfig{Subscription: sub, Names: names}).Close()
	}
	var envs []pulse.Envelope
	for i, name := range []string{"lesson", "lesson.published", "lesson.plan.published", "quiz.submitted"} {
		envs = append(envs, events(pulse.Position(i+1), 1, named(name))...)
	}
	publish(t, b.Publisher(), envs)
	ch := client(t, srv.URL())
	for sub, want := range map[string]int{"deep": 2, "flat": 1, "two": 2, "none": 0, "every": 4, "all": 4} {
		q, err := ch.QueueDeclarePassive(exchange+"."+sub, true, false, false, false, nil)
		if err != nil || q.Messages != want {
			t.Errorf("%s: %d messages are in the queue, want %d, %v", sub, q.Messages, want, err)
		}
	}
}

// A feed whose queue is removed fails; opened again it has one again. The same goes for the exchange, when it is made again.
func TestQueueIsRemoved(t *testing.T) {
	t.Parallel()
	srv, exchange := shared.Server(t), shared.Name()
	b := connect(t, srv.URL(), rabbitbroker.Options{Exchange: exchange})
	p, f := b.Publisher(), open(t, b, pulse.FeedConfig{})
	other := open(t, b, pulse.FeedConfig{Subscription: "search"})
	publish(t, p, events(1, 2))
	take(t, f, 2)
	if err := rabbitbroker.Forget(t.Context(), srv.URL(), "mailer", &rabbitbroker.Options{Exchange: exchange, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	if err := ended(t, f); !errors.Is(err, pulse.ErrBroker) || !strings.Contains(err.Error(), "open again") {
		t.Errorf("the feed ends with %v", err)
	}
	if err := b.Source().Forget(t.Context(), "nobody"); err != nil {
		t.Errorf("forgetting a subscription without a queue: %v", err)
	}
	f.Close()
	f = open(t, b, pulse.FeedConfig{})
	take(t, other, 2)
	publish(t, p, events(3, 1))
	if m := take(t, f, 1)[0]; m.Position != 3 {
		t.Errorf("position %d came", m.Position)
	}
	if err := client(t, srv.URL()).ExchangeDelete(exchange, false, false); err != nil {
		t.Fatal(err)
	}
	publishUntil(t, p, events(4, 1)) // it makes the exchange again, for nobody
	for _, feed := range []pulse.Feed{f, other} {
		if err := ended(t, feed); !strings.Contains(err.Error(), "the exchange was gone") {
			t.Errorf("the feed ends with %v", err)
		}
		feed.Close()
	}
	f = open(t, b, pulse.FeedConfig{})
	publish(t, p, events(5, 1))
	if msgs := take(t, f, 2); msgs[0].Position != 3 || msgs[1].Position != 5 {
		t.Errorf("positions %d and %d came, want the one not acknowledged and the new one", msgs[0].Position, msgs[1].Position)
	}
}

// Of two processes that read for a subscription one gets everything; the other takes over, in order, with what was left.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	srv, exchange := shared.Server(t), shared.Name()
	n := newNetwork(t, srv.Address())
	b := connect(t, srv.URL(), rabbitbroker.Options{Exchange: exchange})
	far := connect(t, "amqp://school:chalk@"+n.Addr().String(), rabbitbroker.Options{Exchange: exchange})
	first := open(t, far, pulse.FeedConfig{Window: 50})
	second := open(t, b, pulse.FeedConfig{Window: 500})
	publish(t, b.Publisher(), events(1, 300))
	msgs := take(t, first, 50)
	nothing(t, second, 200*time.Millisecond)
	var receipts []uint64
	for i, m := range msgs {
		if m.Position != pulse.Position(i+1) {
			t.Fatalf("position %d came as number %d", m.Position, i+1)
		}
		if m.Position%2 == 0 && m.Position <= 20 {
			receipts = append(receipts, m.Receipt)
		}
	}
	if err := first.Ack(t.Context(), receipts); err != nil {
		t.Fatal(err)
	}
	take(t, first, len(receipts)) // so the acknowledgements have arrived
	n.cut()                       // as when a process is gone
	if err := ended(t, first); !errors.Is(err, pulse.ErrBroker) {
		t.Errorf("the first feed ends with %v", err)
	}
	var want []pulse.Position
	for at := pulse.Position(1); at <= 300; at++ {
		if at > 20 || at%2 == 1 {
			want = append(want, at)
		}
	}
	for i, m := range take(t, second, len(want)) {
		if m.Position != want[i] {
			t.Fatalf("position %d came, want %d", m.Position, want[i])
		}
	}
}

// Messages before the first position wanted are not delivered by a queue that is new, whatever comes later.
func TestStart(t *testing.T) {
	t.Parallel()
	b := connect(t, shared.Server(t).URL(), rabbitbroker.Options{})
	f := open(t, b, pulse.FeedConfig{Start: 5})
	publish(t, b.Publisher(), events(1, 8))
	if msgs := take(t, f, 4); msgs[0].Position != 5 || f.Ack(t.Context(), []uint64{msgs[0].Receipt}) != nil {
		t.Errorf("position %d came first", msgs[0].Position)
	}
	f.Close()
	f = open(t, b, pulse.FeedConfig{Start: 8})
	if m := take(t, f, 3)[0]; m.Position != 6 {
		t.Errorf("position %d came first, of a subscription that was there", m.Position)
	}
	nothing(t, f, 200*time.Millisecond)
}

// An event that is at hand is not read from its message.
func TestKnown(t *testing.T) {
	t.Parallel()
	b := connect(t, shared.Server(t).URL(), rabbitbroker.Options{})
	envs := events(1, 2)
	known := envs[0]
	known.Key = "at hand"
	f := open(t, b, pulse.FeedConfig{Known: func(c pulse.Cursor) (pulse.Envelope, bool) {
		return known, c == pulse.Cursor{Position: 1, Commitment: known.Commitment}
	}})
	publish(t, b.Publisher(), envs)
	if msgs := take(t, f, 2); msgs[0].Key != "at hand" || msgs[1].Key != "" {
		t.Errorf("the keys are %q and %q", msgs[0].Key, msgs[1].Key)
	}
}
