package integration_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// sample is the envelope of an event after an edit.
func sample(edit func(*pulse.Envelope)) pulse.Envelope {
	env := pulse.Envelope{
		ID:     uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11"),
		Name:   "lesson.published",
		Source: "/school",
		Data:   json.RawMessage(`{"title":"Fractions","pages":[1,2.5]}`),
	}
	edit(&env)
	return env
}

// samples are what others must read as it was written. Those with an ä in their name have texts that headers have percent-encoded.
func samples() map[string]pulse.Envelope {
	return map[string]pulse.Envelope{
		"without optional attributes": sample(func(*pulse.Envelope) {}),
		"with all attributes": sample(func(e *pulse.Envelope) {
			e.Position, e.Version, e.Key, e.Correlation, e.Trace = math.MaxInt64, math.MaxInt32, "lesson-7", "req-1", traceparent
			e.OccurredAt = time.Date(2026, 3, 4, 5, 6, 7, 891_000, time.UTC)
			e.RecordedAt = time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC)
			e.Actor, e.Causation = uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b12"), uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b13")
			e.Commitment = [32]byte{0: 0xfb, 31: 0xff}
		}),
		"with extensions": sample(func(e *pulse.Envelope) {
			e.Extensions = json.RawMessage(`{"dataref":"https://school.example/7?a=1&b=2","sampledrate":3,"urgent":true}`)
		}),
		"with line breaks in data": sample(func(e *pulse.Envelope) { e.Data = json.RawMessage("{\n  \"text\": \"a\\nb\"\r\n}\n") }),
		"with unicode in data":     sample(func(e *pulse.Envelope) { e.Data = json.RawMessage(`{"text":"straße 学校 🎓 \u2028 \"q\""}`) }),
		"with data null":           sample(func(e *pulse.Envelope) { e.Data = json.RawMessage("null") }),
		"with ä":                   sample(func(e *pulse.Envelope) { e.Key, e.Correlation = "straße/学校/🎓", "é and e\u0301" }),
		"with ä and signs": sample(func(e *pulse.Envelope) {
			e.Key, e.Extensions = `100% "%41" \ a`, json.RawMessage(`{"note":"say \"hallo\\\", 5 %"}`)
		}),
	}
}

// attributes is what the event must say: name to text, in the words of the CloudEvents specification.
func attributes(t testing.TB, env *pulse.Envelope, mode cloudevents.Mode) map[string]string {
	all := map[string]string{"specversion": "1.0", "id": env.ID.String(), "source": env.Source, "type": env.Name, "datacontenttype": "application/json"}
	add := func(name, value string, there bool) {
		if there {
			all[name] = value
		}
	}
	add("subject", env.Key, env.Key != "")
	add("time", env.OccurredAt.Format("2006-01-02T15:04:05.000000Z"), !env.OccurredAt.IsZero())
	add("recordedat", env.RecordedAt.Format("2006-01-02T15:04:05.000000Z"), !env.RecordedAt.IsZero())
	add("actor", env.Actor.String(), env.Actor != uuid.Nil)
	add("causationid", env.Causation.String(), env.Causation != uuid.Nil)
	add("correlationid", env.Correlation, env.Correlation != "")
	add("position", fmt.Sprint(int64(env.Position)), env.Position > 0)
	add("dataversion", fmt.Sprint(env.Version), env.Version > 0)
	add("traceparent", env.Trace, env.Trace != "")
	add("commitment", base64.StdEncoding.EncodeToString(env.Commitment[:]), env.Commitment != [32]byte{})
	var more map[string]any
	if env.Extensions != nil {
		if err := json.Unmarshal(env.Extensions, &more); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range more {
		all[name] = fmt.Sprint(value)
		if _, text := value.(string); !text && mode == cloudevents.Binary {
			all["cetyped"] = "sampledrate urgent"
		}
	}
	return all
}

// same compares attributes, and data as JSON.
func same(t *testing.T, got, want map[string]string, gotData, wantData []byte) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s came as %q, want %q", name, got[name], want[name])
		}
	}
	for name, value := range got {
		if _, known := want[name]; !known {
			t.Errorf("%s came as %q and was not sent", name, value)
		}
	}
	var g, w any
	if err := json.Unmarshal(gotData, &g); err != nil {
		t.Errorf("the data came as %q: %v", gotData, err)
	}
	if err := json.Unmarshal(wantData, &w); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("the data came as %s, want %s", gotData, wantData)
	}
}

// encoded tells whether a sample has texts that headers have percent-encoded.
func encoded(name string) bool { return strings.Contains(name, "ä") }

// modes are the two of HTTP by name.
func modes() map[string]cloudevents.Mode {
	return map[string]cloudevents.Mode{"binary": cloudevents.Binary, "structured": cloudevents.Structured}
}

// inbox is a server that reads events, and keeps what became of the last one.
type inbox struct {
	*httptest.Server
	env    pulse.Envelope
	err    error
	header http.Header
}

func newInbox(t *testing.T) *inbox {
	in := &inbox{}
	in.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in.header = r.Header
		if in.env, in.err = cloudevents.ReadRequest(r, 1<<20); in.err != nil {
			http.Error(w, in.err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(in.Close)
	return in
}
