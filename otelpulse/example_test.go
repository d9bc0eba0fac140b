package otelpulse_test

import (
	"context"
	"fmt"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/otelpulse"
)

func Example() {
	ctx := context.Background()
	exporter := tracetest.NewInMemoryExporter() // in an application the exporter of its tracing system
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))

	bus, err := pulse.New(memstore.New(nil), &pulse.Options{Source: "/school"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bus.Close()
	err = bus.Subscribe("mailer",
		pulse.Use(otelpulse.Middleware(tracers, otelpulse.Child())),
		pulse.On(func(context.Context, LessonPublished) error { return nil }))
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := otelpulse.Emitter(bus, tracers).Emit(ctx, LessonPublished{LessonID: "7"}); err != nil {
		fmt.Println(err)
		return
	}
	if err := bus.Drain(ctx); err != nil {
		fmt.Println(err)
		return
	}
	spans := exporter.GetSpans()
	for _, s := range spans {
		fmt.Println(s.Name, s.SpanKind)
	}
	fmt.Println("one trace:", spans[0].SpanContext.TraceID() == spans[1].SpanContext.TraceID())
	// Output:
	// emit lesson.published producer
	// handle lesson.published consumer
	// one trace: true
}
