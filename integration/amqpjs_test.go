package integration_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// amqplib reads what Pulse publishes to RabbitMQ byte for byte, with types in headers, and Pulse reads what it writes.
func TestAMQPLib(t *testing.T) {
	bridge := startNode(t)
	srv, exchange := rabbits.Server(t), rabbits.Name()
	b, err := rabbitbroker.Connect(t.Context(), srv.URL(), &rabbitbroker.Options{Exchange: exchange, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	t.Run("reads", func(t *testing.T) { amqplibReads(t, bridge, srv.URL(), exchange, b) })
	t.Run("writes", func(t *testing.T) { amqplibWrites(t, bridge, srv.URL(), exchange, b) })
}

func amqplibReads(t *testing.T, bridge, url, exchange string, b *rabbitbroker.Broker) {
	queue := exchange + ".foreign"
	ask(t, bridge, "/amqp/bind", map[string]any{"url": url, "exchange": exchange, "queue": queue, "pattern": "lesson.*"}, &struct{}{})
	names := slices.Sorted(maps.Keys(samples()))
	var envs []pulse.Envelope
	for i, name := range names {
		env := samples()[name]
		env.Position = pulse.Position(i + 1)
		envs = append(envs, env)
	}
	for i, r := range b.Publisher().PublishBatch(t.Context(), envs) {
		if r.Outcome != pulse.Acked {
			t.Fatalf("%s: %+v", names[i], r)
		}
	}
	var answer struct {
		Messages []struct {
			Name, ContentType, MessageID, Body string
			DeliveryMode                       int
			Headers                            map[string]json.RawMessage
		}
	}
	ask(t, bridge, "/amqp/read", map[string]any{"url": url, "queue": queue, "count": len(envs)}, &answer)
	for i, m := range answer.Messages {
		t.Run(names[i], func(t *testing.T) {
			env := &envs[i]
			if m.Name != env.Name || m.MessageID != env.ID.String() || m.DeliveryMode != 2 || m.Body != string(env.Data) {
				t.Errorf("came %+v, want %s of %s", m, env.Data, env.ID)
			}
			have := map[string]string{"datacontenttype": m.ContentType}
			for name, value := range m.Headers {
				attr, ours := strings.CutPrefix(name, "cloudEvents_")
				if !ours {
					t.Errorf("there is a header %s: %s", name, value)
				}
				have[attr] = string(value) // numbers and booleans are such
				var text string
				if json.Unmarshal(value, &text) == nil {
					have[attr] = text
				}
			}
			same(t, have, attributes(t, env, cloudevents.Structured), env.Data, env.Data)
		})
	}
}

func amqplibWrites(t *testing.T, bridge, url, exchange string, b *rabbitbroker.Broker) {
	f, err := b.Source().Open(t.Context(), pulse.FeedConfig{Subscription: "quizzes", Names: []string{"quiz.submitted"}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	want := make([]pulse.Envelope, 3)
	for i := range want {
		want[i] = pulse.Envelope{
			ID: uuid.New(), Name: "quiz.submitted", Source: "/quizzes", OccurredAt: at, Key: "lesson-7 ż", Data: json.RawMessage(`{ "points": 7 }`),
			Extensions: []byte(`{"note":"kept","rate":3,"urgent":true}`),
		}
	}
	structured, err := cloudevents.Marshal(want[2])
	if err != nil {
		t.Fatal(err)
	}
	var messages []map[string]any
	for i, prefix := range []string{"cloudEvents_", "cloudEvents:"} {
		headers := map[string]any{"other": "ignored"}
		for name, value := range map[string]any{
			"specversion": "1.0", "id": want[i].ID, "source": "/quizzes", "type": "quiz.submitted", "subject": "lesson-7 ż",
			"note": "kept", "rate": 3, "urgent": true, "time": []any{at, map[string]any{"time": at.Unix()}}[i],
		} {
			headers[prefix+name] = value
		}
		messages = append(messages, map[string]any{"name": "quiz.submitted", "contentType": "application/json", "headers": headers, "body": string(want[i].Data)})
	}
	messages = append(messages,
		map[string]any{"name": "lesson.published", "contentType": "application/json", "body": "{}"}, // is not for the subscription
		map[string]any{"name": "quiz.submitted", "contentType": cloudevents.ContentType, "body": string(structured)})
	ask(t, bridge, "/amqp/write", map[string]any{"url": url, "exchange": exchange, "messages": messages}, &struct{}{})
	sameFrom(t, f, want)
}

// sameFrom takes events out of a feed and compares them.
func sameFrom(t *testing.T, f pulse.Feed, want []pulse.Envelope) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []pulse.Message
	for len(got) < len(want) {
		msgs, err := f.Fetch(ctx, len(want))
		if err != nil {
			t.Fatalf("after %d: %v", len(got), err)
		}
		got = append(got, msgs...)
	}
	for i := range want {
		if !reflect.DeepEqual(got[i].Envelope, want[i]) {
			t.Errorf("\ncame %+v %s\nwant %+v %s", got[i].Envelope, got[i].Extensions, want[i], want[i].Extensions)
		}
	}
}
