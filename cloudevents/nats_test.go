package cloudevents

import (
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/google/uuid"
)

// readBackward reads headers in an order of its own.
func readBackward(headers []Header, body []byte) (pulse.Envelope, error) {
	var r HeaderReader
	for _, h := range slices.Backward(headers) {
		r.Set(h.Name, h.Value)
	}
	return r.Envelope(body)
}

func TestHeadersAreTheDocumentedOnes(t *testing.T) {
	env := full()
	env.Key, env.Extensions = `żółw "1" 100%`, []byte(`{"count":-3,"region":"the north","live":true,"empty":"","datacontenttype":"application/json; charset=utf-8"}`)
	for i := range env.Commitment {
		env.Commitment[i] = byte(i)
	}
	want := []Header{
		{"first", "kept"},
		{"ce-specversion", "1.0"},
		{"ce-id", env.ID.String()},
		{"ce-source", env.Source},
		{"ce-type", env.Name},
		{"ce-subject", "%C5%BC%C3%B3%C5%82w%20%221%22%20100%25"},
		{"ce-time", env.OccurredAt.Format(timeFormat)},
		{"ce-actor", env.Actor.String()},
		{"ce-correlationid", env.Correlation},
		{"ce-causationid", env.Causation.String()},
		{"ce-position", fmt.Sprint(env.Position)},
		{"ce-dataversion", fmt.Sprint(env.Version)},
		{"ce-recordedat", env.RecordedAt.Format(timeFormat)},
		{"ce-traceparent", env.Trace},
		{"ce-commitment", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
		{"ce-count", "-3"},
		{"content-type", "application/json; charset=utf-8"}, // as it stands: it is no attribute with a header of its own
		{"ce-empty", ""},
		{"ce-live", "true"},
		{"ce-region", "the%20north"},
		{"ce-cetyped", "count%20live"},
	}
	if headers, err := AppendHeaders([]Header{{"first", "kept"}}, &env); err != nil || !reflect.DeepEqual(headers, want) {
		t.Errorf("error %v, headers are\n     %q\nwant %q", err, headers, want)
	}
}

func TestHeadersRoundTrip(t *testing.T) {
	long := strings.Repeat("ż", 300)
	many := `{"a0":"v"`
	for i := range 60 {
		many += fmt.Sprintf(`,"b%02d":"%d"`, i, i)
	}
	for name, edit := range map[string]func(*pulse.Envelope){
		"full":               func(*pulse.Envelope) {},
		"least":              func(e *pulse.Envelope) { *e = least(); e.Data = []byte("null") },
		"text":               func(e *pulse.Envelope) { e.Key, e.Correlation = `'a' "b"-\c\ %41`, long },
		"quoted text":        func(e *pulse.Envelope) { e.Key = `"a"` },
		"largest numbers":    func(e *pulse.Envelope) { e.Position, e.Version = math.MaxInt64, math.MaxInt32 },
		"year 1":             func(e *pulse.Envelope) { e.OccurredAt = time.Date(1, 1, 2, 0, 0, 0, 1000, time.UTC) },
		"data over lines":    func(e *pulse.Envelope) { e.Data = []byte(" {\r\n\t} ") },
		"typed extensions":   func(e *pulse.Envelope) { e.Extensions = []byte(`{"a":1,"b":true,"c":"1","d":"true","e":-2147483648}`) },
		"many extensions":    func(e *pulse.Envelope) { e.Extensions = []byte(many + "}") },
		"escaped extensions": func(e *pulse.Envelope) { e.Extensions = []byte(`{"a":"\"x\\y\""}`) },
		"empty extension":    func(e *pulse.Envelope) { e.Extensions = []byte(`{"a":""}`) },
		"foreign id":         func(e *pulse.Envelope) { e.ID = derivedID(e.Source, "17"); e.Extensions = []byte(`{"ceid":"17"}`) },
		"content type": func(e *pulse.Envelope) {
			e.Extensions = []byte(`{"datacontenttype":"application/vnd.lms+json; charset=utf-8; x=\"100%25\""}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			env := full()
			env.Extensions = nil
			edit(&env)
			headers, err := AppendHeaders(nil, &env)
			if err != nil {
				t.Fatal(err)
			}
			got, err := readBackward(headers, env.Data)
			if err != nil || !reflect.DeepEqual(got, env) {
				t.Errorf("error %v, came back as\n     %+v\nwant %+v", err, got, env)
			}
		})
	}
}

func TestAppendHeadersRefuses(t *testing.T) {
	for name, edit := range map[string]func(*pulse.Envelope){
		"no id":              func(e *pulse.Envelope) { e.ID = uuid.Nil },
		"no source":          func(e *pulse.Envelope) { e.Source = "" },
		"no name":            func(e *pulse.Envelope) { e.Name = "" },
		"no data":            func(e *pulse.Envelope) { e.Data = nil },
		"control character":  func(e *pulse.Envelope) { e.Key = "a\r\nce-id: 1" },
		"not UTF-8":          func(e *pulse.Envelope) { e.Correlation = "\xff" },
		"position":           func(e *pulse.Envelope) { e.Position = -1 },
		"version":            func(e *pulse.Envelope) { e.Version = math.MaxInt32 + 1 },
		"nanoseconds":        func(e *pulse.Envelope) { e.OccurredAt = e.OccurredAt.Add(1) },
		"year 10000":         func(e *pulse.Envelope) { e.RecordedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"extensions no JSON": func(e *pulse.Envelope) { e.Extensions = []byte(`{`) },
		"extension of ours":  func(e *pulse.Envelope) { e.Extensions = []byte(`{"subject":"x"}`) },
		"content type":       func(e *pulse.Envelope) { e.Extensions = []byte(`{"datacontenttype":"a/json; x=\"ü\""}`) },
		"extension taken":    func(e *pulse.Envelope) { e.Extensions = []byte(`{"cetyped":"x"}`) },
		"causation twice":    func(e *pulse.Envelope) { e.Extensions = []byte(`{"causationid":"x"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			env := full()
			edit(&env)
			before := []Header{{"a", "b"}}
			got, err := AppendHeaders(before, &env)
			if !errors.Is(err, pulse.ErrInvalid) && !errors.Is(err, pulse.ErrSerialization) || len(got) != 1 {
				t.Errorf("error %v, headers %q", err, got)
			}
		})
	}
}

// headersOf are those of the least event, with more.
func headersOf(more ...string) []Header {
	headers := []Header{{"ce-specversion", "1.0"}, {"ce-id", "018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11"}, {"ce-source", "s"}, {"ce-type", "a"}}
	for i := 0; i < len(more); i += 2 {
		headers = append(headers, Header{more[i], more[i+1]})
	}
	return headers
}

func TestHeaderReaderTakesEventsOfOthers(t *testing.T) {
	want := least()
	want.Data = []byte("null")
	for name, tc := range map[string]struct {
		more []string
		edit func(*pulse.Envelope)
	}{
		"no body":       {nil, func(*pulse.Envelope) {}},
		"other headers": {[]string{"Nats-Msg-Id", "1", "ce", "x", "Host", "%"}, func(*pulse.Envelope) {}},
		"upper case":    {[]string{"CE-Subject", "k", "Content-Type", "application/json"}, func(e *pulse.Envelope) { e.Key = "k" }},
		"double quotes": {[]string{"ce-subject", `"a b"`}, func(e *pulse.Envelope) { e.Key = "a b" }},
		"plain UTF-8":   {[]string{"ce-subject", "żółw"}, func(e *pulse.Envelope) { e.Key = "żółw" }},
		"small escapes": {[]string{"ce-subject", "%c5%bc"}, func(e *pulse.Envelope) { e.Key = "ż" }},
		"type twice":    {[]string{"ce-x", "1", "ce-cetyped", "x%20x"}, func(e *pulse.Envelope) { e.Extensions = []byte(`{"x":1}`) }},
		"content type": {[]string{"content-type", "application/json; charset=utf-8"}, func(e *pulse.Envelope) {
			e.Extensions = []byte(`{"datacontenttype":"application/json; charset=utf-8"}`)
		}},
		"attribute name": {[]string{"ce-datacontenttype", "application/json"}, func(*pulse.Envelope) {}},
	} {
		t.Run(name, func(t *testing.T) {
			want := want
			tc.edit(&want)
			if got, err := readBackward(headersOf(tc.more...), nil); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("error %v\n got %+v\nwant %+v", err, got, want)
			}
		})
	}
}

func TestHeaderReaderRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		headers []Header
		body    string
	}{
		"nothing":               {nil, ""},
		"no id":                 {slices.Delete(headersOf(), 1, 2), ""},
		"no version":            {slices.Delete(headersOf(), 0, 1), ""},
		"twice":                 {headersOf("ce-type", "a"), ""},
		"twice in other case":   {headersOf("CE-Type", "a"), ""},
		"extension twice":       {headersOf("ce-x", "a", "ce-x", "a"), ""},
		"types twice":           {headersOf("ce-x", "1", "ce-cetyped", "x", "ce-cetyped", "x"), ""},
		"type of nothing":       {headersOf("ce-cetyped", "x"), ""},
		"type of empty text":    {headersOf("ce-x", "", "ce-cetyped", "x"), ""},
		"types empty":           {headersOf("ce-cetyped", ""), ""},
		"content type empty":    {headersOf("content-type", ""), ""},
		"content type in UTF-8": {headersOf("content-type", "a/json; x=\"ü\""), ""},
		"charset":               {headersOf("content-type", "a/json; charset=latin1"), ""},
		"type of text":          {headersOf("ce-x", "one", "ce-cetyped", "x"), ""},
		"type of quoted text":   {headersOf("ce-x", "%221%22", "ce-cetyped", "x"), ""},
		"type of a cause":       {headersOf("ce-causationid", "17", "ce-cetyped", "causationid"), ""},
		"empty":                 {headersOf("ce-subject", ""), ""},
		"quotes around nothing": {headersOf("ce-subject", `""`), ""},
		"no escape":             {headersOf("ce-subject", "50%"), ""},
		"half an escape":        {headersOf("ce-subject", "%4"), ""},
		"escape of a control":   {headersOf("ce-subject", "%0A"), ""},
		"escape of half a rune": {headersOf("ce-subject", "%C5"), ""},
		"position":              {headersOf("ce-position", "01"), ""},
		"dataversion":           {headersOf("ce-dataversion", "x"), ""},
		"commitment":            {headersOf("ce-commitment", "AAAA"), ""},
		"time":                  {headersOf("ce-time", "yesterday"), ""},
		"data as attribute":     {headersOf("ce-data", "1"), ""},
		"name with a line":      {headersOf("ce-a_b", "1"), ""},
		"content type":          {headersOf("content-type", "text/plain"), ""},
		"body no JSON":          {headersOf(), "{"},
		"structured, no event":  {append(headersOf(), Header{"content-type", ContentType}), "{}"},
		"a batch":               {[]Header{{"content-type", "application/cloudevents-batch+json"}}, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			env, err := readBackward(tc.headers, []byte(tc.body))
			if !errors.Is(err, pulse.ErrInvalid) && !errors.Is(err, pulse.ErrSerialization) || !reflect.DeepEqual(env, pulse.Envelope{}) {
				t.Errorf("error %v, envelope %+v", err, env)
			}
		})
	}
}

