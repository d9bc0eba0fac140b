package logbroker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/logbroker"
	"github.com/edupulse-live/pulse/pulsetest"
)

func TestPublisher(t *testing.T) {
	brokertest.Run(t, brokertest.Options{Open: func(testing.TB) brokertest.Broker {
		return brokertest.Broker{Publisher: logbroker.New(slog.New(slog.DiscardHandler))}
	}})
}

// written publishes envs and returns what is in the log, a record each.
func written(t *testing.T, envs ...pulse.Envelope) []map[string]any {
	t.Helper()
	var buf bytes.Buffer
	p := logbroker.New(slog.New(slog.NewJSONHandler(&buf, nil)))
	for i, r := range p.PublishBatch(t.Context(), envs) {
		if r.Outcome != pulse.Acked || r.Err != nil || r.Sequence != uint64(i+1) {
			t.Errorf("result %d is %+v", i, r)
		}
	}
	var records []map[string]any
	for d := json.NewDecoder(&buf); d.More(); {
		var record map[string]any
		if err := d.Decode(&record); err != nil {
			t.Fatal(err)
		}
		delete(record, "time")
		records = append(records, record)
	}
	if len(records) != len(envs) {
		t.Fatalf("%d records for %d messages", len(records), len(envs))
	}
	return records
}

func TestWritesAllThereIs(t *testing.T) {
	env := brokertest.Envelope(7, func(e *pulse.Envelope) {
		e.ID = uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11")
		e.Actor = uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b12")
		e.Causation = uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b13")
		e.OccurredAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
		e.Key, e.Trace = "lesson-7", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		e.Extensions = json.RawMessage(`{"region":"north"}`)
	})
	want := map[string]any{
		"level": "INFO", "msg": "published", "position": 7.0, "event": "lesson.published", "version": 1.0, "id": env.ID.String(), "key": "lesson-7",
		"source": "/brokertest", "correlation": "correlation-1", "trace": env.Trace, "extensions": `{"region":"north"}`,
		"actor": env.Actor.String(), "causation": env.Causation.String(), "occurred": "2026-03-04T05:06:07Z", "size": float64(env.Size()),
		"data": `{"title":"Fractions"}`,
	}
	got := written(t, env)[0]
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s is %v, want %v", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("the record is %v, want %v", got, want)
	}
}

func TestLeavesOutWhatIsNotThere(t *testing.T) {
	got := written(t, brokertest.Envelope(1))[0]
	for _, name := range []string{"key", "actor", "causation", "trace", "extensions"} {
		if v, there := got[name]; there {
			t.Errorf("%s is %v, want none", name, v)
		}
	}
}

func TestShortensPayloads(t *testing.T) {
	for name, text := range map[string]string{
		"ASCII": strings.Repeat("x", 1000), "two bytes": "x" + strings.Repeat("ż", 500), "three bytes": strings.Repeat("学", 400), "four bytes": strings.Repeat("🎓", 300),
	} {
		data, _ := json.Marshal(text)
		got := written(t, brokertest.Envelope(1, func(e *pulse.Envelope) { e.Data = data }))[0]["data"].(string)
		cut, shortened := strings.CutSuffix(got, "…")
		if !shortened || !strings.HasPrefix(string(data), cut) || !utf8.ValidString(cut) || len(cut) > 256 || len(cut) < 253 {
			t.Errorf("%s: %d bytes, %q", name, len(cut), got)
		}
	}
	whole := `"` + strings.Repeat("x", 254) + `"`
	if got := written(t, brokertest.Envelope(1, func(e *pulse.Envelope) { e.Data = []byte(whole) }))[0]["data"]; got != whole {
		t.Errorf("256 bytes were shortened to %q", got)
	}
}

func TestCancelled(t *testing.T) {
	var buf bytes.Buffer
	p := logbroker.New(slog.New(slog.NewJSONHandler(&buf, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := p.PublishBatch(ctx, []pulse.Envelope{brokertest.Envelope(1)})[0]
	if r.Outcome != pulse.Unknown || !errors.Is(r.Err, pulse.ErrBroker) || !errors.Is(r.Err, context.Canceled) || buf.Len() > 0 {
		t.Errorf("%+v, and in the log %q", r, &buf)
	}
}

func TestNilLoggerIsTheDefault(t *testing.T) {
	var buf bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&buf, nil)))
	defer slog.SetDefault(before)
	logbroker.New(nil).PublishBatch(t.Context(), []pulse.Envelope{brokertest.Envelope(1)})
	if !strings.Contains(buf.String(), "event=lesson.published") {
		t.Errorf("the default logger has %q", &buf)
	}
}

// TestRelay publishes through a bus, which lives with a destination that cannot tell its last message.
func TestRelay(t *testing.T) {
	var buf bytes.Buffer
	bus := pulsetest.New(t)
	if err := bus.Publish("log", logbroker.New(slog.New(slog.NewTextHandler(&buf, nil)))); err != nil {
		t.Fatal(err)
	}
	for range 250 {
		if _, err := bus.Emit(t.Context(), pulse.Raw{Name: "lesson.published", Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	pulsetest.Drain(t, bus)
	if n := strings.Count(buf.String(), "event=lesson.published"); n != 250 {
		t.Errorf("%d messages in the log, want 250", n)
	}
}

func Example() {
	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	p := logbroker.New(slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime})))
	p.PublishBatch(context.Background(), []pulse.Envelope{{
		Position:   7,
		ID:         uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11"),
		Name:       "lesson.published",
		Version:    1,
		OccurredAt: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		Key:        "lesson-7",
		Data:       json.RawMessage(`{"title":"Fractions"}`),
	}})
	// Output:
	// level=INFO msg=published position=7 event=lesson.published version=1 id=018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11 key=lesson-7 occurred=2026-03-04T05:06:07.000Z size=557 data="{\"title\":\"Fractions\"}"
}
