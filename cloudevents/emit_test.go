package cloudevents_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/google/uuid"
)

// travel sends env through every form an event has outside of the log, and fails when it is refused or arrives as another.
func travel(t *testing.T, env pulse.Envelope) {
	t.Helper()
	headers, err := cloudevents.AppendHeaders(nil, &env)
	if err != nil {
		t.Fatalf("headers of an event that Emit took: %v\n%+v", err, env)
	}
	var r cloudevents.HeaderReader
	size := 0
	for _, h := range headers {
		r.Set(h.Name, h.Value)
		size += len(h.Name) + len(h.Value) + len(": \r\n")
	}
	const most = 60 << 10 // NATS takes 64 KiB, some of it for itself
	if size > most {
		t.Fatalf("the headers take %d bytes", size)
	}
	const spare = 7 << 10 // what an adapter adds to Size for escapes in texts
	if size+len(env.Data) > env.Size()+spare {
		t.Fatalf("%d bytes as encoded, Size says %d", size+len(env.Data), env.Size())
	}
	got, err := r.Envelope(env.Data)
	same(t, "headers", env, got, err)

	line, err := cloudevents.Marshal(env)
	if err != nil {
		t.Fatalf("JSON of an event that Emit took: %v", err)
	}
	got, err = cloudevents.Unmarshal(line)
	same(t, "JSON", env, got, err)

	for _, mode := range []cloudevents.Mode{cloudevents.Binary, cloudevents.Structured} {
		req := httptest.NewRequest(http.MethodPost, "/", nil)
		if err := cloudevents.SetRequest(req, env, mode); err != nil {
			t.Fatalf("request of an event that Emit took: %v", err)
		}
		got, err = cloudevents.ReadRequest(req, 2<<20)
		same(t, fmt.Sprintf("HTTP mode %d", mode), env, got, err)
	}
}

func same(t *testing.T, how string, want, got pulse.Envelope, err error) {
	t.Helper()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: error %v\n got %+v\nwant %+v", how, err, got, want)
	}
}

// recorder emits into a log of its own.
type recorder struct {
	bus  *pulse.Bus
	head pulse.Position
}

func newRecorder(t testing.TB) *recorder {
	bus, err := pulse.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &recorder{bus: bus}
}

// record emits an event and returns what was stored; false when Emit refused it.
func (r *recorder) record(t *testing.T, ev pulse.Raw, opts ...pulse.EmitOption) (pulse.Envelope, bool) {
	t.Helper()
	id, err := r.bus.Emit(t.Context(), ev, opts...)
	if err != nil {
		return pulse.Envelope{}, false
	}
	for env, err := range r.bus.Log(t.Context(), pulse.Query{After: r.head}) {
		if err != nil {
			t.Fatal(err)
		}
		r.head = env.Position
		return env, true
	}
	t.Fatalf("event %s was emitted and is not there", id)
	return pulse.Envelope{}, false
}

// texts are what goes wrong in headers and in JSON.
func texts() []string {
	return []string{
		"", "a", "a b", " ", " a ", "100%", "%41", `"`, `""`, `"a"`, `\`, `\"`, "ż", "学校", "a\u00a0b", "\u200b", "\u2028", "\ufeff", "e\u0301",
		"🎓", "\ufffd", "a/json", "=", ";,", "'", "\n", "\x00", "\x7f", "\u0085", "\xff", "\uffff", "*", "<>", "true", "1", "-1", "null", "{}",
		strings.Repeat("ü", 256), strings.Repeat("x", 512), strings.Repeat("%", 513), strings.Repeat(`"`, 3000),
	}
}

func extensionNames() []string {
	return []string{
		"a", "1", "region", "tracestate", "partitionkey", "sequence", "ceid", "cetyped", "causationid", "datacontenttype", "dataschema", "subject", "time",
		"data", "knownasnull", "contenttype", "position2", "A", "a-b", "", strings.Repeat("n", 300),
	}
}

// What Emit takes can be published, and arrives as it is: an event that it takes and no destination does would be stuck for ever.
func TestWhatEmitTakesCanBePublished(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(all []string) string { return all[random.IntN(len(all))] }
	rec, taken, withExtensions := newRecorder(t), 0, 0
	for range 4000 {
		ev := pulse.Raw{Name: "some.event", Version: random.IntN(3), Key: pick(texts()[:20]), Data: json.RawMessage(pick([]string{"null", "{}", " 1\r\n", `"ż"`}))}
		opts := []pulse.EmitOption{pulse.FromSource("/s" + pick(texts()))}
		if random.IntN(2) == 0 {
			opts = append(opts, pulse.CorrelatedTo("c"+pick(texts())))
		}
		if random.IntN(2) == 0 {
			opts = append(opts, pulse.At(time.Date(1+random.IntN(9999), 2, 3, 4, 5, 6, random.IntN(1e9), time.FixedZone("x", 3600*random.IntN(20)))))
		}
		if random.IntN(2) == 0 {
			opts = append(opts, pulse.By(uuid.New()), pulse.CausedBy(uuid.New()), pulse.Traced("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-%\"x"))
		}
		if random.IntN(3) > 0 {
			opts = append(opts, pulse.Extended(randomExtensions(random, pick)))
		}
		env, ok := rec.record(t, ev, opts...)
		if !ok {
			continue
		}
		travel(t, env)
		if taken++; env.Extensions != nil {
			withExtensions++
		}
	}
	if taken < 200 || withExtensions < 50 {
		t.Fatalf("Emit took %d events, %d with extensions: too few to say anything", taken, withExtensions)
	}
}

