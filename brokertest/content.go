package brokertest

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

func contentChecks() []check {
	return []check{
		{"every field comes as published", contentFields},
		{"empty optional fields come empty", contentEmpty},
		{"extensions come with their names, types and values", contentExtensions},
		{"payload bytes come exactly", contentBytes},
		{"text comes exactly", contentText},
		{"times come in microseconds, in UTC", contentTimes},
		{"a large payload comes whole", contentLarge},
	}
}

// roundTrip publishes env and returns it as it came.
func (f *feed) roundTrip(env pulse.Envelope) pulse.Message {
	f.Helper()
	f.publish(env)
	msgs := f.take(1)
	f.ack(msgs...)
	f.same(&msgs[0], &env)
	return msgs[0]
}

// one returns an envelope at the next position.
func (h *harness) one(edits ...func(*pulse.Envelope)) pulse.Envelope {
	return h.envelopes(1, edits...)[0]
}

func contentFields(h *harness) {
	f := h.open(pulse.FeedConfig{})
	f.roundTrip(h.one(func(e *pulse.Envelope) {
		e.Position = 1 << 40
		e.Name = "school-1.lesson_plan.published"
		e.Version = 1<<31 - 1
		e.Source = "https://school.example/api?x=1#y"
		e.Actor, e.Causation = uuid.New(), uuid.New()
		e.Correlation = "req-7f3a"
		e.Key = "lesson-17"
		e.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	}))
}

func contentEmpty(h *harness) {
	f := h.open(pulse.FeedConfig{})
	msg := f.roundTrip(h.one(func(e *pulse.Envelope) {
		e.Actor, e.Causation, e.Key, e.Trace, e.Extensions = uuid.Nil, uuid.Nil, "", "", nil
	}))
	if len(msg.Extensions) != 0 {
		h.Fatalf("an envelope without extensions came with %s", msg.Extensions)
	}
}

func contentExtensions(h *harness) {
	f := h.open(pulse.FeedConfig{})
	want := `{"region":"north","note":"żółw 学校 100% \"quoted\"","tenant":"school 17"}`
	msg := f.roundTrip(h.one(func(e *pulse.Envelope) { e.Extensions = []byte(want) }))
	var got, expected map[string]any
	if err := json.Unmarshal(msg.Extensions, &got); err != nil {
		h.Fatalf("extensions came as %q: %v", msg.Extensions, err)
	}
	h.ok(json.Unmarshal([]byte(want), &expected))
	if !reflect.DeepEqual(got, expected) {
		h.Fatalf("extensions came as\n     %s\nwant %s", msg.Extensions, want)
	}
}

func contentBytes(h *harness) {
	f := h.open(pulse.FeedConfig{})
	for _, payload := range []string{
		`null`, `true`, `0`, `1.0`, `""`, `[]`, `{}`,
		"{ \"b\" : 1,\n\t\"a\":\r\n 2 }  ",
		`12345678901234567890123456789012345678901234567890.000000000000000000001`,
		`"\u0000\u001f\/\ud83d\ude00"`,
		"\"żółw – 学校 – \U0001F393 – \u2028\"",
	} {
		f.roundTrip(h.one(data(payload)))
	}
}

func contentText(h *harness) {
	f := h.open(pulse.FeedConfig{})
	for _, text := range []string{
		"plain", "UPPER-lower", "żółw-学校-\U0001F393", "e\u0301-is-not-\u00e9", `'quoted'-"twice"-\back\slash`, "100%_?%41", "a.b.c", strings.Repeat("long", 60),
	} {
		f.roundTrip(h.one(func(e *pulse.Envelope) { e.Key, e.Correlation, e.Source = text, text, text }))
	}
}

func contentTimes(h *harness) {
	f := h.open(pulse.FeedConfig{})
	for _, when := range []time.Time{
		time.Date(2026, 2, 28, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(2026, 3, 29, 2, 30, 0, 1_000, time.UTC),
		time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(1, 1, 2, 0, 0, 0, 1_000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
	} {
		msg := f.roundTrip(h.one(func(e *pulse.Envelope) { e.OccurredAt = when }))
		if msg.OccurredAt.Location() != time.UTC {
			h.Fatalf("OccurredAt came in %s, want UTC", msg.OccurredAt.Location())
		}
	}
}

func contentLarge(h *harness) {
	const size = 512 << 10 // what a log takes unless told otherwise
	if limit := h.Publisher.Capabilities().MaxBytes; limit > 0 && limit < size {
		h.Skipf("not applicable: the destination takes messages of up to %d bytes", limit)
	}
	f := h.open(pulse.FeedConfig{})
	f.roundTrip(h.one(sized(size)))
}
