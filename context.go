package pulse

import (
	"context"

	"github.com/google/uuid"
)

type (
	actorKey       struct{}
	correlationKey struct{}
	traceKey       struct{}
)

// WithActor returns a context in which Emit records actor as who triggered the event. uuid.Nil means unknown.
func WithActor(ctx context.Context, actor uuid.UUID) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// ActorFrom returns the actor WithActor put into ctx; ok is false when there is none.
func ActorFrom(ctx context.Context) (actor uuid.UUID, ok bool) {
	actor, _ = ctx.Value(actorKey{}).(uuid.UUID)
	return actor, actor != uuid.Nil
}

// WithCorrelation returns a context in which Emit records id as the cross-service trace id of the event. Emit refuses an
// id that has spaces, control characters, '*', '>' or more than 512 bytes. "" means none.
func WithCorrelation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, id)
}

// CorrelationFrom returns the id WithCorrelation put into ctx; ok is false when there is none.
func CorrelationFrom(ctx context.Context) (id string, ok bool) {
	id, _ = ctx.Value(correlationKey{}).(string)
	return id, id != ""
}

// WithTrace returns a context in which Emit records traceparent, as W3C Trace Context has it, as the trace the event belongs
// to. Emit refuses one that is malformed. "" means none.
func WithTrace(ctx context.Context, traceparent string) context.Context {
	return context.WithValue(ctx, traceKey{}, traceparent)
}

// TraceFrom returns the traceparent WithTrace put into ctx; ok is false when there is none.
func TraceFrom(ctx context.Context) (traceparent string, ok bool) {
	traceparent, _ = ctx.Value(traceKey{}).(string)
	return traceparent, traceparent != ""
}
