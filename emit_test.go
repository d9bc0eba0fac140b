package pulse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// logOf returns all envelopes of a bus.
func logOf(t testing.TB, bus *pulse.Bus) []pulse.Envelope {
	t.Helper()
	var envs []pulse.Envelope
	for env, err := range bus.Log(context.Background(), pulse.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		envs = append(envs, env)
	}
	return envs
}

func TestEmitRecordsTheEnvelope(t *testing.T) {
	bus, _ := newBus(t)
	actor, cause, at := uuid.New(), uuid.New(), time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	id, err := bus.Emit(t.Context(), lesson{"l1", 7}, pulse.By(actor), pulse.CausedBy(cause), pulse.CorrelatedTo("request-1"),
		pulse.At(at), pulse.Traced(trace), pulse.FromSource("/import"), pulse.Extended(json.RawMessage(`{"zero": -0, "tenant":"x"}`)))
	if err != nil {
		t.Fatal(err)
	}
	envs := logOf(t, bus)
	if len(envs) != 1 {
		t.Fatalf("%d envelopes", len(envs))
	}
	got := envs[0]
	if got.RecordedAt.IsZero() || got.Commitment == ([32]byte{}) {
		t.Errorf("not recorded or not committed to: %+v", got)
	}
	want := pulse.Envelope{
		Position: 1, ID: id, Name: "lesson.changed", Version: 1, Source: "/import",
		OccurredAt: time.Date(2026, 3, 1, 11, 0, 0, 123456000, time.UTC), RecordedAt: got.RecordedAt,
		Actor: actor, Correlation: "request-1", Causation: cause, Key: "l1", Trace: trace,
		Extensions: json.RawMessage(`{"tenant":"x","zero":0}`), Data: json.RawMessage(`{"id":"l1","n":7}`), Commitment: got.Commitment,
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) {
		t.Errorf("got  %s\nwant %s", a, b)
	}
}

func TestEmitTakesCircumstancesFromTheContext(t *testing.T) {
	bus, _ := newBus(t)
	actor := uuid.New()
	ctx := pulse.WithCorrelation(pulse.WithActor(t.Context(), actor), "request-2")
	if _, err := bus.Emit(ctx, lesson{"l1", 1}); err != nil {
		t.Fatal(err)
	}
	id, err := bus.Emit(t.Context(), lesson{"l1", 2})
	if err != nil {
		t.Fatal(err)
	}
	envs := logOf(t, bus)
	if envs[0].Actor != actor || envs[0].Correlation != "request-2" || envs[0].Source != "/test" {
		t.Errorf("from the context: %+v", envs[0])
	}
	if envs[1].Actor != uuid.Nil || envs[1].Correlation != id.String() {
		t.Errorf("without: %+v", envs[1])
	}
}

// Types an Emit must refuse, or take apart correctly.
type (
	intKey struct {
		N int64 `json:"n" pulse:"key"`
	}
	uuidKey struct {
		ID *uuid.UUID `json:"id" pulse:"key"`
	}
	embedded struct {
		intKey
		Title string `json:"title"`
	}
	twoKeys struct {
		A string `pulse:"key"`
		B string `pulse:"key"`
	}
	floatKey struct {
		F float64 `pulse:"key"`
	}
	personal struct {
		Email string `pulse:"personal"`
	}
	channel struct{ C chan int }
	nested  struct {
		Notes map[string][]string `json:"notes"`
	}
	versioned struct{}
)

func (intKey) EventName() string    { return "some.event" }
func (uuidKey) EventName() string   { return "some.event" }
func (twoKeys) EventName() string   { return "some.event" }
func (floatKey) EventName() string  { return "some.event" }
func (personal) EventName() string  { return "some.event" }
func (channel) EventName() string   { return "some.event" }
func (nested) EventName() string    { return "some.event" }
func (versioned) EventName() string { return "some.event" }
func (versioned) EventVersion() int { return 3 }

