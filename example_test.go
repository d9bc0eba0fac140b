package pulse_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// LessonPublished and the types below are the events of the examples.
type LessonPublished struct {
	LessonID string `json:"lesson_id" pulse:"key"` // the events of one lesson have an order
	Title    string `json:"title"`
}

func (LessonPublished) EventName() string { return "lesson.published" }

type LessonRetitled struct {
	LessonID string `json:"lesson_id" pulse:"key"`
	Title    string `json:"title"`
}

func (LessonRetitled) EventName() string { return "lesson.retitled" }

type QuizSubmitted struct {
	Quiz  string `json:"quiz"`
	Score int    `json:"score"`
}

func (QuizSubmitted) EventName() string { return "quiz.submitted" }

// exampleBus is a bus over a store in memory.
func exampleBus() (*pulse.Bus, *memstore.Store) {
	store := memstore.New(nil)
	bus, err := pulse.New(store, &pulse.Options{Source: "/school", Logger: slog.New(slog.DiscardHandler)})
	check(err)
	return bus, store
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A bus emits events into the log of its store and hands them to subscriptions.
func Example() {
	ctx := context.Background()
	bus, err := pulse.New(memstore.New(nil), &pulse.Options{Source: "/school"})
	check(err)
	err = bus.Subscribe("mailer", pulse.On(func(ctx context.Context, e LessonPublished) error {
		fmt.Println("mail: a new lesson,", e.Title)
		return nil
	}))
	check(err)
	_, err = bus.Emit(ctx, LessonPublished{LessonID: "algebra-1", Title: "Algebra I"})
	check(err)
	check(bus.Drain(ctx)) // a server calls bus.Run(ctx)
	// Output:
	// mail: a new lesson, Algebra I
}
