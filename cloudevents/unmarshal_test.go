package cloudevents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/google/uuid"
)

const head = `"specversion":"1.0","id":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11","source":"s","type":"a"`

func line(more string) string {
	if more == "" {
		return "{" + head + "}"
	}
	return "{" + head + "," + more + "}"
}

// Lines as other systems write them: every one a valid CloudEvent 1.0.
func TestUnmarshalTakesEventsOfOthers(t *testing.T) {
	plain := func(edit func(*pulse.Envelope)) pulse.Envelope {
		env := least()
		env.Data = json.RawMessage("null")
		edit(&env)
		return env
	}
	ext := func(s string) pulse.Envelope {
		return plain(func(e *pulse.Envelope) { e.Extensions = json.RawMessage(s) })
	}
	foreign := func(id string) pulse.Envelope {
		return plain(func(e *pulse.Envelope) {
			e.ID = derivedID("s", id)
			e.Extensions = json.RawMessage(`{"ceid":"` + id + `"}`)
		})
	}
	withID := func(id string) string { return `{"specversion":"1.0","id":"` + id + `","source":"s","type":"a"}` }
	for name, tc := range map[string]struct {
		line string
		want pulse.Envelope
	}{
		"only what is required": {line(""), plain(func(*pulse.Envelope) {})},
		"white space":           {"\r\n\t{ " + strings.ReplaceAll(head, ",", " ,\n") + " }\n ", plain(func(*pulse.Envelope) {})},
		"time with offset":      {line(`"time":"2026-03-04T06:06:07+01:00"`), plain(func(e *pulse.Envelope) { e.OccurredAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) })},
		"time in nanoseconds":   {line(`"time":"2026-03-04T05:06:07.000891999Z"`), plain(func(e *pulse.Envelope) { e.OccurredAt = full().OccurredAt })},
		"nulls":                 {line(`"time":null,"subject":null,"actor":null,"other":null,"data_base64":null,"dataversion":null`), plain(func(*pulse.Envelope) {})},
		"a null among others":   {line(`"b":1,"other":null,"a":2`), ext(`{"a":2,"b":1}`)},
		"data null":             {line(`"data":null`), plain(func(*pulse.Envelope) {})},
		"data over lines":       {line("\"data\": {\n \"a\": [1,\n2]\n} "), plain(func(e *pulse.Envelope) { e.Data = json.RawMessage("{\n \"a\": [1,\n2]\n}") })},
		"data in base64":        {line(`"data_base64":"eyJhIjoxfQ=="`), plain(func(e *pulse.Envelope) { e.Data = json.RawMessage(`{"a":1}`) })},
		"escaped names":         {line(`"\u0074ime":"2026-03-04T05:06:07.000891Z","\u0061":1`), plain(func(e *pulse.Envelope) { e.OccurredAt, e.Extensions = full().OccurredAt, json.RawMessage(`{"a":1}`) })},
		"escaped text":          {line(`"subject":"\u0061\ud83d\ude00\/\""`), plain(func(e *pulse.Envelope) { e.Key = `a😀/"` })},
		"charset":               {line(`"datacontenttype":"application/json; charset=utf-8"`), ext(`{"datacontenttype":"application/json; charset=utf-8"}`)},
		"kind of JSON":          {line(`"datacontenttype":"application/vnd.lms+json"`), ext(`{"datacontenttype":"application/vnd.lms+json"}`)},
		"usual content type":    {line(`"datacontenttype":"application/json"`), plain(func(*pulse.Envelope) {})},
		"schema":                {line(`"dataschema":"https://a/b","z":"","a":-2147483648`), ext(`{"a":-2147483648,"dataschema":"https://a/b","z":""}`)},
		"cause no UUID":         {line(`"causationid":"msg-1"`), ext(`{"causationid":"msg-1"}`)},
		"cause nearly a UUID": {
			line(`"causationid":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b1x"`), ext(`{"causationid":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b1x"}`),
		},
		"foreign id":          {withID("A-1"), foreign("A-1")},
		"UUID in upper case":  {withID("018F4E1C-7B1E-7C3A-9A51-3F0A6F2D9B11"), foreign("018F4E1C-7B1E-7C3A-9A51-3F0A6F2D9B11")},
		"UUID without dashes": {withID("018f4e1c7b1e7c3a9a513f0a6f2d9b11"), foreign("018f4e1c7b1e7c3a9a513f0a6f2d9b11")},
		"nil UUID":            {withID(uuid.Nil.String()), foreign(uuid.Nil.String())},
	} {
		got, err := Unmarshal([]byte(tc.line))
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v\n  of %s", name, err, got, tc.want, tc.line)
		}
	}
}

