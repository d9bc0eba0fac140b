package otelpulse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
	"github.com/edupulse-live/pulse/otelpulse"
	"github.com/edupulse-live/pulse/pulsetest"
)

type LessonPublished struct {
	LessonID string `json:"lesson_id" pulse:"key"`
}

func (LessonPublished) EventName() string { return "lesson.published" }

type MailSent struct{}

func (MailSent) EventName() string { return "mail.sent" }

const (
	requestTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	requestParent = "00-" + requestTrace + "-00f067aa0ba902b7-01"
)

// spans records what ends.
type spans struct {
	*tracetest.InMemoryExporter
	provider *sdktrace.TracerProvider
	t        testing.TB
}

func record(t testing.TB) *spans {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return &spans{exporter, provider, t}
}

// one returns the only span with a name.
func (s *spans) one(name string) tracetest.SpanStub {
	s.t.Helper()
	var found []tracetest.SpanStub
	var names []string
	for _, span := range s.GetSpans() {
		names = append(names, span.Name)
		if span.Name == name {
			found = append(found, span)
		}
	}
	if len(found) != 1 {
		s.t.Fatalf("%d spans %q among %q, want 1", len(found), name, names)
	}
	return found[0]
}

func (s *spans) has(name string) bool {
	return slices.ContainsFunc(s.GetSpans(), func(span tracetest.SpanStub) bool { return span.Name == name })
}

// attributes prints them by name.
func attributes(span tracetest.SpanStub) map[attribute.Key]string {
	all := map[attribute.Key]string{}
	for _, a := range span.Attributes {
		all[a.Key] = a.Value.String()
	}
	return all
}

func wantAttributes(t *testing.T, span tracetest.SpanStub, want map[attribute.Key]string) {
	t.Helper()
	have := attributes(span)
	for key, value := range want {
		if have[key] != value {
			t.Errorf("span %q: %s is %q, want %q", span.Name, key, have[key], value)
		}
	}
}

func traceID(span tracetest.SpanStub) string { return span.SpanContext.TraceID().String() }

func traceparent(span tracetest.SpanStub) string {
	return fmt.Sprintf("00-%s-%s-%s", traceID(span), span.SpanContext.SpanID(), span.SpanContext.TraceFlags())
}

// school is a bus with a broker, and a subscription "mailer" that reads from it.
type school struct {
	*pulse.Bus
	broker  *membroker.Broker
	emitter pulse.Emitter
}

func newSchool(t *testing.T, s *spans, handler func(context.Context, LessonPublished) error, opts ...otelpulse.MiddlewareOption) *school {
	t.Helper()
	bus, broker := pulsetest.New(t), membroker.New(nil)
	err := bus.Publish("events", otelpulse.Publisher(broker.Publisher("events"), "events", s.provider), pulse.Route("lesson.>"))
	if err != nil {
		t.Fatal(err)
	}
	err = bus.Subscribe("mailer", pulse.From("events", broker.Source("events")),
		pulse.Use(otelpulse.Middleware(s.provider, opts...)), pulse.On(handler))
	if err != nil {
		t.Fatal(err)
	}
	return &school{bus, broker, otelpulse.Emitter(bus, s.provider)}
}

// handle runs the bus until the spans say that the lesson was handled.
func (s *school) handle(ctx context.Context, t *testing.T, recorded *spans) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	for !recorded.has("handle lesson.published") && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("the lesson was not handled in time")
	}
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
}

// logged returns the envelope of the only event with a name.
func (s *school) logged(t *testing.T, name string) pulse.Envelope {
	t.Helper()
	var found []pulse.Envelope
	for env, err := range s.Log(t.Context(), pulse.Query{Name: name}) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, env)
	}
	if len(found) != 1 {
		t.Fatalf("%d events %s, want 1", len(found), name)
	}
	return found[0]
}

