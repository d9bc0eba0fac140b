package cloudevents

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/google/uuid"
)

// readRecord reads headers in an order of its own.
func readRecord(headers []RecordHeader, key, value []byte) (pulse.Envelope, error) {
	var r RecordReader
	for _, h := range slices.Backward(headers) {
		r.Set(h.Key, h.Value)
	}
	return r.Envelope(key, value)
}

func TestRecordHeadersAreTheDocumentedOnes(t *testing.T) {
	env := full()
	env.Key, env.Extensions = `żółw "1" 100%`, []byte(`{"count":-3,"region":"the north","empty":"","datacontenttype":"application/json; charset=utf-8"}`)
	headers, err := AppendRecordHeaders([]RecordHeader{{"first", []byte("kept")}}, &env)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, h := range headers {
		got[h.Key] = string(h.Value)
	}
	plain, err := AppendHeaders(nil, &env)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"first": "kept"}
	for _, h := range plain {
		if h.Name == headerContentType {
			want[h.Name] = h.Value
			continue
		}
		want["ce_"+h.Name[3:]] = h.Value
	}
	want["ce_subject"], want["ce_region"] = env.Key, "the north" // nothing is percent-encoded
	want["ce_cetyped"] = "count"
	if !reflect.DeepEqual(got, want) || len(headers) != len(want) {
		t.Errorf("headers are\n     %q\nwant %q", got, want)
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	for name, edit := range map[string]func(*pulse.Envelope){
		"full":        func(*pulse.Envelope) {},
		"least":       func(e *pulse.Envelope) { *e = least(); e.Data = []byte("null") },
		"text":        func(e *pulse.Envelope) { e.Key, e.Correlation = `'a' "b"-\c\ %41`, "ż" },
		"quoted text": func(e *pulse.Envelope) { e.Key = `"a"` },
		"extensions": func(e *pulse.Envelope) {
			e.Extensions = []byte(`{"a":1,"b":true,"c":"1","d":"100%","e":"\"x\\y\"","f":""}`)
		},
		"data over lines": func(e *pulse.Envelope) { e.Data = []byte(" {\r\n\t} ") },
		"foreign id":      func(e *pulse.Envelope) { e.ID = derivedID(e.Source, "17"); e.Extensions = []byte(`{"ceid":"17"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			env := full()
			env.Extensions = nil
			edit(&env)
			headers, err := AppendRecordHeaders(nil, &env)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := readRecord(headers, []byte(env.Key), env.Data); err != nil || !reflect.DeepEqual(got, env) {
				t.Errorf("error %v, came back as\n     %+v\nwant %+v", err, got, env)
			}
		})
	}
}

func TestAppendRecordHeadersRefuses(t *testing.T) {
	for name, edit := range map[string]func(*pulse.Envelope){
		"no id":             func(e *pulse.Envelope) { e.ID = uuid.Nil },
		"no source":         func(e *pulse.Envelope) { e.Source = "" },
		"no data":           func(e *pulse.Envelope) { e.Data = nil },
		"control character": func(e *pulse.Envelope) { e.Key = "a\nb" },
		"extension of ours": func(e *pulse.Envelope) { e.Extensions = []byte(`{"subject":"x"}`) },
	} {
		env := full()
		edit(&env)
		got, err := AppendRecordHeaders([]RecordHeader{{"a", nil}}, &env)
		if !errors.Is(err, pulse.ErrInvalid) && !errors.Is(err, pulse.ErrSerialization) || len(got) != 1 {
			t.Errorf("%s: error %v, headers %v", name, err, got)
		}
	}
}

// leastRecord has the headers of the least event, with more.
func leastRecord(more ...string) []RecordHeader {
	headers := []RecordHeader{{"ce_specversion", []byte("1.0")}, {"ce_id", []byte("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11")}, {"ce_source", []byte("s")}, {"ce_type", []byte("a")}}
	for i := 0; i < len(more); i += 2 {
		headers = append(headers, RecordHeader{more[i], []byte(more[i+1])})
	}
	return headers
}

func TestRecordReaderTakesEventsOfOthers(t *testing.T) {
	structured := []byte(`{"specversion":"1.0","id":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11","source":"s","type":"a","data":null}`)
	for name, tc := range map[string]struct {
		headers    []RecordHeader
		key, value string
		edit       func(*pulse.Envelope)
	}{
		"no value":      {leastRecord(), "", "", func(*pulse.Envelope) {}},
		"other headers": {leastRecord("ce-x", "1", "traceparent", "x"), "", "", func(*pulse.Envelope) {}},
		"percent":       {leastRecord("ce_subject", "100%"), "", "", func(e *pulse.Envelope) { e.Key = "100%" }},
		"key alone":     {leastRecord(), "k", "", func(e *pulse.Envelope) { e.Key = "k" }},
		"content twice": {leastRecord("content-type", "application/json", "ce_datacontenttype", "application/json"), "", "", func(*pulse.Envelope) {}},
		"another key":   {leastRecord("ce_subject", "s", "ce_partitionkey", "k"), "k", "", func(e *pulse.Envelope) { e.Key, e.Extensions = "s", []byte(`{"partitionkey":"k"}`) }},
		"structured":    {[]RecordHeader{{"content-type", []byte(ContentType + "; charset=utf-8")}, {"ce_id", []byte("x")}}, "k", string(structured), func(*pulse.Envelope) {}},
	} {
		t.Run(name, func(t *testing.T) {
			want := least()
			want.Data = []byte("null")
			tc.edit(&want)
			if got, err := readRecord(tc.headers, []byte(tc.key), []byte(tc.value)); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("error %v\n got %+v\nwant %+v", err, got, want)
			}
		})
	}
}

func TestRecordReaderRefusesAndGoesOn(t *testing.T) {
	var r RecordReader
	for name, headers := range map[string][]RecordHeader{
		"nothing":      nil,
		"twice":        leastRecord("ce_type", "a"),
		"not UTF-8":    leastRecord("ce_subject", "\xff"),
		"position":     leastRecord("ce_position", "01"),
		"content type": leastRecord("content-type", "text/plain"),
		"two contents": leastRecord("content-type", "application/json", "ce_datacontenttype", "application/problem+json"),
		"one is text":  leastRecord("content-type", "text/plain", "ce_datacontenttype", "text/plain"),
	} {
		for _, h := range headers {
			r.Set(h.Key, h.Value)
		}
		if env, err := r.Envelope(nil, []byte("1")); err == nil {
			t.Errorf("%s: %+v", name, env)
		}
	}
	for _, h := range leastRecord() {
		r.Set(h.Key, h.Value)
	}
	if _, err := r.Envelope(nil, []byte("1")); err != nil {
		t.Error(err)
	}
}

// What can be read can be written, and read again as the same.
func FuzzRecord(f *testing.F) {
	f.Add("subject", []byte("a"), []byte("k"), []byte("{}"))
	f.Add("x", []byte("100%"), []byte(nil), []byte("1"))
	f.Add("content-type", []byte(ContentType), []byte("k"), []byte(`{"specversion":"1.0","id":"1","source":"s","type":"a"}`))
	f.Fuzz(func(t *testing.T, name string, text, key, value []byte) {
		headers := leastRecord()
		if name == headerContentType {
			headers = append(headers, RecordHeader{name, text})
		} else {
			headers = append(headers, RecordHeader{"ce_" + name, text})
		}
		env, err := readRecord(headers, key, value)
		if err != nil {
			return
		}
		again, err := AppendRecordHeaders(nil, &env)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := readRecord(again, []byte(env.Key), env.Data)
		if err != nil || !reflect.DeepEqual(back, env) || !bytes.Equal(back.Data, env.Data) {
			t.Errorf("error %v\n got %+v\nwant %+v", err, back, env)
		}
	})
}
