package cloudevents

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/google/uuid"
)

func full() pulse.Envelope {
	return pulse.Envelope{
		Position:    7,
		ID:          uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11"),
		Name:        "lesson.published",
		Version:     2,
		Source:      "/school",
		OccurredAt:  time.Date(2026, 3, 4, 5, 6, 7, 891_000, time.UTC),
		RecordedAt:  time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC),
		Actor:       uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b12"),
		Correlation: "req-1",
		Causation:   uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b13"),
		Key:         "lesson-7",
		Trace:       "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		Extensions:  json.RawMessage(`{"partitionkey":"7","sampledrate":3,"urgent":true}`),
		Data:        json.RawMessage(`{"title":"Fractions","pages":[1, 2.50]}`),
		Commitment:  [32]byte{0: 0xfb, 31: 0xff},
	}
}

func with(edit func(*pulse.Envelope)) pulse.Envelope {
	env := full()
	edit(&env)
	return env
}

const fullLine = `{"specversion":"1.0","id":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11","source":"/school","type":"lesson.published",` +
	`"subject":"lesson-7","time":"2026-03-04T05:06:07.000891Z","actor":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b12",` +
	`"correlationid":"req-1","causationid":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b13","position":"7","dataversion":2,` +
	`"recordedat":"2026-03-04T05:06:08.000000Z","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",` +
	`"commitment":"+wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAP8=","partitionkey":"7","sampledrate":3,"urgent":true,` +
	`"datacontenttype":"application/json","data":{"title":"Fractions","pages":[1, 2.50]}}`

func TestMarshalWritesTheDocumentedLine(t *testing.T) {
	got, err := Marshal(full())
	if err != nil || string(got) != fullLine {
		t.Errorf("%v\n got %s\nwant %s", err, got, fullLine)
	}
	got, err = AppendJSON([]byte("before "), full())
	if err != nil || string(got) != "before "+fullLine {
		t.Errorf("AppendJSON: %v: %s", err, got)
	}
}

// least is the shortest envelope a CloudEvent can be.
func least() pulse.Envelope {
	return pulse.Envelope{ID: full().ID, Name: "a", Source: "s", Data: json.RawMessage("0")}
}