// TestOneTrace follows one trace id from an HTTP request through the emit, the row, the message and the handler to the event the
// handler emits.
func TestOneTrace(t *testing.T) {
	s := record(t)
	var app *school
	app = newSchool(t, s, func(ctx context.Context, _ LessonPublished) error {
		_, own := s.provider.Tracer("mailer").Start(ctx, "smtp")
		own.End()
		_, err := app.emitter.Emit(ctx, MailSent{})
		return err
	}, otelpulse.Child())
	server := httptest.NewServer(pulse.HTTPContext(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := app.emitter.Emit(r.Context(), LessonPublished{LessonID: "7"}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})))
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", requestParent)
	res, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s %v", res.StatusCode, text, err)
	}
	app.handle(t.Context(), t, s)

	emit, handle := s.one("emit lesson.published"), s.one("handle lesson.published")
	if emit.Parent.SpanID().String() != "00f067aa0ba902b7" || !emit.Parent.IsRemote() {
		t.Errorf("the emit's parent is %v, want the request's span", emit.Parent.SpanID())
	}
	if got := app.logged(t, "lesson.published").Trace; got != traceparent(emit) {
		t.Errorf("the row has the trace %q, want %q", got, traceparent(emit))
	}
	messages := app.broker.Messages("events")
	if len(messages) == 0 || messages[0].Trace != traceparent(emit) {
		t.Errorf("the messages are %+v, want the first with the trace %q", messages, traceparent(emit))
	}
	if handle.Parent.SpanID() != emit.SpanContext.SpanID() {
		t.Errorf("the handler's parent is %v, want the emit's span", handle.Parent.SpanID())
	}
	for _, name := range []string{"smtp", "emit mail.sent"} {
		if span := s.one(name); span.Parent.SpanID() != handle.SpanContext.SpanID() {
			t.Errorf("the parent of %q is %v, want the handler's span", name, span.Parent.SpanID())
		}
	}
	if got := app.logged(t, "mail.sent").Trace; got != traceparent(s.one("emit mail.sent")) {
		t.Errorf("what the handler emitted has the trace %q", got)
	}
	for _, name := range []string{"emit lesson.published", "handle lesson.published", "smtp", "emit mail.sent"} {
		if got := traceID(s.one(name)); got != requestTrace {
			t.Errorf("%q is in the trace %s, want the request's", name, got)
		}
	}
}

// TestLinkedTrace sees a delivery in a trace of its own, linked to that of the emit, also when the bus runs inside a span.
func TestLinkedTrace(t *testing.T) {
	s := record(t)
	var app *school
	app = newSchool(t, s, func(ctx context.Context, _ LessonPublished) error {
		_, err := app.Emit(ctx, MailSent{}) // on the bus itself: the context carries the trace all the same
		return err
	})
	if _, err := app.emitter.Emit(t.Context(), LessonPublished{}); err != nil {
		t.Fatal(err)
	}
	ctx, running := s.provider.Tracer("test").Start(t.Context(), "run")
	defer running.End()
	app.handle(ctx, t, s)
	emit, handle, publish := s.one("emit lesson.published"), s.one("handle lesson.published"), s.one("publish events")
	for _, span := range []tracetest.SpanStub{handle, publish} {
		if span.Parent.IsValid() || traceID(span) == traceID(emit) {
			t.Errorf("%q has the parent %v in the trace %s, want none in its own", span.Name, span.Parent.SpanID(), traceID(span))
		}
		if len(span.Links) != 1 || span.Links[0].SpanContext.SpanID() != emit.SpanContext.SpanID() {
			t.Errorf("%q has the links %v, want one to the emit", span.Name, span.Links)
		}
	}
	if got := app.logged(t, "mail.sent").Trace; got != traceparent(handle) {
		t.Errorf("what the handler emitted has the trace %q, want that of the handler, %q", got, traceparent(handle))
	}
}

func TestAttributes(t *testing.T) {
	s := record(t)
	app := newSchool(t, s, func(context.Context, LessonPublished) error { return nil })
	id, err := app.emitter.Emit(t.Context(), LessonPublished{LessonID: "secret-key"}, pulse.CorrelatedTo("req-1"))
	if err != nil {
		t.Fatal(err)
	}
	app.handle(t.Context(), t, s)
	emit, handle, publish := s.one("emit lesson.published"), s.one("handle lesson.published"), s.one("publish events")
	wantAttributes(t, emit, map[attribute.Key]string{
		"messaging.system": "pulse", "messaging.operation.name": "emit", "messaging.operation.type": "create",
		"messaging.destination.name": "lesson.published", "messaging.message.id": id.String(),
	})
	wantAttributes(t, publish, map[attribute.Key]string{
		"messaging.system": "pulse", "messaging.operation.name": "publish", "messaging.operation.type": "send",
		"messaging.destination.name": "events", "messaging.batch.message_count": "1", "error.type": "",
	})
	wantAttributes(t, handle, map[attribute.Key]string{
		"messaging.system": "pulse", "messaging.operation.name": "handle", "messaging.operation.type": "process",
		"messaging.destination.name": "lesson.published", "messaging.destination.subscription.name": "mailer",
		"messaging.message.id": id.String(), "messaging.message.conversation_id": "req-1",
		"messaging.message.body.size": "26", "messaging.pulse.message.position": "1",
		"messaging.pulse.message.delivery_attempt": "1", "messaging.pulse.subscription.generation": "1", "error.type": "",
	})
	kinds := [3]trace.SpanKind{emit.SpanKind, publish.SpanKind, handle.SpanKind}
	if want := [3]trace.SpanKind{trace.SpanKindProducer, trace.SpanKindClient, trace.SpanKindConsumer}; kinds != want {
		t.Errorf("the kinds are %v, want %v", kinds, want)
	}
	for _, span := range s.GetSpans() {
		if text := fmt.Sprintf("%+v", span); strings.Contains(text, "secret-key") {
			t.Errorf("the key is in the span: %s", text)
		}
		if span.Status.Code != codes.Unset || span.InstrumentationScope.SchemaURL == "" {
			t.Errorf("%q has the status %v and the schema %q", span.Name, span.Status, span.InstrumentationScope.SchemaURL)
		}
	}
}

