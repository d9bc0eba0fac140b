package integration_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/kafkabroker"
)

// kafka runs a server with a topic of Pulse, and returns its address.
func kafka(t *testing.T) (address string, b *kafkabroker.Broker) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	address = c.ListenAddrs()[0]
	b, err = kafkabroker.Connect(t.Context(), address, &kafkabroker.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return address, b
}

// record is what KafkaJS reads, with what the SDK makes of it.
type record struct {
	Key     *string
	Value   string
	Headers map[string]string
	Event   map[string]any
}

// theEnd is the value of the record up to which KafkaJS reads.
const theEnd = "the end"

// readWithKafkaJS reads the topic from its beginning up to theEnd.
func readWithKafkaJS(t *testing.T, bridge, server string, uncommitted bool) []record {
	t.Helper()
	var answer struct{ Records []record }
	ask(t, bridge, "/kafka/read", map[string]any{"server": server, "topic": kafkabroker.DefaultTopic, "group": uuid.NewString(), "last": theEnd, "uncommitted": uncommitted}, &answer)
	return answer.Records
}

// abort writes events in a transaction that does not come to be, as a relay that dies does, and theEnd behind it.
func abort(t *testing.T, server string, env pulse.Envelope) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(server), kgo.TransactionalID("another"), kgo.DefaultProduceTopic(kafkabroker.DefaultTopic),
		kgo.ProducerBatchCompression(kgo.NoCompression())) // KafkaJS brings no Snappy
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	headers, err := cloudevents.AppendRecordHeaders(nil, &env)
	if err != nil {
		t.Fatal(err)
	}
	r := &kgo.Record{Value: env.Data}
	for _, h := range headers {
		r.Headers = append(r.Headers, kgo.RecordHeader(h))
	}
	for _, step := range []func() error{
		client.BeginTransaction,
		func() error { return client.ProduceSync(t.Context(), r).FirstErr() },
		func() error { return client.EndTransaction(t.Context(), kgo.TryAbort) },
		client.BeginTransaction,
		func() error {
			return client.ProduceSync(t.Context(), &kgo.Record{Value: []byte(theEnd)}).FirstErr()
		},
		func() error { return client.EndTransaction(t.Context(), kgo.TryCommit) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// KafkaJS reads what Pulse publishes byte for byte, and by default nothing of transactions that were aborted. The SDK knows the events.
func TestKafkaJSReads(t *testing.T) {
	bridge := startNode(t)
	server, b := kafka(t)
	names := slices.Sorted(maps.Keys(samples()))
	var envs []pulse.Envelope
	for i, name := range names {
		env := samples()[name]
		env.Position = pulse.Position(i + 1)
		envs = append(envs, env)
	}
	for half := range slices.Chunk(envs, (len(envs)+1)/2) { // two transactions
		for i, r := range b.Publisher().PublishBatch(t.Context(), half) {
			if r.Outcome != pulse.Acked {
				t.Fatalf("%s: %+v", half[i].Data, r)
			}
		}
	}
	abort(t, server, envs[0])
	records := readWithKafkaJS(t, bridge, server, false)
	if len(records) != len(envs) {
		t.Fatalf("%d records came, want %d", len(records), len(envs))
	}
	for i, name := range names {
		t.Run(name, func(t *testing.T) { sameInKafkaJS(t, &records[i], &envs[i]) })
	}
	if n := len(readWithKafkaJS(t, bridge, server, true)); n != len(envs)+1 {
		t.Errorf("%d records came with the uncommitted, want one more than %d", n, len(envs))
	}
}

func sameInKafkaJS(t *testing.T, got *record, env *pulse.Envelope) {
	t.Helper()
	if got.Value != string(env.Data) {
		t.Errorf("the value is %q, want %q", got.Value, env.Data)
	}
	if (got.Key == nil) != (env.Key == "") || got.Key != nil && *got.Key != env.Key {
		t.Errorf("the key is %v, want %q", got.Key, env.Key)
	}
	have := map[string]string{}
	for name, value := range got.Headers {
		switch attr, ours := strings.CutPrefix(name, "ce_"); {
		case ours:
			have[attr] = value
		case name == "content-type":
			have["datacontenttype"] = value
		default:
			t.Errorf("there is a header %s: %q", name, value)
		}
	}
	want := attributes(t, env, cloudevents.Binary)
	same(t, have, want, env.Data, env.Data)
	event := map[string]string{}
	for name, value := range got.Event {
		event[name] = fmt.Sprint(value)
	}
	if got.Key != nil {
		want["partitionkey"] = *got.Key // as the binding has it
	} else if got.Event["partitionkey"] == nil {
		delete(event, "partitionkey")
	}
	knownOfNode(event, want, false)
	same(t, event, want, env.Data, env.Data)
}

// Pulse reads what KafkaJS writes: events that the SDK encoded in both modes, and records as the binding has them.
func TestKafkaJSWrites(t *testing.T) {
	bridge := startNode(t)
	server, b := kafka(t)
	at := time.Date(2026, 3, 4, 5, 6, 7, 891_000_000, time.UTC)
	event := func(members map[string]any) map[string]any {
		all := map[string]any{"type": "quiz.submitted", "source": "/quizzes", "time": at, "datacontenttype": "application/json", "subject": "lesson-7 ż", "data": map[string]int{"points": 7}}
		maps.Copy(all, members)
		return all
	}
	headers := func(id string, more map[string]string) map[string]string {
		all := map[string]string{"ce_specversion": "1.0", "ce_id": id, "ce_type": "quiz.submitted", "ce_source": "/quizzes", "content-type": "application/json"}
		maps.Copy(all, more)
		return all
	}
	want := []pulse.Envelope{{}, {}, {}, {}}
	ids := make([]string, len(want))
	for i := range want {
		want[i] = pulse.Envelope{ID: uuid.New(), Name: "quiz.submitted", Source: "/quizzes", OccurredAt: at, Key: "lesson-7 ż", Data: json.RawMessage(`{"points":7}`)}
		ids[i] = want[i].ID.String()
	}
	want[0].Extensions, want[1].Extensions = []byte(`{"rate":"3"}`), []byte(`{"rate":3}`)
	want[2].OccurredAt, want[2].Data, want[2].Extensions = time.Time{}, json.RawMessage("[ 1 ]"), []byte(`{"other":"kept"}`)
	want[3].OccurredAt, want[3].Data, want[3].Key = time.Time{}, json.RawMessage("null"), ""
	ask(t, bridge, "/kafka/write", map[string]any{"server": server, "topic": kafkabroker.DefaultTopic, "messages": []map[string]any{
		{"mode": "binary", "event": event(map[string]any{"id": ids[0], "rate": "3"})},
		{"mode": "structured", "event": event(map[string]any{"id": ids[1], "rate": 3})},
		{"key": "lesson-7 ż", "value": "[ 1 ]", "headers": headers(ids[2], map[string]string{"ce_other": "kept", "other": "ignored"})},
		{"value": nil, "headers": headers(ids[3], nil)},
	}}, &struct{}{})
	f, err := b.Source().Open(t.Context(), pulse.FeedConfig{Subscription: "quizzes", Names: []string{"quiz.submitted"}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sameFrom(t, f, want)
}