func TestUnmarshalDerivesTheSameIDFromAnySpelling(t *testing.T) {
	a, errA := Unmarshal([]byte(`{"specversion":"1.0","id":"A/1","source":"s","type":"a"}`))
	b, errB := Unmarshal([]byte(`{"type":"a","source":"\u0073","id":"\u0041\/1","specversion":"1.0"}`))
	if errA != nil || errB != nil || a.ID != b.ID {
		t.Errorf("%v and %v for one event (%v, %v)", a.ID, b.ID, errA, errB)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	bad, broken := pulse.ErrInvalid, pulse.ErrSerialization
	for name, tc := range map[string]struct {
		line string
		want error
		text string
	}{
		"nothing":               {``, broken, "want one JSON object"},
		"no object":             {`[]`, broken, "want one JSON object"},
		"a batch":               {`[` + line("") + `]`, broken, "want one JSON object"},
		"byte order mark":       {"\ufeff" + line(""), broken, "want one JSON object"},
		"two events":            {line("") + line(""), broken, "one event only"},
		"cut in the middle":     {fullLine[:200], broken, "not a JSON object"},
		"cut at the end":        {fullLine[:len(fullLine)-1], broken, "not a JSON object"},
		"no comma":              {`{"specversion":"1.0" "id":"1"}`, broken, "want ',' or '}'"},
		"comma at the end":      {"{" + head + ",}", broken, "want a name"},
		"no value":              {"{" + head + `,"a":}`, broken, "want a value"},
		"no colon":              {"{" + head + `,"a" 1}`, broken, "want ':'"},
		"no attributes":         {`{}`, bad, "specversion: invalid: it is missing"},
		"no specversion":        {`{"id":"1","source":"s","type":"a"}`, bad, "specversion"},
		"old specversion":       {`{"specversion":"0.3","id":"1","source":"s","type":"a"}`, bad, "0.3"},
		"specversion a number":  {`{"specversion":1.0,"id":"1","source":"s","type":"a"}`, bad, "want a string"},
		"no id":                 {`{"specversion":"1.0","source":"s","type":"a"}`, bad, "attribute id: invalid: it is missing"},
		"id null":               {`{"specversion":"1.0","id":null,"source":"s","type":"a"}`, bad, "attribute id: invalid: it is missing"},
		"id empty":              {`{"specversion":"1.0","id":"","source":"s","type":"a"}`, bad, "attribute id: invalid: it is empty"},
		"id a number":           {`{"specversion":"1.0","id":1,"source":"s","type":"a"}`, bad, "want a string"},
		"no source":             {`{"specversion":"1.0","id":"1","type":"a"}`, bad, "source"},
		"no type":               {`{"specversion":"1.0","id":"1","source":"s"}`, bad, "attribute type"},
		"type is no name":       {`{"specversion":"1.0","id":"1","source":"s","type":"com.LMS.Published"}`, bad, "lower case"},
		"attribute twice":       {line(`"time":"2026-03-04T05:06:07Z","time":"2026-03-04T05:06:07Z"`), bad, `"time" is there twice`},
		"id twice":              {line(`"id":"1"`), bad, `"id" is there twice`},
		"twice, escaped":        {line(`"\u0069d":"1"`), bad, `"id" is there twice`},
		"twice, once null":      {line(`"time":null,"time":null`), bad, "twice"},
		"extension twice":       {line(`"a":1,"b":2,"\u0061":3`), bad, `"a" is there twice`},
		"extension twice, null": {line(`"a":null,"a":1`), bad, `"a" is there twice`},
		"data twice":            {line(`"data":1,"data":1`), bad, "twice"},
		"both kinds of data":    {line(`"data":1,"data_base64":"MQ=="`), bad, "keep one"},
		"both, turned":          {line(`"data_base64":"MQ==","data":1`), bad, "keep one"},
		"ceid and foreign id":   {`{"specversion":"1.0","id":"1","source":"s","type":"a","ceid":"2"}`, bad, `"ceid" is there twice`},
		"name in upper case":    {line(`"Time":"x"`), bad, "no attribute name"},
		"name with underscore":  {line(`"my_name":"x"`), bad, "no attribute name"},
		"null, no name":         {line(`"my_name":null`), bad, "no attribute name"},
		"empty name":            {line(`"":"x"`), bad, "no attribute name"},
		"lone surrogate name":   {line(`"\ud800":"x"`), broken, "surrogate"},
		"object":                {line(`"a":{"b":1}`), bad, "attribute a"},
		"array":                 {line(`"a":[1]`), bad, "attribute a"},
		"float":                 {line(`"a":1.5`), bad, "attribute a"},
		"33 bits":               {line(`"a":2147483648`), bad, "attribute a"},
		"plus":                  {line(`"a":+1`), bad, "attribute a"},
		"leading zero":          {line(`"a":01`), bad, "attribute a"},
		"misspelt":              {line(`"a":True`), bad, "attribute a"},
		"misspelt null":         {line(`"a":nul`), bad, "attribute a"},
		"brackets crossed":      {line(`"data":[}`), broken, "data"},
		"control in extension":  {line(`"a":"\n"`), bad, "control"},
		"raw control":           {line("\"a\":\"\t\""), bad, "control"},
		"raw control in id":     {"{\"specversion\":\"1.0\",\"id\":\"a\tb\",\"source\":\"s\",\"type\":\"a\"}", bad, "control"},
		"not UTF-8":             {line("\"a\":\"\xff\""), bad, "UTF-8"},
		"not UTF-8 in data":     {line("\"data\":\"\xff\""), broken, "UTF-8"},
		"lone surrogate":        {line(`"subject":"\ud800"`), bad, "surrogate"},
		"empty subject":         {line(`"subject":""`), bad, "subject: invalid: it is empty"},
		"time":                  {line(`"time":"yesterday"`), bad, "RFC 3339"},
		"time, one digit":       {line(`"time":"2026-03-04T5:06:07Z"`), bad, "RFC 3339"},
		"time, comma":           {line(`"time":"2026-03-04T05:06:07,5Z"`), bad, "RFC 3339"},
		"time, offset of a day": {line(`"time":"2026-03-04T05:06:07+24:00"`), bad, "RFC 3339"},
		"time, 60 minutes":      {line(`"time":"2026-03-04T05:06:07+01:60"`), bad, "RFC 3339"},
		"time, no zone":         {line(`"time":"2026-03-04T05:06:07"`), bad, "RFC 3339"},
		"time, year 0 in UTC":   {line(`"time":"0001-01-01T00:00:00+01:00"`), bad, "year 0"},
		"time a number":         {line(`"recordedat":1}`), bad, "want a string"},
		"actor":                 {line(`"actor":"alice"`), bad, "want a UUID"},
		"position a number":     {line(`"position":7`), bad, "want a string"},
		"position zero":         {line(`"position":"0"`), bad, "position"},
		"position padded":       {line(`"position":"07"`), bad, "position"},
		"position too large":    {line(`"position":"9223372036854775808"`), bad, "position"},
		"version a string":      {line(`"dataversion":"1"`), bad, "dataversion"},
		"version zero":          {line(`"dataversion":0`), bad, "dataversion"},
		"version a float":       {line(`"dataversion":1.0`), bad, "dataversion"},
		"commitment too short":  {line(`"commitment":"AAAA"`), bad, "32 bytes"},
		"commitment in hex":     {line(`"commitment":"` + strings.Repeat("0f", 32) + `"`), bad, "32 bytes"},
		"commitment loose bits": {line(`"commitment":"` + strings.Repeat("A", 42) + `B="`), bad, "32 bytes"},
		"content type":          {line(`"datacontenttype":"text/plain","data":"a"`), bad, "not JSON"},
		"content no type":       {line(`"datacontenttype":"json"`), bad, "not JSON"},
		"base64":                {line(`"data_base64":"MQ"`), bad, "data_base64"},
		"base64 with lines":     {line(`"data_base64":"MQ\n=="`), bad, "line breaks"},
		"base64 raw lines":      {line("\"data_base64\":\"MQ\n==\""), bad, "line breaks"},
		"base64 loose bits":     {line(`"data_base64":"MR=="`), bad, "data_base64"},
		"base64 of no JSON":     {line(`"data_base64":"/w=="`), broken, "data_base64"},
		"base64 empty":          {line(`"data_base64":""`), broken, "data_base64"},
		"base64 a number":       {line(`"data_base64":1`), bad, "want a string"},
		"data name twice":       {line(`"data":{"a":1,"a":2}`), broken, "twice"},
		"data too deep":         {line(`"data":` + strings.Repeat("[", 65) + strings.Repeat("]", 65)), broken, "deeper"},
	} {
		got, err := Unmarshal([]byte(tc.line))
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %v about %q", name, err, tc.want, tc.text)
		}
		if !reflect.DeepEqual(got, pulse.Envelope{}) {
			t.Errorf("%s: refused, and yet %+v", name, got)
		}
	}
}