// randomExtensions are some, right and wrong.
func randomExtensions(random *rand.Rand, pick func([]string) string) []byte {
	object := map[string]any{}
	for range 1 + random.IntN(2) {
		var value any = pick(texts())
		switch random.IntN(4) {
		case 0:
			value = random.IntN(2) == 0
		case 1:
			value = int32(random.Uint32())
		case 2:
			value = pick([]string{"a/json; x=1", "application/json;charset=utf-8", " a/json", "a/json; charset=latin1", "text/json", "application/json", "018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11"})
		}
		object[pick(extensionNames())] = value
	}
	b, err := json.MarshalIndent(object, " ", "\t")
	if err != nil {
		panic(err)
	}
	return b
}

// The largest headers Emit takes are no more than NATS does.
func TestLargestHeadersCanBePublished(t *testing.T) {
	const most = 16 << 10
	many := []byte("{")
	for i := 0; len(many) < most-30; i++ {
		many = fmt.Appendf(many, `"%03x":1,`, i)
	}
	many = append(bytes.TrimSuffix(many, []byte(",")), '}')
	for name, extensions := range map[string]string{
		"one long":  `{"a":"` + strings.Repeat("%", most-20) + `"}`,
		"non-ASCII": `{"a":"` + strings.Repeat("ü", most/2-20) + `"}`,
		"many":      string(many),
	} {
		t.Run(name, func(t *testing.T) {
			env, ok := newRecorder(t).record(t, pulse.Raw{Name: "n" + strings.Repeat("x", 254), Key: strings.Repeat("%", 512), Data: []byte("1")},
				pulse.FromSource(strings.Repeat("ü", 256)), pulse.CorrelatedTo(strings.Repeat("%", 512)), pulse.By(uuid.New()), pulse.CausedBy(uuid.New()),
				pulse.Traced("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-"+strings.Repeat("%", 456)), pulse.Extended([]byte(extensions)))
			if !ok {
				t.Fatal("refused: the test does not reach the limit")
			}
			travel(t, env)
		})
	}
}

// What import takes it hands to Emit: an event of another system that both take can be published, and comes home as it went.
func TestEventsOfOthersCanBePublished(t *testing.T) {
	taken := 0
	for _, name := range extensionNames() {
		for _, value := range append(texts(), "a/json; x=1", " a/json", "a/json; charset=latin1", "application/cloudevents+json", "018F4E1C-7B1E-7C3A-9A51-3F0A6F2D9B11") {
			text, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			for _, value := range []string{string(text), "17", "false"} {
				line := fmt.Sprintf(`{"specversion":"1.0","id":"17","source":"/lms","type":"a.b","data":{},%q:%s}`, name, value)
				env, err := cloudevents.Unmarshal([]byte(line))
				if err != nil {
					continue
				}
				if env.OccurredAt.IsZero() {
					env.OccurredAt = time.Now()
				}
				stored, ok := newRecorder(t).record(t, pulse.Raw{Name: env.Name, Key: env.Key, Version: env.Version, Data: env.Data}, pulse.ID(env.ID),
					pulse.At(env.OccurredAt), pulse.FromSource(env.Source), pulse.Extended(env.Extensions))
				if ok {
					travel(t, stored)
					taken++
				}
			}
		}
	}
	if taken < 100 {
		t.Fatalf("%d events were taken: too few to say anything", taken)
	}
}

func FuzzWhatEmitTakesCanBePublished(f *testing.F) {
	f.Add("key", "/source", "correlation", []byte(`{"a":1,"b":""}`), []byte(`{}`), int64(0))
	f.Add("ż", "%", `"c"`, []byte(`{"datacontenttype":"a/json; x=1","causationid":"17"}`), []byte(` 1 `), int64(-62135596800000000))
	f.Fuzz(func(t *testing.T, key, source, correlation string, extensions, data []byte, micros int64) {
		env, ok := newRecorder(t).record(t, pulse.Raw{Name: "a.b", Key: key, Data: data}, pulse.FromSource(source), pulse.CorrelatedTo(correlation),
			pulse.Extended(extensions), pulse.At(time.UnixMicro(micros)))
		if ok {
			travel(t, env)
		}
	})
}
