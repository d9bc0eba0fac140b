package otelpulse

import (
	"context"
	"reflect"

	"github.com/google/uuid"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/edupulse-live/pulse"
)

// Emitter returns an emitter that calls e inside a producer span "emit NAME" and records that span as the event's trace,
// unless the caller gave one with pulse.Traced. The parent is the current span of the context, else what pulse.WithTrace
// put there, as pulse.HTTPContext does. EmitAll makes one span for all its events, named after the event's name if they share one.
func Emitter(e pulse.Emitter, tp trace.TracerProvider) pulse.Emitter {
	return &emitter{to: e, tracer: tracer(tp)}
}

type emitter struct {
	to     pulse.Emitter
	tracer trace.Tracer
}

func (e *emitter) Emit(ctx context.Context, ev pulse.Event, opts ...pulse.EmitOption) (uuid.UUID, error) {
	ctx, span := e.start(ctx, nameOf(ev))
	defer span.End()
	id, err := e.to.Emit(ctx, ev, opts...)
	if id != uuid.Nil {
		span.SetAttributes(semconv.MessagingMessageID(id.String()))
	}
	if err != nil {
		fail(span, errorType(err))
	}
	return id, err
}

func (e *emitter) EmitAll(ctx context.Context, evs []pulse.Event, opts ...pulse.EmitOption) ([]uuid.UUID, error) {
	ctx, span := e.start(ctx, sharedName(evs))
	defer span.End()
	span.SetAttributes(semconv.MessagingBatchMessageCount(len(evs)))
	ids, err := e.to.EmitAll(ctx, evs, opts...)
	if err != nil {
		fail(span, errorType(err))
	}
	return ids, err
}

// start starts the span of an emit and puts it into the context as the trace to record.
func (e *emitter) start(ctx context.Context, name string) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		if parent, ok := pulse.TraceFrom(ctx); ok {
			ctx = trace.ContextWithRemoteSpanContext(ctx, spanContext(parent))
		}
	}
	title := "emit"
	if name != "" {
		title += " " + name
	}
	ctx, span := e.tracer.Start(ctx, title, trace.WithSpanKind(trace.SpanKindProducer), operation("emit", semconv.MessagingOperationTypeCreate))
	if name != "" {
		span.SetAttributes(semconv.MessagingDestinationName(name))
	}
	return FromContext(ctx), span
}

// nameOf is the name of an event, "" of one that has none: Emit will refuse it.
func nameOf(ev pulse.Event) string {
	if ev == nil {
		return ""
	}
	if v := reflect.ValueOf(ev); v.Kind() == reflect.Pointer && v.IsNil() {
		return "" // EventName has a value receiver and would panic
	}
	if name := ev.EventName(); pulse.ValidateName(name) == nil {
		return name
	}
	return "" // nobody's text becomes the name of a span
}

func sharedName(evs []pulse.Event) string {
	if len(evs) == 0 {
		return ""
	}
	name := nameOf(evs[0])
	for _, ev := range evs[1:] {
		if nameOf(ev) != name {
			return ""
		}
	}
	return name
}
