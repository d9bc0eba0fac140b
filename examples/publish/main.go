// Publishing and reading from a broker: events go to NATS JetStream in this process, and a subscription is fed from there.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
	"github.com/edupulse-live/pulse/sqlitestore"
)

type LessonPublished struct {
	LessonID string `json:"lesson_id" pulse:"key"`
	Title    string `json:"title"`
}

func (LessonPublished) EventName() string { return "lesson.published" }

func main() {
	ctx := context.Background()
	store, err := sqlitestore.Open(ctx, "school.db", nil)
	check(err)
	defer store.Close()
	bus, err := pulse.New(store, &pulse.Options{Source: "/school"})
	check(err)
	defer bus.Close()

	// natsbroker.Connect(ctx, "nats://nats.example.org:4222", …) uses a server, and nothing else changes.
	broker, err := natsbroker.Embed(ctx, "school.db.nats", &natsbroker.Options{Log: slog.New(slog.DiscardHandler)})
	check(err)
	defer broker.Close()

	check(bus.Publish("nats", broker.Publisher(), pulse.Route("lesson.>")))
	check(bus.Subscribe("mailer", pulse.From("nats", broker.Source()),
		pulse.On(func(ctx context.Context, e LessonPublished) error {
			fmt.Println("mail: a new lesson,", e.Title)
			return nil
		})))
	_, err = bus.Emit(ctx, LessonPublished{LessonID: "algebra-1", Title: "Algebra I"})
	check(err)            // nil: the event is on disk, also when the broker is down
	check(bus.Drain(ctx)) // publish and handle what was emitted; a server calls bus.Run(ctx) instead
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
