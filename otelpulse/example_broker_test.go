package otelpulse_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/nats-io/nats.go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/natsbroker"
	"github.com/edupulse-live/pulse/otelpulse"
)

// The trace of the emit is in the row of the log and in the header of the message, where readers in any language find it.
func ExamplePublisher() {
	ctx := context.Background()
	exporter := tracetest.NewInMemoryExporter() // in an application the exporter of its tracing system
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))

	dir, err := os.MkdirTemp("", "school")
	check(err)
	defer os.RemoveAll(dir)
	options := &natsbroker.Options{Listen: "127.0.0.1:0", Auth: natsbroker.Auth{Token: "secret"}, Log: slog.New(slog.DiscardHandler)}
	broker, err := natsbroker.Embed(ctx, dir, options)
	check(err)
	defer broker.Close()
	bus, err := pulse.New(memstore.New(nil), &pulse.Options{Source: "/school"})
	check(err)
	defer bus.Close()
	check(bus.Publish("nats", otelpulse.Publisher(broker.Publisher(), "nats", tracers)))

	reader, err := nats.Connect(broker.URL(), nats.Token("secret")) // another service
	check(err)
	defer reader.Close()
	messages, err := reader.SubscribeSync("pulse.0.>")
	check(err)
	check(reader.Flush())

	_, err = otelpulse.Emitter(bus, tracers).Emit(ctx, LessonPublished{LessonID: "7"})
	check(err)
	check(bus.Drain(ctx))

	m, err := messages.NextMsgWithContext(ctx)
	check(err)
	emit, publish := exporter.GetSpans()[0], exporter.GetSpans()[1]
	fmt.Println(emit.Name+",", publish.Name)
	fmt.Println("message:", m.Header.Get("ce-traceparent") == "00-"+emit.SpanContext.TraceID().String()+"-"+emit.SpanContext.SpanID().String()+"-01")
	fmt.Println("linked:", publish.Links[0].SpanContext.TraceID() == emit.SpanContext.TraceID())
	for env, err := range bus.Log(ctx, pulse.Query{}) {
		check(err)
		fmt.Println("row:", env.Trace == m.Header.Get("ce-traceparent"))
	}
	// Output:
	// emit lesson.published, publish nats
	// message: true
	// linked: true
	// row: true
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
