// Package otelpulse makes the way of an event visible to OpenTelemetry: one span where it is emitted, one where a batch is
// published, one for each attempt to handle it.
//
//	emitter := otelpulse.Emitter(bus, tracers)
//	err = bus.Publish("nats", otelpulse.Publisher(publisher, "nats", tracers))
//	err = bus.Subscribe("mailer", pulse.Use(otelpulse.Middleware(tracers)), pulse.On(mailer.Welcome))
//
// The event carries the trace: Emitter records the traceparent of its span as the event's Trace, which is stored with
// it and travels in the broker's message. So a handler in another process, hours later, still knows the request that
// led to it. The tracestate does not travel.
//
// Names and attributes are those of the semantic conventions for messaging, version 1.43. Neither payloads nor keys nor the texts of
// errors, all of which may have personal data in them, go into spans.
package otelpulse

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/edupulse-live/pulse"
)

// What the conventions have no attribute for.
const (
	attemptKey    = attribute.Key("messaging.pulse.message.delivery_attempt")
	generationKey = attribute.Key("messaging.pulse.subscription.generation")
	positionKey   = attribute.Key("messaging.pulse.message.position")
	unackedKey    = attribute.Key("messaging.pulse.batch.unacked_count")
)

const traceparent = "traceparent"

// FromContext returns a context with which Emit records the current span of ctx as the trace of the event, see
// pulse.WithTrace. Without a current span it returns ctx. Emitter and Middleware do this by themselves.
func FromContext(ctx context.Context) context.Context {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	if carrier[traceparent] == "" {
		return ctx
	}
	return pulse.WithTrace(ctx, carrier[traceparent])
}

// spanContext reads a traceparent. One that is malformed gives a SpanContext that is not valid.
func spanContext(parent string) trace.SpanContext {
	carrier := propagation.MapCarrier{traceparent: parent}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

// tracer returns the tracer all spans of this package come from.
func tracer(tp trace.TracerProvider) trace.Tracer {
	return tp.Tracer("github.com/edupulse-live/pulse/otelpulse", trace.WithSchemaURL(semconv.SchemaURL))
}

// operation is the attributes every span has.
func operation(name string, kind attribute.KeyValue) trace.SpanStartEventOption {
	return trace.WithAttributes(semconv.MessagingSystemKey.String("pulse"), semconv.MessagingOperationName(name), kind)
}

// fail marks the span as failed by an error of a kind.
func fail(span trace.Span, kind string) {
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	span.SetStatus(codes.Error, kind)
}

// errorType names an error without its text, which may have personal data in it: one of Pulse's own by its sentinel, others by
// the Go type at the end of the chain, of several errors of the first one's.
func errorType(err error) string {
	for _, known := range [...]error{
		context.Canceled, context.DeadlineExceeded, pulse.ErrInvalid, pulse.ErrSerialization, pulse.ErrTooLarge, pulse.ErrUnknown,
		pulse.ErrConflict, pulse.ErrBusy, pulse.ErrClosed, pulse.ErrFenced, pulse.ErrHeld, pulse.ErrNotFound, pulse.ErrDiverged, pulse.ErrStore, pulse.ErrBroker,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	for {
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			if inner := e.Unwrap(); inner != nil {
				err = inner
				continue
			}
		case interface{ Unwrap() []error }:
			if inner := e.Unwrap(); len(inner) > 0 {
				err = inner[0]
				continue
			}
		}
		return fmt.Sprintf("%T", err)
	}
}