func TestEmitFindsKeyAndVersion(t *testing.T) {
	id := uuid.New()
	for _, c := range []struct {
		event   pulse.Event
		key     string
		version int
	}{
		{intKey{-5}, "-5", 1},
		{&intKey{7}, "7", 1},
		{uuidKey{&id}, id.String(), 1},
		{uuidKey{}, "", 1},
		{embedded{intKey{9}, "x"}, "9", 1},
		{versioned{}, "", 3},
		{pulse.Raw{Name: "some.event", Key: "k", Data: []byte(`[]`)}, "k", 1},
		{&pulse.Raw{Name: "some.event", Version: 2, Data: []byte(` null`)}, "", 2},
	} {
		bus, _ := newBus(t)
		if _, err := bus.Emit(t.Context(), c.event); err != nil {
			t.Errorf("%#v: %v", c.event, err)
			continue
		}
		if env := logOf(t, bus)[0]; env.Key != c.key || env.Version != c.version {
			t.Errorf("%#v: key %q, version %d", c.event, env.Key, env.Version)
		}
	}
}

func TestEmitRefuses(t *testing.T) {
	raw := func(name, key, data string) pulse.Raw { return pulse.Raw{Name: name, Key: key, Data: []byte(data)} }
	ok := raw("some.event", "", `{}`)
	for _, c := range []struct {
		what  string
		event pulse.Event
		opts  []pulse.EmitOption
		want  error
		says  string
	}{
		{"nil", nil, nil, pulse.ErrSerialization, "nil"},
		{"nil pointer", (*intKey)(nil), nil, pulse.ErrSerialization, "nil"},
		{"nil raw", (*pulse.Raw)(nil), nil, pulse.ErrSerialization, "nil"},
		{"two keys", twoKeys{}, nil, pulse.ErrInvalid, "one ordering key"},
		{"float key", floatKey{}, nil, pulse.ErrInvalid, "use a string"},
		{"unknown tag", personal{}, nil, pulse.ErrInvalid, "personal"},
		{"channel", channel{}, nil, pulse.ErrSerialization, "chan"},
		{"bad UTF-8", nested{map[string][]string{"a": {"ok", "b\xff"}}}, nil, pulse.ErrSerialization, "UTF-8"},
		{"no data", raw("some.event", "", ""), nil, pulse.ErrSerialization, "{}"},
		{"bad JSON", raw("some.event", "", `{"a":1,}`), nil, pulse.ErrSerialization, ""},
		{"duplicate keys", raw("some.event", "", `{"a":1,"\u0061":2}`), nil, pulse.ErrSerialization, "a"},
		{"too deep", raw("some.event", "", strings.Repeat("[", 65)+strings.Repeat("]", 65)), nil, pulse.ErrSerialization, "64"},
		{"wildcard name", raw("some.*", "", `{}`), nil, pulse.ErrInvalid, ""},
		{"empty name", raw("", "", `{}`), nil, pulse.ErrInvalid, ""},
		{"key with control character", raw("some.event", "a\nb", `{}`), nil, pulse.ErrInvalid, "key"},
		{"negative version", pulse.Raw{Name: "some.event", Version: -1, Data: []byte(`{}`)}, nil, pulse.ErrInvalid, "version"},
		{"nil id", ok, []pulse.EmitOption{pulse.ID(uuid.Nil)}, pulse.ErrInvalid, "nil UUID"},
		{"bad trace", ok, []pulse.EmitOption{pulse.Traced("x")}, pulse.ErrInvalid, "trace"},
		{"bad correlation", ok, []pulse.EmitOption{pulse.CorrelatedTo("a *")}, pulse.ErrInvalid, "correlation"},
		{"extensions no object", ok, []pulse.EmitOption{pulse.Extended([]byte(`[1]`))}, pulse.ErrInvalid, "object"},
		{"extensions null", ok, []pulse.EmitOption{pulse.Extended([]byte(`null`))}, pulse.ErrInvalid, "object"},
		{"extension name", ok, []pulse.EmitOption{pulse.Extended([]byte(`{"a_b":1}`))}, pulse.ErrInvalid, "a_b"},
		{"extension of our own", ok, []pulse.EmitOption{pulse.Extended([]byte(`{"subject":"x"}`))}, pulse.ErrInvalid, "subject"},
		{"nested extension", ok, []pulse.EmitOption{pulse.Extended([]byte(`{"a":{}}`))}, pulse.ErrInvalid, "strings"},
		{"long integer extension", ok, []pulse.EmitOption{pulse.Extended([]byte(`{"a":3000000000}`))}, pulse.ErrInvalid, "32 bits"},
		{"extension that says types of others", ok, extended(`{"cetyped":"a","a":1}`), pulse.ErrInvalid, "cetyped"},
		{"extension with a control character", ok, extended(`{"a":"b\u000a"}`), pulse.ErrInvalid, "control"},
		{"extension with a noncharacter", ok, extended(`{"a":"\uffff"}`), pulse.ErrInvalid, "control"},
		{"extension cause that is ours", ok, extended(`{"causationid":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11"}`), pulse.ErrInvalid, "CausedBy"},
		{"extension cause that is empty", ok, extended(`{"causationid":""}`), pulse.ErrInvalid, "CausedBy"},
		{"extension cause that is a number", ok, extended(`{"causationid":1}`), pulse.ErrInvalid, "CausedBy"},
		{"two causes", ok, append(extended(`{"causationid":"17"}`), pulse.CausedBy(uuid.New())), pulse.ErrInvalid, "keep one"},
		{"content that is no JSON", ok, extended(`{"datacontenttype":"text/xml"}`), pulse.ErrInvalid, "not JSON"},
		{"content of no type", ok, extended(`{"datacontenttype":1}`), pulse.ErrInvalid, "not JSON"},
		{"content as always", ok, extended(`{"datacontenttype":"application/json"}`), pulse.ErrInvalid, "leave it out"},
		{"content with a broken parameter", ok, extended(`{"datacontenttype":"application/json; charset"}`), pulse.ErrInvalid, "not JSON"},
		{"content with a space in front", ok, extended(`{"datacontenttype":" a/json"}`), pulse.ErrInvalid, "not JSON"},
		{"content not in ASCII", ok, extended(`{"datacontenttype":"a/json; x=\"ü\""}`), pulse.ErrInvalid, "ASCII"},
		{"content in Latin-1", ok, extended(`{"datacontenttype":"a/json; charset=latin1"}`), pulse.ErrInvalid, "UTF-8"},
		{"content that is an event", ok, extended(`{"datacontenttype":"application/cloudevents+json"}`), pulse.ErrInvalid, "whole event"},
		{"many extensions", ok, extended(`{"a":"` + strings.Repeat("x", 16<<10) + `"}`), pulse.ErrInvalid, "16384"},
		{"huge version", pulse.Raw{Name: "some.event", Version: 1 << 31, Data: []byte(`{}`)}, nil, pulse.ErrInvalid, "version"},
		{"year 10000", ok, []pulse.EmitOption{pulse.At(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))}, pulse.ErrInvalid, "year"},
		{"too large", raw("some.event", "", `"`+strings.Repeat("x", 512<<10)+`"`), nil, pulse.ErrTooLarge, "reference"},
	} {
		t.Run(c.what, func(t *testing.T) {
			bus, _ := newBus(t)
			_, err := bus.Emit(t.Context(), c.event, c.opts...)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want a %v that says %q", err, c.want, c.says)
			}
			if n := len(logOf(t, bus)); n != 0 {
				t.Errorf("%d events stored", n)
			}
		})
	}
}

