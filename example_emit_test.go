package pulse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// Options say what the envelope has beside the event.
func ExampleBus_Emit() {
	ctx := context.Background()
	bus, _ := exampleBus()
	teacher := uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11")
	_, err := bus.Emit(ctx, LessonPublished{LessonID: "algebra-1", Title: "Algebra I"},
		pulse.By(teacher),
		pulse.CorrelatedTo("req-42"),
		pulse.At(time.Date(2026, 9, 1, 8, 0, 0, 0, time.UTC)))
	check(err)
	for env, err := range bus.Log(ctx, pulse.Query{}) {
		check(err)
		fmt.Println(env.Position, env.Name, env.Key, env.Actor, env.Correlation)
		fmt.Println(env.OccurredAt, string(env.Data))
	}
	// Output:
	// 1 lesson.published algebra-1 018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11 req-42
	// 2026-09-01 08:00:00 +0000 UTC {"lesson_id":"algebra-1","title":"Algebra I"}
}

// An event emitted under its own id can be emitted again: nothing happens if it says the same.
func ExampleID() {
	ctx := context.Background()
	bus, _ := exampleBus()
	id := uuid.Must(uuid.NewV7()) // kept by the caller, with the request for example
	for range 3 {
		_, err := bus.Emit(ctx, QuizSubmitted{Quiz: "fractions", Score: 9}, pulse.ID(id))
		fmt.Println(err)
	}
	_, err := bus.Emit(ctx, QuizSubmitted{Quiz: "fractions", Score: 10}, pulse.ID(id))
	fmt.Println(errors.Is(err, pulse.ErrConflict))
	// Output:
	// <nil>
	// <nil>
	// <nil>
	// true
}

// All events or none, next to each other in the log.
func ExampleBus_EmitAll() {
	ctx := context.Background()
	bus, _ := exampleBus()
	_, err := bus.EmitAll(ctx, []pulse.Event{
		LessonPublished{LessonID: "algebra-1", Title: "Algebra I"},
		pulse.Raw{Name: "Not a name", Data: json.RawMessage(`{}`)},
	})
	fmt.Println(errors.Is(err, pulse.ErrInvalid))
	_, err = bus.EmitAll(ctx, []pulse.Event{
		LessonPublished{LessonID: "algebra-1", Title: "Algebra I"},
		LessonRetitled{LessonID: "algebra-1", Title: "Algebra, gently"},
	})
	check(err)
	for env, err := range bus.Log(ctx, pulse.Query{}) {
		check(err)
		fmt.Println(env.Position, env.Name)
	}
	// Output:
	// true
	// 1 lesson.published
	// 2 lesson.retitled
}

// An event emitted in a transaction exists if and only if that commits.
func ExampleBus_In() {
	ctx := context.Background()
	bus, store := exampleBus()
	noRoom := errors.New("the course is full")

	// Each store has a Do for its own kind of transaction: tx is a *sql.Tx with sqlitestore.
	publish := func(lesson string, failure error) error {
		return memstore.Do(ctx, store, bus, func(_ *memstore.Tx, e pulse.Emitter) error {
			if _, err := e.Emit(ctx, LessonPublished{LessonID: lesson}); err != nil {
				return err
			}
			return failure // what else happens in the transaction
		})
	}
	fmt.Println(publish("algebra-1", noRoom))
	fmt.Println(publish("geometry-1", nil))
	for env, err := range bus.Log(ctx, pulse.Query{}) {
		check(err)
		fmt.Println(env.Position, env.Key)
	}
	// Output:
	// the course is full
	// <nil>
	// 1 geometry-1
}

// An event without a Go type, from an import or the command line.
func ExampleRaw() {
	ctx := context.Background()
	bus, _ := exampleBus()
	_, err := bus.Emit(ctx, pulse.Raw{Name: "badge.awarded", Key: "ada", Data: json.RawMessage(`{"badge":"first quiz"}`)},
		pulse.FromSource("/import/2025"))
	check(err)
	for env, err := range bus.Log(ctx, pulse.Query{Name: "badge.>"}) {
		check(err)
		fmt.Println(env.Source, env.Key, string(env.Data))
	}
	// Output:
	// /import/2025 ada {"badge":"first quiz"}
}