func TestUnmarshalKeepsNothingOfTheLine(t *testing.T) {
	raw := []byte(fullLine)
	env, err := Unmarshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] = 'x'
	}
	if !reflect.DeepEqual(env, full()) {
		t.Errorf("the envelope changed with the buffer: %+v", env)
	}
}

// Who sends a large event does not keep busy for long who reads it and hands it on.
func TestManyTypes(t *testing.T) {
	const many, limit = 60_000, 15 * time.Second // with time that grows with the square, one is 50 s and the other 16
	var extensions, names strings.Builder
	for i := range many {
		fmt.Fprintf(&extensions, `"x%05d":"1",`, i)
		fmt.Fprintf(&names, " x%05d", i)
	}
	begun := time.Now()
	env, err := Unmarshal([]byte(line(extensions.String() + `"cetyped":"` + names.String()[1:] + `"`)))
	if took := time.Since(begun); err != nil || took > limit {
		t.Fatalf("read after %s, %v", took, err)
	}
	begun = time.Now()
	if _, err := AppendHeaders(nil, &env); err != nil || time.Since(begun) > limit {
		t.Errorf("written after %s, %v", time.Since(begun), err)
	}
	if !bytes.HasPrefix(env.Extensions, []byte(`{"x00000":1,"x00001":1,`)) {
		t.Errorf("the extensions are %.40q…", env.Extensions)
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{
		fullLine, line(""), line(`"data_base64":"eyJhIjoxfQ=="`), line(`"data":{"a":[1,"}"]}`), line(`"b":1,"a":"\u0061"`), line(`"a":null`),
		line(`"causationid":"c"`), `{"specversion":"1.0","id":"A-1","source":"s","type":"a","time":"2026-03-04T06:06:07+01:00"}`,
		line(`"datacontenttype":"application/vnd.a+json"`), line(`"causationid":"17","cetyped":"causationid"`), line(`"a":"1","cetyped":"a"`),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		env, err := Unmarshal(data)
		if err != nil {
			if !errors.Is(err, pulse.ErrInvalid) && !errors.Is(err, pulse.ErrSerialization) {
				t.Fatalf("%v is neither of the errors promised", err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted, and is no JSON: %q", data)
		}
		line, err := Marshal(env)
		if err != nil {
			t.Fatalf("%q is read and cannot be written: %v", data, err)
		}
		again, err := Unmarshal(line)
		if err != nil || !reflect.DeepEqual(again, env) {
			t.Fatalf("%v\nread    %+v\nagain   %+v\nfrom    %q\nwritten %q", err, env, again, data, line)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("lesson.published", "/school", "lesson-7", "req-1", "00-ab", []byte(`{"a":1}`), []byte(`{"x":"y"}`), int64(1), int64(7), 2)
	f.Add("a", "s", "", "", "", []byte("[1,\n2]"), []byte(nil), int64(-1), int64(0), 0)
	f.Fuzz(func(t *testing.T, name, source, key, correlation, trace string, data, extensions []byte, micros, position int64, version int) {
		env := least()
		env.Name, env.Source, env.Key, env.Correlation, env.Trace, env.Version = name, source, key, correlation, trace, version
		env.OccurredAt, env.Position, env.Data = time.UnixMicro(micros).UTC(), pulse.Position(position), data
		if len(extensions) > 0 {
			env.Extensions = extensions
		}
		line, err := Marshal(env)
		if err != nil {
			return
		}
		if bytes.ContainsAny(line, "\r\n") || !json.Valid(line) {
			t.Fatalf("no line of JSON: %q", line)
		}
		got, err := Unmarshal(line)
		if err != nil {
			t.Fatalf("%q is written and cannot be read: %v", line, err)
		}
		if env.Extensions != nil { // Marshal sorts them
			var want, have map[string]any
			_ = json.Unmarshal(env.Extensions, &want)
			_ = json.Unmarshal(got.Extensions, &have)
			if len(want) != len(have) || len(want) > 0 && !reflect.DeepEqual(want, have) {
				t.Fatalf("extensions %s came back as %s", env.Extensions, got.Extensions)
			}
			got.Extensions = env.Extensions
		}
		if !reflect.DeepEqual(got, env) {
			t.Fatalf("\nwrote %+v\n read %+v\nfrom  %q", env, got, line)
		}
	})
}
