// Command first is a first program: it emits an event and handles it, in one file.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/edupulse-live/pulse"
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
	check(bus.Subscribe("mailer", pulse.On(func(ctx context.Context, e LessonPublished) error {
		fmt.Println("mail: a new lesson,", e.Title) // an error here means: try again later
		return nil
	})))
	_, err = bus.Emit(ctx, LessonPublished{LessonID: "algebra-1", Title: "Algebra I"})
	check(err)            // nil: the event is on disk
	check(bus.Drain(ctx)) // handle what was emitted; a server calls bus.Run(ctx) instead
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