// A reader that met a bad event reads the next one as if nothing had been, and what it returned before stays.
func TestHeaderReaderIsUsedAgain(t *testing.T) {
	var r HeaderReader
	read := func(headers []Header, body string) (pulse.Envelope, error) {
		for _, h := range headers {
			r.Set(h.Name, h.Value)
		}
		return r.Envelope([]byte(body))
	}
	first, err := read(headersOf("ce-x", "1", "ce-subject", "one"), "1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(headersOf("ce-y", "%", "ce-cetyped", "y"), "2"); err == nil {
		t.Fatal("no error")
	}
	second, err := read(headersOf("ce-subject", "two"), "2")
	if err != nil || second.Key != "two" || second.Extensions != nil || string(second.Data) != "2" {
		t.Errorf("error %v, second is %+v", err, second)
	}
	if first.Key != "one" || string(first.Extensions) != `{"x":"1"}` || string(first.Data) != "1" {
		t.Errorf("first has become %+v", first)
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("k", "/s", "ce-x", "a%20b", []byte(`{"a":1}`))
	f.Add("ż\"", "s", "CE-cetyped", `"1"`, []byte("null"))
	f.Fuzz(func(t *testing.T, key, source, name, value string, body []byte) {
		var r HeaderReader
		for _, h := range headersOf("ce-subject", key, name, value) {
			r.Set(h.Name, h.Value)
		}
		env, err := r.Envelope(body)
		if err != nil {
			return
		}
		headers, err := AppendHeaders(nil, &env)
		if err != nil {
			t.Fatalf("read %+v, which cannot be written: %v", env, err)
		}
		for _, h := range headers {
			if strings.ContainsFunc(h.Value, func(c rune) bool { return c < ' ' || c > '~' || c == ' ' && h.Name != headerContentType }) {
				t.Fatalf("header %q is not visible ASCII", h)
			}
		}
		if again, err := readBackward(headers, env.Data); err != nil || !reflect.DeepEqual(again, env) {
			t.Fatalf("error %v\n got %+v\nwant %+v", err, again, env)
		}
	})
}

func TestHeadersAllocations(t *testing.T) {
	env := full()
	env.Extensions = nil
	var headers []Header
	if n := testing.AllocsPerRun(100, func() { headers, _ = AppendHeaders(headers[:0], &env) }); n > 1 && !poolsForget {
		t.Errorf("AppendHeaders allocates %v times", n)
	}
	var r HeaderReader
	if n := testing.AllocsPerRun(100, func() {
		for _, h := range headers {
			r.Set(h.Name, h.Value)
		}
		if _, err := r.Envelope(env.Data); err != nil {
			t.Fatal(err)
		}
	}); n > 6 {
		t.Errorf("HeaderReader allocates %v times: want one for each text and one more", n)
	}
}

func BenchmarkHeaders(b *testing.B) {
	env := full()
	var headers []Header
	var r HeaderReader
	b.Run("append", func(b *testing.B) {
		for b.Loop() {
			headers, _ = AppendHeaders(headers[:0], &env)
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			for _, h := range headers {
				r.Set(h.Name, h.Value)
			}
			if _, err := r.Envelope(env.Data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestDocsListHeaders: docs/nats.md tells readers in other languages of each header.
func TestDocsListHeaders(t *testing.T) {
	docs, err := os.ReadFile("../docs/nats.md")
	if err != nil {
		t.Fatal(err)
	}
	env := full()
	env.Extensions = []byte(`{"n":1}`)
	headers, err := AppendHeaders(nil, &env)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		if h.Name != "ce-n" && !strings.Contains(string(docs), "\n| `"+h.Name+"` |") {
			t.Errorf("docs/nats.md has no row for %s", h.Name)
		}
	}
}

// A message in structured mode is read by the same reader, whatever its headers say beside the content type, and the next one in binary
// mode is not taken for one.
func TestStructuredMessages(t *testing.T) {
	var r HeaderReader
	for i, mode := range []Mode{Structured, Binary, Structured, Structured, Binary} {
		env := full()
		headers, body, err := Encode(&env, mode)
		if err != nil {
			t.Fatal(err)
		}
		if mode == Structured {
			headers = append(headers, Header{"ce-id", "something else"}, Header{"ce-unfinished", "%"})
			headers[0].Value = []string{ContentType, "Application/CloudEvents+JSON; charset=utf-8"}[i%2]
		}
		for _, h := range headers {
			r.Set(h.Name, h.Value)
		}
		if got, err := r.Envelope(body); err != nil || !reflect.DeepEqual(got, env) {
			t.Errorf("message %d, error %v, came back as\n     %+v\nwant %+v", i, err, got, env)
		}
	}
	r.Set("content-type", ContentType)
	if _, err := r.Envelope([]byte(`{"specversion":"1.0"`)); err == nil {
		t.Error("half a structured event was taken")
	}
}