func extended(attributes string) []pulse.EmitOption {
	return []pulse.EmitOption{pulse.Extended([]byte(attributes))}
}

// Extensions are stored the one way that every format of CloudEvents gives them back: an event that comes home repeats itself.
func TestEmitWritesExtensionsOneWay(t *testing.T) {
	for given, want := range map[string]string{
		`{}`:                               "",
		`{ }`:                              "",
		` {"b": 1 , "a":true}`:             `{"a":true,"b":1}`,
		`{"a":""}`:                         `{"a":""}`,
		`{"\u0061":"\u0041\/\"\\\u00fc"}`:  `{"a":"A/\"\\ü"}`,
		`{"a":"<&>\u2028"}`:                "{\"a\":\"<&>\u2028\"}",
		`{"a":-2147483648,"b":2147483647}`: `{"a":-2147483648,"b":2147483647}`,
		`{"causationid":"job-17"}`:         `{"causationid":"job-17"}`,
		`{"datacontenttype":"application/vnd.lms+json; charset=UTF-8"}`: `{"datacontenttype":"application/vnd.lms+json; charset=UTF-8"}`,
	} {
		t.Run(given, func(t *testing.T) {
			bus, _ := newBus(t)
			id := uuid.New()
			for range 2 { // the second one says the same
				if _, err := bus.Emit(t.Context(), pulse.Raw{Name: "some.event", Data: []byte(`{}`)}, append(extended(given), pulse.ID(id))...); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := bus.Emit(t.Context(), pulse.Raw{Name: "some.event", Data: []byte(`{}`)}, pulse.ID(id), pulse.Extended([]byte(want))); err != nil {
				t.Errorf("as it came home: %v", err)
			}
			if got := logOf(t, bus)[0].Extensions; string(got) != want {
				t.Errorf("stored %s, want %s", got, want)
			}
		})
	}
}

func TestEmitAllIsOneUnit(t *testing.T) {
	bus, _ := newBus(t)
	evs := []pulse.Event{lesson{"a", 1}, lesson{"a", 2}, channel{}}
	if _, err := bus.EmitAll(t.Context(), evs); !errors.Is(err, pulse.ErrSerialization) {
		t.Errorf("with a bad one: %v", err)
	}
	if _, err := bus.EmitAll(t.Context(), evs[:2], pulse.ID(uuid.New())); !errors.Is(err, pulse.ErrInvalid) {
		t.Errorf("one id for two: %v", err)
	}
	if n := len(logOf(t, bus)); n != 0 {
		t.Fatalf("%d events stored", n)
	}
	ids, err := bus.EmitAll(t.Context(), evs[:2])
	if err != nil || len(ids) != 2 {
		t.Fatal(ids, err)
	}
	for i, env := range logOf(t, bus) {
		if env.ID != ids[i] {
			t.Errorf("position %d has %s, want %s", env.Position, env.ID, ids[i])
		}
	}
	if ids, err := bus.EmitAll(t.Context(), nil); err != nil || len(ids) != 0 {
		t.Errorf("none: %v, %v", ids, err)
	}
}

func TestEmitAgainWithTheSameID(t *testing.T) {
	bus, _ := newBus(t)
	id := uuid.New()
	for range 2 {
		if got, err := bus.Emit(t.Context(), lesson{"a", 1}, pulse.ID(id)); err != nil || got != id {
			t.Fatal(got, err)
		}
	}
	_, err := bus.Emit(t.Context(), lesson{"a", 2}, pulse.ID(id))
	var conflict *pulse.ConflictError
	if !errors.Is(err, pulse.ErrConflict) || !errors.As(err, &conflict) || conflict.ID != id || conflict.Position != 1 {
		t.Errorf("other content: %v", err)
	}
	if n := len(logOf(t, bus)); n != 1 {
		t.Errorf("%d events stored", n)
	}
}

func TestEmitAfterClose(t *testing.T) {
	bus, _ := newBus(t)
	if err := bus.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Emit(t.Context(), lesson{"a", 1}); !errors.Is(err, pulse.ErrClosed) {
		t.Errorf("emit: %v", err)
	}
	if err := bus.Run(t.Context()); !errors.Is(err, pulse.ErrClosed) {
		t.Errorf("run: %v", err)
	}
}

// FuzzEmit: whatever Emit accepts is in the log byte for byte, valid, and verifies against its commitment.
func FuzzEmit(f *testing.F) {
	f.Add("lesson.published", "k1", "request-1", []byte(`{"a":"ü","b":[1,2.50,null]}`), int64(1))
	f.Add("a", "", "", []byte(" null\n"), int64(-1))
	f.Add("a.*", "k k", "\x00", []byte(`{"a":1,"a":2}`), int64(1)<<62)
	f.Fuzz(func(t *testing.T, name, key, correlation string, data []byte, micros int64) {
		bus, err := pulse.New(memstore.New(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		at := time.UnixMicro(micros)
		id, err := bus.Emit(t.Context(), pulse.Raw{Name: name, Key: key, Data: data}, pulse.CorrelatedTo(correlation), pulse.At(at))
		envs := logOf(t, bus)
		if err != nil {
			if len(envs) != 0 {
				t.Errorf("refused with %v, but stored", err)
			}
			return
		}
		if len(envs) != 1 {
			t.Fatalf("%d envelopes", len(envs))
		}
		e := envs[0]
		if e.ID != id || e.Name != name || e.Key != key || !bytes.Equal(e.Data, data) || !at.IsZero() && !e.OccurredAt.Equal(at) ||
			correlation != "" && e.Correlation != correlation || !json.Valid(e.Data) {
			t.Errorf("emitted %q %q %q %s, read %+v", name, key, correlation, data, e)
		}
	})
}
