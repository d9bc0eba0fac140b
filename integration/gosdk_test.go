package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

// TestGoSDKReads sends what Pulse writes to a server that reads it with the Go SDK.
func TestGoSDKReads(t *testing.T) {
	var got *event.Event
	var problem error
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, problem = cehttp.NewEventFromHTTPRequest(r)
	}))
	defer server.Close()
	for mode, m := range modes() {
		for name, env := range samples() {
			t.Run(mode+" "+name, func(t *testing.T) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := cloudevents.SetRequest(r, env, m); err != nil {
					t.Fatal(err)
				}
				res, err := server.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if problem != nil {
					t.Fatal(problem)
				}
				if err := got.Validate(); err != nil {
					t.Fatal(err)
				}
				sameInGoSDK(t, got, attributes(t, &env, m), env.Data, m == cloudevents.Binary && encoded(name))
			})
		}
	}
}

// TestGoSDKReadsLines reads the line of an event without HTTP.
func TestGoSDKReadsLines(t *testing.T) {
	for name, env := range samples() {
		line, err := cloudevents.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		var got event.Event
		if err := json.Unmarshal(line, &got); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sameInGoSDK(t, &got, attributes(t, &env, cloudevents.Structured), env.Data, false)
	}
}

// sameInGoSDK compares what the SDK read. Its version under test knows no percent-encoding: it hands on the header as it is.
func sameInGoSDK(t *testing.T, got *event.Event, want map[string]string, data []byte, decode bool) {
	t.Helper()
	have := map[string]string{
		"specversion": got.SpecVersion(), "id": got.ID(), "source": got.Source(), "type": got.Type(), "datacontenttype": got.DataContentType(),
	}
	if got.Subject() != "" {
		have["subject"] = got.Subject()
	}
	if !got.Time().IsZero() {
		have["time"] = got.Time().Format("2006-01-02T15:04:05.000000Z")
	}
	for name, value := range got.Extensions() {
		text, err := types.Format(value)
		if err != nil {
			t.Error(err)
		}
		have[name] = text
	}
	for name, text := range have {
		if plain, err := url.PathUnescape(text); decode && err == nil {
			have[name] = plain
		}
		if name == "cetyped" {
			have[name] = strings.ReplaceAll(text, "%20", " ")
		}
	}
	same(t, have, want, got.Data(), data)
}

// TestGoSDKWrites reads what the Go SDK writes.
func TestGoSDKWrites(t *testing.T) {
	in := newInbox(t)
	for name, tc := range map[string]struct {
		edit func(*event.Event)
		want func(*pulse.Envelope)
	}{
		"least": {func(*event.Event) {}, func(*pulse.Envelope) {}},
		"attributes": {
			func(e *event.Event) {
				e.SetSubject("lesson-7")
				e.SetTime(time.Date(2026, 3, 4, 6, 6, 7, 891_234, time.FixedZone("", 3600)))
				e.SetExtension("correlationid", "req-1")
				e.SetExtension("traceparent", traceparent)
			},
			func(e *pulse.Envelope) {
				e.Key, e.Correlation, e.Trace = "lesson-7", "req-1", traceparent
				e.OccurredAt = time.Date(2026, 3, 4, 5, 6, 7, 891_000, time.UTC)
			},
		},
		"unicode": {func(e *event.Event) { e.SetSubject("straße 学校 🎓") }, func(e *pulse.Envelope) { e.Key = "straße 学校 🎓" }},
		"extensions": {
			func(e *event.Event) { e.SetExtension("dataref", "https://school.example/7?a=1") },
			func(e *pulse.Envelope) { e.Extensions = []byte(`{"dataref":"https://school.example/7?a=1"}`) },
		},
		"schema": {
			func(e *event.Event) { e.SetDataSchema("https://school.example/lesson.json") },
			func(e *pulse.Envelope) { e.Extensions = []byte(`{"dataschema":"https://school.example/lesson.json"}`) },
		},
		"data with lines": {
			func(e *event.Event) { _ = e.SetData("application/json", []byte("{\n\"a\":\r\n1}")) },
			func(e *pulse.Envelope) { e.Data = []byte("{\n\"a\":\r\n1}") },
		},
	} {
		for mode, ctx := range map[string]context.Context{
			"binary": binding.WithForceBinary(t.Context()), "structured": binding.WithForceStructured(t.Context()),
		} {
			t.Run(mode+" "+name, func(t *testing.T) {
				e, want := event.New(), sample(tc.want)
				e.SetID(want.ID.String())
				e.SetType(want.Name)
				e.SetSource(want.Source)
				if err := e.SetData("application/json", []byte(`{"title":"Fractions","pages":[1,2.5]}`)); err != nil {
					t.Fatal(err)
				}
				tc.edit(&e)
				sendWithGoSDK(ctx, t, in, &e)
				if in.err != nil {
					t.Fatalf("%v\n%v", in.err, in.header)
				}
				if !reflect.DeepEqual(in.env, want) {
					t.Errorf("\ncame %+v\nwant %+v", in.env, want)
				}
			})
		}
	}
}

func sendWithGoSDK(ctx context.Context, t *testing.T, in *inbox, e *event.Event) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, in.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cehttp.WriteRequest(ctx, binding.ToMessage(e), r); err != nil {
		t.Fatal(err)
	}
	res, err := in.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
}

// TestGoSDKWritesTypes: extensions that are no strings keep their types in structured mode, and are strings in binary mode.
func TestGoSDKWritesTypes(t *testing.T) {
	in := newInbox(t)
	e := event.New()
	e.SetID("A-1") // no UUID
	e.SetType("lesson.published")
	e.SetSource("/school")
	e.SetExtension("rate", 3)
	e.SetExtension("urgent", true)
	for _, tc := range []struct {
		ctx  context.Context
		want string
	}{
		{binding.WithForceBinary(t.Context()), `{"ceid":"A-1","rate":"3","urgent":"true"}`},
		{binding.WithForceStructured(t.Context()), `{"ceid":"A-1","rate":3,"urgent":true}`},
	} {
		sendWithGoSDK(tc.ctx, t, in, &e)
		if in.err != nil || string(in.env.Extensions) != tc.want || string(in.env.Data) != "null" || in.env.ID.Version() != 5 {
			t.Errorf("%v: %+v with the extensions %s, want %s", in.err, in.env, in.env.Extensions, tc.want)
		}
	}
}

// TestGoSDKKnowsNoPercentEncoding notes what the documents say of the SDK: should it once know it, they have to change.
func TestGoSDKKnowsNoPercentEncoding(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	if err := cloudevents.SetRequest(r, sample(func(e *pulse.Envelope) { e.Key = "straße" }), cloudevents.Binary); err != nil {
		t.Fatal(err)
	}
	got, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil || got.Subject() != "stra%C3%9Fe" {
		t.Errorf("the subject is read as %q, %v", got.Subject(), err)
	}
	in, e := newInbox(t), event.New()
	e.SetID("1")
	e.SetType("lesson.published")
	e.SetSource("/school")
	e.SetSubject("100%")
	sendWithGoSDK(binding.WithForceBinary(t.Context()), t, in, &e)
	if !errors.Is(in.err, pulse.ErrInvalid) {
		t.Errorf("a subject 100%% came as %q, %v", in.env.Key, in.err)
	}
}