func TestAttemptsFail(t *testing.T) {
	for name, tc := range map[string]struct {
		handle func() error
		kind   string
	}{
		"a plain error":     {func() error { return errors.New("mail for ada@example.org refused") }, "*errors.errorString"},
		"a wrapped error":   {func() error { return fmt.Errorf("send to ada@example.org: %w", http.ErrNoCookie) }, "*errors.errorString"},
		"one with a type":   {func() error { return fmt.Errorf("send: %w", &http.MaxBytesError{}) }, "*http.MaxBytesError"},
		"several":           {func() error { return errors.Join(&http.MaxBytesError{}, io.EOF) }, "*http.MaxBytesError"},
		"one of Pulse":      {func() error { return fmt.Errorf("find ada@example.org: %w", pulse.ErrNotFound) }, "not found"},
		"one busy":          {func() error { return fmt.Errorf("emit: %w", pulse.ErrBusy) }, "busy with another transaction"},
		"the end of time":   {func() error { return context.DeadlineExceeded }, "context deadline exceeded"},
		"a parked delivery": {func() error { return pulse.Park("no such student") }, "*pulse.parked"},
		"a panic":           {func() error { panic("ada@example.org") }, "panic"},
	} {
		t.Run(name, func(t *testing.T) {
			s := record(t)
			bus := pulsetest.New(t)
			err := bus.Subscribe("mailer", pulse.Use(otelpulse.Middleware(s.provider)), pulse.Retry(pulse.RetryPolicy{Attempts: 1}),
				pulse.On(func(context.Context, LessonPublished) error { return tc.handle() }))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bus.Emit(t.Context(), LessonPublished{}); err != nil {
				t.Fatal(err)
			}
			pulsetest.Drain(t, bus)
			span := s.one("handle lesson.published")
			wantAttributes(t, span, map[attribute.Key]string{"error.type": tc.kind})
			if span.Status.Code != codes.Error || span.Status.Description != tc.kind {
				t.Errorf("the status is %+v, want an error %q", span.Status, tc.kind)
			}
			if text := fmt.Sprintf("%+v", span); strings.Contains(text, "example.org") {
				t.Errorf("the text of the error is in the span: %s", text)
			}
			dead, err := bus.Deliveries(t.Context(), pulse.DeliveryQuery{Subscription: "mailer", Statuses: []pulse.DeliveryStatus{pulse.StatusDead}})
			if err != nil || len(dead) != 1 {
				t.Errorf("%d dead letters, %v: the middleware must hand the answer on", len(dead), err)
			}
		})
	}
}

func TestEmitFails(t *testing.T) {
	s := record(t)
	bus := pulsetest.New(t)
	emitter := otelpulse.Emitter(bus, s.provider)
	for name, tc := range map[string]struct {
		event pulse.Event
		span  string
		kind  string
	}{
		"nil":            {nil, "emit", "serialization failed"},
		"a nil pointer":  {(*LessonPublished)(nil), "emit", "serialization failed"},
		"no name at all": {pulse.Raw{Name: "Ada's <file>", Data: []byte("1")}, "emit", "invalid"},
		"no data":        {pulse.Raw{Name: "file.read"}, "emit file.read", "serialization failed"},
	} {
		s.Reset()
		if _, err := emitter.Emit(t.Context(), tc.event); err == nil {
			t.Errorf("%s: emitted", name)
		}
		wantAttributes(t, s.one(tc.span), map[attribute.Key]string{"error.type": tc.kind})
	}
}

