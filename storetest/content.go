package storetest

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

func contentChecks() []check {
	return []check{
		{"every field comes back as recorded", contentFields},
		{"empty optional fields come back empty", contentEmpty},
		{"payload bytes come back exactly", contentBytes},
		{"text comes back exactly", contentText},
		{"times keep microseconds, in UTC", contentTimes},
		{"RecordedAt is the store's time of the append", contentRecordedAt},
	}
}

// roundTrip stores rec and returns it as read.
func (h *harness) roundTrip(rec pulse.Record) pulse.Envelope {
	h.Helper()
	h.append(rec)
	head := h.info().Head
	envs := h.log(pulse.Query{After: head - 1})
	if len(envs) != 1 {
		h.Fatalf("%d events at the head, want 1", len(envs))
	}
	h.same(&envs[0], &rec)
	if envs[0].Position != head {
		h.Fatalf("the event at the head has position %d, want %d", envs[0].Position, head)
	}
	return envs[0]
}

func contentFields(h *harness) {
	h.roundTrip(h.record(func(r *pulse.Record) {
		r.Name = "school-1.lesson_plan.published"
		r.Version = 1<<31 - 1
		r.Source = "https://school.example/api?x=1#y"
		r.Actor, r.Causation = uuid.New(), uuid.New()
		r.Correlation = "req-7f3a"
		r.Key = "lesson-17"
		r.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		r.Extensions = []byte(`{"region":"north","n": 1}`)
	}))
}

func contentEmpty(h *harness) {
	env := h.roundTrip(h.record(func(r *pulse.Record) {
		r.Actor, r.Causation, r.Key, r.Trace, r.Extensions = uuid.Nil, uuid.Nil, "", "", nil
	}))
	if env.Extensions != nil {
		h.Fatalf("Extensions that were nil came back as %q", env.Extensions)
	}
	empty := h.roundTrip(h.record(func(r *pulse.Record) { r.Extensions = []byte("{}") }))
	if string(empty.Extensions) != "{}" {
		h.Fatalf("Extensions {} came back as %q", empty.Extensions)
	}
}

func contentBytes(h *harness) {
	for _, payload := range []string{
		`null`, `true`, `0`, `-0`, `1.0`, `""`, `[]`, `{}`,
		"{ \"b\" : 1,\n\t\"a\":\r\n 2 }  ",
		`{"b":1,"a":2,"A":3}`,
		`12345678901234567890123456789012345678901234567890.000000000000000000001`,
		`1e400`, `1E-400`, `9007199254740993`,
		`"\u0000\u001f\/\ud83d\ude00"`,
		"\"żółw – 学校 – \U0001F393 – \u2028 – \u007f\"",
		`"<script>&amp;"`,
		`"` + strings.Repeat(`\u00e9é`, 40_000) + `"`,
		strings.Repeat("[", 64) + strings.Repeat("]", 64),
	} {
		h.roundTrip(h.record(data(payload)))
	}
}

func contentText(h *harness) {
	for _, text := range []string{
		"plain", " leading and trailing ", "UPPER lower", "żółw 学校 \U0001F393", "e\u0301 is not \u00e9",
		`'quoted' "twice" \back\slash`, "100%_*?", "line\nbreak\ttab", strings.Repeat("long", 60),
	} {
		h.roundTrip(h.record(func(r *pulse.Record) { r.Key, r.Correlation, r.Source = text, text, text }))
	}
}

func contentTimes(h *harness) {
	east := time.FixedZone("east", 5*3600+1800)
	for _, when := range []time.Time{
		time.Date(2026, 2, 28, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(2026, 3, 29, 2, 30, 0, 1_000, east),
		time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(1, 1, 2, 0, 0, 0, 1_000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
	} {
		env := h.roundTrip(h.record(at(when)))
		if env.OccurredAt.Location() != time.UTC {
			h.Fatalf("OccurredAt came back in %s, want UTC", env.OccurredAt.Location())
		}
	}
}

func contentRecordedAt(h *harness) {
	h.append(h.record(at(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC))))
	h.pass(time.Millisecond)
	h.append(h.record(at(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC))))
	envs := h.log(pulse.Query{})
	if len(envs) != 2 {
		h.Fatalf("%d events, want 2", len(envs))
	}
	for _, env := range envs {
		switch r := env.RecordedAt; {
		case r.IsZero() || r.Year() == 2001:
			h.Fatalf("RecordedAt is %s, want the time of the append", r)
		case r.Location() != time.UTC || r.Nanosecond()%1000 != 0:
			h.Fatalf("RecordedAt is %s, want UTC in whole microseconds", r)
		}
	}
	if !envs[0].RecordedAt.Before(envs[1].RecordedAt) {
		h.Fatalf("RecordedAt is %s and then %s", envs[0].RecordedAt, envs[1].RecordedAt)
	}
}
