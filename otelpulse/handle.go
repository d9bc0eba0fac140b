package otelpulse

import (
	"context"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/edupulse-live/pulse"
)

// MiddlewareOption configures a Middleware.
type MiddlewareOption func(*middleware)

// Child makes the span of a delivery a child of the span in which its event was emitted, in one trace with it. Without it the delivery
// begins a trace of its own that is linked to the event's: better where deliveries are many, late or tried again for days.
func Child() MiddlewareOption { return func(m *middleware) { m.child = true } }

type middleware struct {
	tracer trace.Tracer
	child  bool
}

// Middleware runs each attempt to handle a delivery inside a consumer span "handle NAME". The handler's context carries
// the span, for spans of its own, and its events record the span as their trace. An attempt that does not succeed has the type of its error,
// "panic" for a panic or an end of the goroutine.
func Middleware(tp trace.TracerProvider, opts ...MiddlewareOption) pulse.Middleware {
	m := &middleware{tracer: tracer(tp)}
	for _, opt := range opts {
		opt(m)
	}
	return func(next pulse.Handler) pulse.Handler {
		return func(ctx context.Context, d *pulse.Delivery) error { return m.handle(ctx, d, next) }
	}
}

func (m *middleware) handle(ctx context.Context, d *pulse.Delivery, next pulse.Handler) error {
	ctx, span := m.start(ctx, d)
	outcome := "panic" // what it stays when next does not return
	defer func() {
		if outcome != "" {
			fail(span, outcome)
		}
		span.End()
	}()
	err := next(FromContext(ctx), d)
	outcome = ""
	if err != nil {
		outcome = errorType(err)
	}
	return err
}

func (m *middleware) start(ctx context.Context, d *pulse.Delivery) (context.Context, trace.Span) {
	opts := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		operation("handle", semconv.MessagingOperationTypeProcess),
		trace.WithAttributes(
			semconv.MessagingDestinationName(d.Name),
			semconv.MessagingDestinationSubscriptionName(d.Subscription),
			semconv.MessagingMessageID(d.ID.String()),
			semconv.MessagingMessageConversationID(d.Correlation),
			semconv.MessagingMessageBodySize(len(d.Data)),
			positionKey.Int64(int64(d.Position)),
			attemptKey.Int(d.Attempt),
			generationKey.Int(d.Generation),
		),
	}
	emitted := spanContext(d.Trace)
	switch {
	case emitted.IsValid() && m.child:
		ctx = trace.ContextWithRemoteSpanContext(ctx, emitted)
	case emitted.IsValid():
		opts = append(opts, trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: emitted}))
	default:
		opts = append(opts, trace.WithNewRoot()) // not of the span in which the bus was started, which may last for months
	}
	return m.tracer.Start(ctx, "handle "+d.Name, opts...)
}
