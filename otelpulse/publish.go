package otelpulse

import (
	"cmp"
	"context"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/edupulse-live/pulse"
)

// maxLinks is how many links a span has at most; the SDKs drop more by default.
const maxLinks = 128

// Publisher returns a publisher that calls p inside a client span "publish DESTINATION" for each batch, in a trace of its own that is
// linked to those of the first 128 events that have one. The messages keep the trace of their emit. The span has failed when not
// all messages were acknowledged; it tells how many were not, and the first error's type, "panic" for a panic.
func Publisher(p pulse.Publisher, destination string, tp trace.TracerProvider) pulse.Publisher {
	return &publisher{Publisher: p, destination: destination, tracer: tracer(tp)}
}

type publisher struct {
	pulse.Publisher
	destination string
	tracer      trace.Tracer
}

func (p *publisher) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	ctx, span := p.tracer.Start(ctx, "publish "+p.destination,
		trace.WithSpanKind(trace.SpanKindClient),
		operation("publish", semconv.MessagingOperationTypeSend),
		trace.WithAttributes(semconv.MessagingDestinationName(p.destination), semconv.MessagingBatchMessageCount(len(envs))),
		trace.WithNewRoot(), trace.WithLinks(links(envs)...),
	)
	unacked, kind := len(envs), "panic" // what they stay when p does not return
	defer func() {
		if unacked > 0 {
			span.SetAttributes(unackedKey.Int(unacked))
			fail(span, kind)
		}
		span.End()
	}()
	results := p.Publisher.PublishBatch(ctx, envs)
	kind = ""
	for _, r := range results {
		switch {
		case r.Outcome == pulse.Acked:
			unacked--
		case kind == "" && r.Err != nil:
			kind = errorType(r.Err)
		}
	}
	kind = cmp.Or(kind, "_OTHER")
	return results
}

// links are those to the traces of envs.
func links(envs []pulse.Envelope) []trace.Link {
	var all []trace.Link
	for i := range envs {
		if len(all) == maxLinks {
			break
		}
		if emitted := spanContext(envs[i].Trace); emitted.IsValid() {
			all = append(all, trace.Link{SpanContext: emitted})
		}
	}
	return all
}
