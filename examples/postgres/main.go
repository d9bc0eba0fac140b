// Emitting in a transaction of PostgreSQL: the lesson and its event exist together or not at all. This program only emits; another
// process publishes, `pulse serve --store postgres://… --broker nats://…`, or handles.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

type LessonPublished struct {
	LessonID string `json:"lesson_id" pulse:"key"`
	Title    string `json:"title"`
}

func (LessonPublished) EventName() string { return "lesson.published" }

func main() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	check(err)
	defer pool.Close()
	_, err = pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS lessons (id text PRIMARY KEY, title text NOT NULL)")
	check(err)

	store, err := pgstore.OpenPool(ctx, pool, nil) // or pulse migrate made the tables before
	check(err)
	defer store.Close()
	bus, err := pulse.New(store, &pulse.Options{Source: "/school"})
	check(err)
	defer bus.Close()

	for _, lesson := range []LessonPublished{{"algebra-1", "Algebra I"}, {"algebra-1", "Algebra I, again"}} {
		err := pgstore.Do(ctx, pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
			if _, err := e.Emit(ctx, lesson); err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, "INSERT INTO lessons VALUES ($1, $2) ON CONFLICT DO NOTHING", lesson.LessonID, lesson.Title)
			if err == nil && tag.RowsAffected() == 0 {
				err = errors.New("there is such a lesson already")
			}
			return err // the event goes with the transaction
		})
		fmt.Printf("%s: %v\n", lesson.Title, err)
	}
	_, err = store.Info(ctx) // gives new events their positions, as pulse serve and every bus that runs do all the time
	check(err)
	for env, err := range bus.Log(ctx, pulse.Query{}) {
		check(err)
		fmt.Printf("in the log: %s %s\n", env.Name, env.Data)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