func TestRoundTrip(t *testing.T) {
	for name, env := range map[string]pulse.Envelope{
		"full":              full(),
		"least":             least(),
		"quotes":            with(func(e *pulse.Envelope) { e.Key, e.Correlation = `a"b\c`, `\u0061` }),
		"unicode":           with(func(e *pulse.Envelope) { e.Key, e.Source = "straße/日本/👩‍🏫/\u2028", "/münchen" }),
		"spaces in text":    with(func(e *pulse.Envelope) { e.Source = "/a school" }),
		"before 1970":       with(func(e *pulse.Envelope) { e.OccurredAt = time.UnixMicro(-1).UTC() }),
		"earliest":          with(func(e *pulse.Envelope) { e.OccurredAt = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC) }),
		"latest":            with(func(e *pulse.Envelope) { e.OccurredAt = pulse.Forever.AddDate(1, 0, 0).Add(-time.Microsecond) }),
		"largest numbers":   with(func(e *pulse.Envelope) { e.Position, e.Version = math.MaxInt64, math.MaxInt32 }),
		"data null":         with(func(e *pulse.Envelope) { e.Data = json.RawMessage("null") }),
		"data a string":     with(func(e *pulse.Envelope) { e.Data = json.RawMessage(`"a,b}]\\\"{["`) }),
		"data of one array": with(func(e *pulse.Envelope) { e.Data = json.RawMessage(`[{"a":["}"]},[]]`) }),
		"data kept as is":   with(func(e *pulse.Envelope) { e.Data = json.RawMessage("{ \"a\" :\t1.0e+2, \"b\":\"\\u0061<\u2028\" }") }),
		"data with lines":   with(func(e *pulse.Envelope) { e.Data = json.RawMessage("{\n  \"a\": 1\r\n}\n") }),
		"data with space":   with(func(e *pulse.Envelope) { e.Data = json.RawMessage(" 1 ") }),
		"deepest data":      with(func(e *pulse.Envelope) { e.Data = []byte(strings.Repeat("[", 64) + strings.Repeat("]", 64)) }),
		"extension as is":   with(func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"a":"\u0061 \/ *","b":-0,"c":false}`) }),
		"other JSON":        with(func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"datacontenttype":"application/geo+json"}`) }),
		"foreign cause": with(func(e *pulse.Envelope) {
			e.Causation, e.Extensions = uuid.Nil, json.RawMessage(`{"causationid":"c-1"}`)
		}),
		"derived id":          with(func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"ceid":"A-1"}`) }),
		"data beyond 4 kB":    with(func(e *pulse.Envelope) { e.Data = []byte(`"` + strings.Repeat("x", 5000) + `"`) }),
		"many extensions":     with(func(e *pulse.Envelope) { e.Extensions = manyExtensions() }),
		"extension of nobody": with(func(e *pulse.Envelope) { e.Extensions = nil }),
	} {
		line, err := Marshal(env)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if bytes.ContainsAny(line, "\r\n") || !json.Valid(line) {
			t.Errorf("%s: no line of JSON: %q", name, line)
		}
		got, err := Unmarshal(line)
		if err != nil || !reflect.DeepEqual(got, env) {
			t.Errorf("%s: %v\n got %+v\nwant %+v\n  of %s", name, err, got, env, line)
		}
	}
}

func manyExtensions() json.RawMessage {
	var b strings.Builder
	for c := 'a'; c <= 'z'; c++ {
		b.WriteString(`,"x` + string(c) + `":1`)
	}
	return json.RawMessage("{" + b.String()[1:] + "}")
}

func TestMarshalSortsAndJoinsWhatItMust(t *testing.T) {
	env := least()
	env.OccurredAt = time.Date(2026, 3, 4, 6, 6, 7, 0, time.FixedZone("", 3600))
	env.Extensions = json.RawMessage(" { \"b\" : 1 ,\n\"a\":\"x\" } ")
	line, err := Marshal(env)
	want := `{"specversion":"1.0","id":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11","source":"s","type":"a","time":"2026-03-04T05:06:07.000000Z",` +
		`"a":"x","b":1,"datacontenttype":"application/json","data":0}`
	if err != nil || string(line) != want {
		t.Errorf("%v\n got %s\nwant %s", err, line, want)
	}
	env.Extensions = json.RawMessage(`{}`)
	if got, err := Marshal(env); err != nil || bytes.Contains(got, []byte(`,,`)) {
		t.Errorf("no extensions: %v: %s", err, got)
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*pulse.Envelope)
		want error
		text string
	}{
		"no id":              {func(e *pulse.Envelope) { e.ID = uuid.Nil }, pulse.ErrInvalid, "attribute id"},
		"no source":          {func(e *pulse.Envelope) { e.Source = "" }, pulse.ErrInvalid, "attribute source"},
		"no name":            {func(e *pulse.Envelope) { e.Name = "" }, pulse.ErrInvalid, "attribute type"},
		"name of no event":   {func(e *pulse.Envelope) { e.Name = "Lesson" }, pulse.ErrInvalid, "lower case"},
		"control in key":     {func(e *pulse.Envelope) { e.Key = "a\nb" }, pulse.ErrInvalid, "attribute subject"},
		"invalid UTF-8":      {func(e *pulse.Envelope) { e.Source = "a\xff" }, pulse.ErrInvalid, "not UTF-8 at byte 1"},
		"noncharacter":       {func(e *pulse.Envelope) { e.Correlation = "\ufffe" }, pulse.ErrInvalid, "attribute correlationid"},
		"control in trace":   {func(e *pulse.Envelope) { e.Trace = "\x7f" }, pulse.ErrInvalid, "attribute traceparent"},
		"nanoseconds":        {func(e *pulse.Envelope) { e.OccurredAt = e.OccurredAt.Add(1) }, pulse.ErrInvalid, "finer than a microsecond"},
		"year 10000":         {func(e *pulse.Envelope) { e.RecordedAt = e.RecordedAt.AddDate(8000, 0, 0) }, pulse.ErrInvalid, "attribute recordedat"},
		"year 0":             {func(e *pulse.Envelope) { e.OccurredAt = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC) }, pulse.ErrInvalid, "attribute time"},
		"negative position":  {func(e *pulse.Envelope) { e.Position = -1 }, pulse.ErrInvalid, "attribute position"},
		"negative version":   {func(e *pulse.Envelope) { e.Version = -1 }, pulse.ErrInvalid, "attribute dataversion"},
		"version of 33 bits": {func(e *pulse.Envelope) { e.Version = math.MaxInt32 + 1 }, pulse.ErrInvalid, "attribute dataversion"},
		"no data":            {func(e *pulse.Envelope) { e.Data = nil }, pulse.ErrInvalid, "no data"},
		"data no JSON":       {func(e *pulse.Envelope) { e.Data = json.RawMessage(`{`) }, pulse.ErrSerialization, "data"},
		"data twice a name":  {func(e *pulse.Envelope) { e.Data = json.RawMessage(`{"a":1,"a":1}`) }, pulse.ErrSerialization, "twice"},
		"two causes":         {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"causationid":"c"}`) }, pulse.ErrInvalid, "causationid"},
		"cause in extensions": {func(e *pulse.Envelope) {
			e.Causation, e.Extensions = uuid.Nil, json.RawMessage(`{"causationid":"`+full().ID.String()+`"}`)
		}, pulse.ErrInvalid, "own field"},
		"usual content type": {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"datacontenttype":"application/json"}`) }, pulse.ErrInvalid, "leave it out"},
		"unusual content":    {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"datacontenttype":"text/plain"}`) }, pulse.ErrInvalid, "not JSON"},
		"extension twice":    {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"a":1,"\u0061":1}`) }, pulse.ErrInvalid, "twice"},
		"extension object":   {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"a":{}}`) }, pulse.ErrInvalid, "attribute a"},
		"extension null":     {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"a":null}`) }, pulse.ErrInvalid, "attribute a"},
		"extension data":     {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"data":1}`) }, pulse.ErrInvalid, "attribute data"},
		"extension id":       {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"id":"x"}`) }, pulse.ErrInvalid, "attribute id"},
		"extension's name":   {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"data_base64":"eA=="}`) }, pulse.ErrInvalid, "no attribute name"},
		"extensions array":   {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`[]`) }, pulse.ErrSerialization, "want one JSON object"},
		"extensions cut":     {func(e *pulse.Envelope) { e.Extensions = json.RawMessage(`{"a":1`) }, pulse.ErrSerialization, "want"},
	} {
		dst := []byte("before")
		got, err := AppendJSON(dst, with(tc.edit))
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %v about %q", name, err, tc.want, tc.text)
		}
		if string(got) != "before" {
			t.Errorf("%s: dst came back as %q", name, got)
		}
	}
}

// The ids derived from foreign ones are stored in logs: they may never change.
func TestDerivedIDStays(t *testing.T) {
	if got := derivedID("/lms", "A-1").String(); got != "06192703-77f5-51bd-b45b-9da7607237b4" {
		t.Errorf("derivedID = %s: ids in logs no longer agree", got)
	}
	if derivedID("/lms", "A-1") == derivedID("/lm", "sA-1") || derivedID("/lms", "A-1") == derivedID("/lms", "A-2") {
		t.Error("two events have one id")
	}
}

func TestAllocations(t *testing.T) {
	env, buf := full(), make([]byte, 0, 4096)
	env.Extensions = nil
	if n := testing.AllocsPerRun(100, func() { buf, _ = AppendJSON(buf[:0], env) }); n > 1 {
		t.Errorf("AppendJSON into a large enough buffer allocates %v times, want at most 1", n)
	}
}

func BenchmarkMarshal(b *testing.B) {
	env := full()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Marshal(env); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(fullLine)))
	line := []byte(fullLine)
	for b.Loop() {
		if _, err := Unmarshal(line); err != nil {
			b.Fatal(err)
		}
	}
}
