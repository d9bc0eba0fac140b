package cloudevents

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

func TestPropertiesAreTheDocumentedOnes(t *testing.T) {
	env := full()
	env.Key, env.Extensions = `żółw "1" 100%`, []byte(`{"count":-3,"region":"the north","live":true,"shut":false,"empty":"","datacontenttype":"application/json; charset=utf-8"}`)
	for i := range env.Commitment {
		env.Commitment[i] = byte(i)
	}
	want := map[string]any{
		"first":                     "kept",
		"cloudEvents_specversion":   "1.0",
		"cloudEvents_id":            env.ID.String(),
		"cloudEvents_source":        env.Source,
		"cloudEvents_type":          env.Name,
		"cloudEvents_subject":       env.Key,
		"cloudEvents_time":          env.OccurredAt.Format(timeFormat),
		"cloudEvents_actor":         env.Actor.String(),
		"cloudEvents_correlationid": env.Correlation,
		"cloudEvents_causationid":   env.Causation.String(),
		"cloudEvents_position":      fmt.Sprint(env.Position),
		"cloudEvents_dataversion":   int64(env.Version),
		"cloudEvents_recordedat":    env.RecordedAt.Format(timeFormat),
		"cloudEvents_traceparent":   env.Trace,
		"cloudEvents_commitment":    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
		"cloudEvents_count":         int64(-3),
		"cloudEvents_live":          true,
		"cloudEvents_shut":          false,
		"cloudEvents_region":        "the north",
		"cloudEvents_empty":         "",
	}
	props := map[string]any{"first": "kept"}
	contentType, err := SetProperties(props, &env)
	if err != nil || !reflect.DeepEqual(props, want) || contentType != "application/json; charset=utf-8" {
		t.Errorf("error %v, content type %q, properties are\n     %q\nwant %q", err, contentType, props, want)
	}
	env.Source = ""
	if _, err := SetProperties(props, &env); !errors.Is(err, pulse.ErrInvalid) || !reflect.DeepEqual(props, want) {
		t.Errorf("without a source: %v, and the properties are %q", err, props)
	}
}

// readProperties reads what SetProperties has written, with a prefix.
func readProperties(props map[string]any, prefix, contentType string, body []byte) (pulse.Envelope, error) {
	var r HeaderReader
	for name, value := range props {
		r.SetProperty(prefix+strings.TrimPrefix(name, PropertyPrefix), value)
	}
	r.Set("content-type", contentType)
	return r.Envelope(body)
}

func TestPropertiesRoundTrip(t *testing.T) {
	for name, edit := range map[string]func(*pulse.Envelope){
		"full":            func(*pulse.Envelope) {},
		"least":           func(e *pulse.Envelope) { *e = least(); e.Data = []byte("null") },
		"text":            func(e *pulse.Envelope) { e.Key, e.Correlation = `'a' "b"-\c\ %41`, strings.Repeat("ż", 300) },
		"quoted text":     func(e *pulse.Envelope) { e.Key = `"a"` },
		"largest numbers": func(e *pulse.Envelope) { e.Position, e.Version = math.MaxInt64, math.MaxInt32 },
		"typed extensions": func(e *pulse.Envelope) {
			e.Extensions = []byte(`{"a":1,"b":true,"c":"1","d":"true","e":-2147483648,"f":false}`)
		},
		"escaped extensions": func(e *pulse.Envelope) { e.Extensions = []byte(`{"a":"\"x\\y\""}`) },
		"empty extension":    func(e *pulse.Envelope) { e.Extensions = []byte(`{"a":""}`) },
		"foreign id":         func(e *pulse.Envelope) { e.ID = derivedID(e.Source, "17"); e.Extensions = []byte(`{"ceid":"17"}`) },
		"content type":       func(e *pulse.Envelope) { e.Extensions = []byte(`{"datacontenttype":"application/vnd.lms+json"}`) },
	} {
		for _, prefix := range []string{PropertyPrefix, propertyColon} {
			t.Run(name+" "+prefix, func(t *testing.T) {
				env := full()
				env.Extensions = nil
				edit(&env)
				props := map[string]any{}
				contentType, err := SetProperties(props, &env)
				if err != nil {
					t.Fatal(err)
				}
				got, err := readProperties(props, prefix, contentType, env.Data)
				if err != nil || !reflect.DeepEqual(got, env) {
					t.Errorf("error %v, came back as\n     %+v\nwant %+v", err, got, env)
				}
			})
		}
	}
}

// Properties of other systems: of AMQP's own types, some that are no attributes, and what is wrong.
func TestPropertiesOfOthers(t *testing.T) {
	must := map[string]any{"cloudEvents:specversion": "1.0", "cloudEvents:id": "17", "cloudEvents:source": "/lms", "cloudEvents:type": "lesson.imported"}
	read := func(name string, value any) (pulse.Envelope, error) {
		var r HeaderReader
		for name, value := range must {
			r.SetProperty(name, value)
		}
		r.SetProperty(name, value)
		return r.Envelope([]byte(`{}`))
	}
	for _, tc := range []struct {
		name  string
		value any
		want  string // of the extensions
	}{
		{"x-opt", 1.5, `{"ceid":"17"}`},
		{"cloudEvents:room", nil, `{"ceid":"17"}`},
		{"cloudEvents:room", int32(12), `{"ceid":"17","room":12}`},
		{"cloudEvents_room", uint8(12), `{"ceid":"17","room":12}`},
		{"cloudEvents_room", int64(1) << 40, `{"ceid":"17","room":"1099511627776"}`},
		{"cloudEvents_room", true, `{"ceid":"17","room":true}`},
		{"cloudEvents_room", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), `{"ceid":"17","room":"2026-01-02T03:04:05Z"}`},
		{"cloudEvents_room", `a "b" %41`, `{"ceid":"17","room":"a \"b\" %41"}`},
	} {
		if env, err := read(tc.name, tc.value); err != nil || string(env.Extensions) != tc.want {
			t.Errorf("%s %v: %s, %v, want %s", tc.name, tc.value, env.Extensions, err, tc.want)
		}
	}
	if env, err := read("cloudEvents_dataversion", int16(3)); err != nil || env.Version != 3 {
		t.Errorf("version: %+v, %v", env, err)
	}
	if env, err := read("cloudEvents_position", int64(7)); err != nil || env.Position != 7 {
		t.Errorf("position: %+v, %v", env, err)
	}
	for name, value := range map[string]any{
		"cloudEvents_id": "18", "cloudEvents_room": 1.5, "cloudEvents_Room": "x", "cloudEvents_data": "x", "cloudEvents_dataversion": int64(-1),
		"cloudEvents_time": "yesterday", "cloudEvents_key": "a\nb",
	} {
		if env, err := read(name, value); !errors.Is(err, pulse.ErrInvalid) {
			t.Errorf("%s %v: %+v, %v, want an ErrInvalid", name, value, env, err)
		}
	}
}
