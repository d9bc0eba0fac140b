package pulse_test

import (
	"context"
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// A subscription is a named group of handlers, one for each event name.
func ExampleOn() {
	ctx := context.Background()
	bus, _ := exampleBus()
	titles := map[string]string{}
	check(bus.Subscribe("catalogue",
		pulse.Ordered(), // a lesson is not retitled before it is published
		pulse.Concurrency(1),
		pulse.On(func(_ context.Context, e LessonPublished) error {
			titles[e.LessonID] = e.Title
			return nil
		}),
		pulse.On(func(_ context.Context, e LessonRetitled) error {
			titles[e.LessonID] += ", now " + e.Title
			return nil
		})))
	_, err := bus.EmitAll(ctx, []pulse.Event{
		LessonPublished{LessonID: "a", Title: "Algebra"},
		LessonRetitled{LessonID: "a", Title: "Algebra, gently"},
	})
	check(err)
	check(bus.Drain(ctx))
	fmt.Println(titles)
	// Output:
	// map[a:Algebra, now Algebra, gently]
}

// OnDelivery sees the envelope, the attempt and the idempotency key, of all events a pattern matches.
func ExampleOnDelivery() {
	ctx := context.Background()
	bus, _ := exampleBus()
	check(bus.Subscribe("webhook", pulse.OnDelivery("lesson.>", func(_ context.Context, d *pulse.Delivery) error {
		fmt.Println(d.Name, d.Position, "attempt", d.Attempt)
		fmt.Println(d.IdempotencyKey() == "webhook/"+d.ID.String())
		return nil
	})))
	_, err := bus.Emit(ctx, LessonPublished{LessonID: "algebra-1", Title: "Algebra I"})
	check(err)
	_, err = bus.Emit(ctx, QuizSubmitted{Quiz: "fractions"}) // not for this subscription
	check(err)
	check(bus.Drain(ctx))
	// Output:
	// lesson.published 1 attempt 1
	// true
}

// OnBatch handles many events at once, for what is cheaper in bulk.
func ExampleOnBatch() {
	ctx := context.Background()
	bus, _ := exampleBus()
	indexed := 0
	check(bus.Subscribe("search", pulse.Ordered(), pulse.OnBatch("lesson.>", 100, func(_ context.Context, ds []pulse.Delivery) error {
		indexed += len(ds)
		return nil
	})))
	for i := range 250 {
		_, err := bus.Emit(ctx, LessonPublished{LessonID: fmt.Sprint("lesson-", i)})
		check(err)
	}
	check(bus.Drain(ctx))
	fmt.Println(indexed)
	// Output:
	// 250
}

// A transactional handler's effect happens exactly once: the delivery is remembered in the same transaction.
// Emitting with the handler's context joins it.
func ExampleOnTx() {
	ctx := context.Background()
	bus, _ := exampleBus()
	check(bus.Subscribe("badges", pulse.OnTx(func(ctx context.Context, tx pulse.Tx, e QuizSubmitted) error {
		_ = tx.Unwrap().(*memstore.Tx) // sqlitestore.OnTx hands over its *sql.Tx
		if e.Score < 10 {
			return nil
		}
		_, err := bus.Emit(ctx, pulse.Raw{Name: "badge.awarded", Data: []byte(`{"badge":"all correct"}`)})
		return err
	})))
	_, err := bus.Emit(ctx, QuizSubmitted{Quiz: "fractions", Score: 10})
	check(err)
	check(bus.Drain(ctx))
	var submitted pulse.Envelope
	for env, err := range bus.Log(ctx, pulse.Query{}) {
		check(err)
		if env.Position == 1 {
			submitted = env
			continue
		}
		fmt.Println(env.Name, "caused by the quiz:", env.Causation == submitted.ID, env.Correlation == submitted.Correlation)
	}
	// Output:
	// badge.awarded caused by the quiz: true true
}

// Ordered handles the events of one key one after the other, different keys side by side.
func ExampleOrdered() {
	ctx := context.Background()
	bus, _ := exampleBus()
	titles := make(chan string, 10)
	check(bus.Subscribe("slides", pulse.Ordered(), pulse.OnDelivery("lesson.*", func(_ context.Context, d *pulse.Delivery) error {
		if d.Position == 1 && d.Attempt == 1 {
			return pulse.RetryAfter(time.Millisecond) // the others of its key wait for it
		}
		titles <- fmt.Sprint(d.Position, " ", d.Name)
		return nil
	})))
	for _, ev := range []pulse.Event{
		LessonPublished{LessonID: "algebra-1"},
		LessonRetitled{LessonID: "algebra-1"},
		LessonRetitled{LessonID: "algebra-1"},
	} {
		_, err := bus.Emit(ctx, ev)
		check(err)
	}
	check(bus.Drain(ctx))
	close(titles)
	for title := range titles {
		fmt.Println(title)
	}
	// Output:
	// 1 lesson.published
	// 2 lesson.retitled
	// 3 lesson.retitled
}

// Start says where a new subscription begins.
func ExampleStart() {
	ctx := context.Background()
	bus, _ := exampleBus()
	_, err := bus.Emit(ctx, QuizSubmitted{Quiz: "before"})
	check(err)
	count := func(where string) pulse.SubscribeOption {
		return pulse.On(func(_ context.Context, e QuizSubmitted) error {
			fmt.Println(where, e.Quiz)
			return nil
		})
	}
	check(bus.Subscribe("statistics", pulse.Start(pulse.Beginning), count("statistics:")))
	check(bus.Subscribe("mailer", count("mailer:"))) // only what is emitted from now on
	check(bus.Drain(ctx))
	// Output:
	// statistics: before
}

// Middleware does what every handler of a subscription should do.
func ExampleUse() {
	ctx := context.Background()
	bus, _ := exampleBus()
	timed := func(next pulse.Handler) pulse.Handler {
		return func(ctx context.Context, d *pulse.Delivery) error {
			start := time.Now()
			err := next(ctx, d)
			fmt.Println(d.Name, "took less than a minute:", time.Since(start) < time.Minute, err)
			return err
		}
	}
	check(bus.Subscribe("mailer", pulse.Use(timed), pulse.On(func(context.Context, LessonPublished) error { return nil })))
	_, err := bus.Emit(ctx, LessonPublished{LessonID: "algebra-1"})
	check(err)
	check(bus.Drain(ctx))
	// Output:
	// lesson.published took less than a minute: true <nil>
}

// Run blocks until its context ends, then lets running handlers finish.
func ExampleBus_Run() {
	ctx, stop := context.WithCancel(context.Background()) // signal.NotifyContext in a server
	bus, _ := exampleBus()
	check(bus.Subscribe("mailer", pulse.On(func(_ context.Context, e LessonPublished) error {
		fmt.Println("mail:", e.Title)
		stop()
		return nil
	})))
	_, err := bus.Emit(ctx, LessonPublished{LessonID: "algebra-1", Title: "Algebra I"})
	check(err)
	fmt.Println(bus.Run(ctx))
	// Output:
	// mail: Algebra I
	// <nil>
}