func TestEmitAll(t *testing.T) {
	s := record(t)
	bus := pulsetest.New(t)
	emitter := otelpulse.Emitter(bus, s.provider)
	ids, err := emitter.EmitAll(t.Context(), []pulse.Event{LessonPublished{}, LessonPublished{}})
	if err != nil || len(ids) != 2 {
		t.Fatal(ids, err)
	}
	span := s.one("emit lesson.published")
	wantAttributes(t, span, map[attribute.Key]string{"messaging.batch.message_count": "2"})
	for env := range bus.Log(t.Context(), pulse.Query{}) {
		if env.Trace != traceparent(span) {
			t.Errorf("event %d has the trace %q", env.Position, env.Trace)
		}
	}
	s.Reset()
	if _, err := emitter.EmitAll(t.Context(), []pulse.Event{LessonPublished{}, MailSent{}}, pulse.ID(uuid.New())); !errors.Is(err, pulse.ErrInvalid) {
		t.Error(err)
	}
	wantAttributes(t, s.one("emit"), map[attribute.Key]string{"error.type": "invalid", "messaging.destination.name": ""})
}

// TestWhichTraceCounts: the current span before what WithTrace put into the context, and Traced before both.
func TestWhichTraceCounts(t *testing.T) {
	s := record(t)
	bus := pulsetest.New(t)
	emitter := otelpulse.Emitter(bus, s.provider)
	ctx, current := s.provider.Tracer("test").Start(pulse.WithTrace(t.Context(), requestParent), "current")
	if _, err := emitter.Emit(ctx, LessonPublished{}); err != nil {
		t.Fatal(err)
	}
	if _, err := emitter.Emit(ctx, MailSent{}, pulse.Traced(requestParent)); err != nil {
		t.Fatal(err)
	}
	current.End()
	if span := s.one("emit lesson.published"); span.Parent.SpanID() != current.SpanContext().SpanID() {
		t.Errorf("the parent is %v, want the current span", span.Parent.SpanID())
	}
	for env := range bus.Log(t.Context(), pulse.Query{Name: "mail.sent"}) {
		if env.Trace != requestParent {
			t.Errorf("the trace is %q, want the one given", env.Trace)
		}
	}
}

func TestFromContext(t *testing.T) {
	s := record(t)
	if _, ok := pulse.TraceFrom(otelpulse.FromContext(t.Context())); ok {
		t.Error("a trace without a span")
	}
	kept := otelpulse.FromContext(pulse.WithTrace(t.Context(), requestParent))
	if got, _ := pulse.TraceFrom(kept); got != requestParent {
		t.Errorf("without a span the trace is %q, want the one there", got)
	}
	ctx, span := s.provider.Tracer("test").Start(t.Context(), "request")
	span.End()
	if got, _ := pulse.TraceFrom(otelpulse.FromContext(ctx)); got != traceparent(s.one("request")) {
		t.Errorf("the trace is %q", got)
	}
}

// TestWithoutTracing: a provider that records nothing leaves the request's trace as it is.
func TestWithoutTracing(t *testing.T) {
	bus := pulsetest.New(t)
	emitter := otelpulse.Emitter(bus, noop.NewTracerProvider())
	for _, ctx := range []context.Context{t.Context(), pulse.WithTrace(t.Context(), requestParent)} {
		if _, err := emitter.Emit(ctx, LessonPublished{}); err != nil {
			t.Fatal(err)
		}
	}
	var traces []string
	for env := range bus.Log(t.Context(), pulse.Query{}) {
		traces = append(traces, env.Trace)
	}
	if len(traces) != 2 || traces[0] != "" || traces[1] != requestParent {
		t.Errorf("the traces are %q, want none and the request's", traces)
	}
}

// TestEventWithoutTrace: its delivery begins a trace of its own, also as a child, and also when the bus runs inside a span.
func TestEventWithoutTrace(t *testing.T) {
	for name, opts := range map[string][]otelpulse.MiddlewareOption{"linked": nil, "child": {otelpulse.Child()}} {
		s := record(t)
		bus := pulsetest.New(t)
		err := bus.Subscribe("mailer", pulse.Use(otelpulse.Middleware(s.provider, opts...)), pulse.On(func(context.Context, LessonPublished) error { return nil }))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bus.Emit(t.Context(), LessonPublished{}); err != nil {
			t.Fatal(err)
		}
		ctx, running := s.provider.Tracer("test").Start(t.Context(), "run")
		if err := bus.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		running.End()
		if span := s.one("handle lesson.published"); span.Parent.IsValid() || len(span.Links) > 0 {
			t.Errorf("%s: the span has the parent %v and the links %v, want none", name, span.Parent.SpanID(), span.Links)
		}
	}
}
