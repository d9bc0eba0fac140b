package pulse_test

import (
	"context"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// Replay starts a new generation of a subscription: its handlers really run again.
func ExampleBus_Replay() {
	ctx := context.Background()
	bus, _ := exampleBus()
	check(bus.Subscribe("search", pulse.Ordered(), pulse.OnDelivery("lesson.>", func(_ context.Context, d *pulse.Delivery) error {
		fmt.Println("generation", d.Generation, "position", d.Position)
		return nil
	})))
	for range 3 {
		_, err := bus.Emit(ctx, LessonPublished{LessonID: "algebra-1"})
		check(err)
	}
	check(bus.Drain(ctx))
	check(bus.Replay(ctx, "search", 2))
	check(bus.Drain(ctx))
	// Output:
	// generation 1 position 1
	// generation 1 position 2
	// generation 1 position 3
	// generation 2 position 2
	// generation 2 position 3
}

// A paused subscription keeps its place, in whatever process it runs.
func ExampleBus_Pause() {
	ctx := context.Background()
	bus, _ := exampleBus()
	check(bus.Subscribe("mailer", pulse.On(func(_ context.Context, e LessonPublished) error {
		fmt.Println("mail:", e.Title)
		return nil
	})))
	check(bus.Pause(ctx, "mailer", "the provider moves house"))
	_, err := bus.Emit(ctx, LessonPublished{LessonID: "algebra-1", Title: "Algebra I"})
	check(err)
	fmt.Println(bus.Drain(ctx))
	states, err := bus.Subscriptions(ctx)
	check(err)
	fmt.Println(states[0].Name, "is", states[0].Lag(), "behind:", states[0].PauseReason)
	check(bus.Resume(ctx, "mailer"))
	check(bus.Drain(ctx))
	// Output:
	// drain: subscription "mailer" is paused (the provider moves house): resume it first
	// mailer is 1 behind: the provider moves house
	// mail: Algebra I
}

// A dead letter holds up the events of its key in an ordered subscription, until a person decides.
func ExampleBus_Settle() {
	ctx := context.Background()
	bus, _ := exampleBus()
	fixed := false
	check(bus.Subscribe("slides", pulse.Ordered(), pulse.OnDelivery("lesson.>", func(_ context.Context, d *pulse.Delivery) error {
		if d.Name == "lesson.published" && !fixed {
			return pulse.Park("the slides do not parse")
		}
		fmt.Println("handled", d.Name)
		return nil
	})))
	_, err := bus.EmitAll(ctx, []pulse.Event{LessonPublished{LessonID: "algebra-1"}, LessonRetitled{LessonID: "algebra-1"}})
	check(err)
	check(bus.Drain(ctx))
	rows, err := bus.Deliveries(ctx, pulse.DeliveryQuery{Subscription: "slides"})
	check(err)
	for _, d := range rows {
		fmt.Println(d.Position, d.Name, d.Status)
	}
	fixed = true
	n, err := bus.Settle(ctx, pulse.DeliveryQuery{Subscription: "slides", Name: "lesson.*"}, pulse.SettleRetry)
	check(err)
	fmt.Println("settled", n)
	check(bus.Drain(ctx))
	// Output:
	// 1 lesson.published dead
	// 2 lesson.retitled waiting
	// settled 1
	// handled lesson.published
	// handled lesson.retitled
}

// The log can be read at any time, by name, key, actor, time or position.
func ExampleBus_Log() {
	ctx := context.Background()
	bus, _ := exampleBus()
	for _, ev := range []pulse.Event{
		LessonPublished{LessonID: "algebra-1"},
		QuizSubmitted{Quiz: "fractions"},
		LessonRetitled{LessonID: "algebra-1"},
		LessonPublished{LessonID: "geometry"},
	} {
		_, err := bus.Emit(ctx, ev)
		check(err)
	}
	for env, err := range bus.Log(ctx, pulse.Query{Name: "lesson.>", Key: "algebra-1", After: 1}) {
		check(err)
		fmt.Println(env.Position, env.Name)
	}
	// Output:
	// 3 lesson.retitled
}

// Load reads events back as their Go type.
func ExampleLoad() {
	ctx := context.Background()
	bus, _ := exampleBus()
	for score := range 3 {
		_, err := bus.Emit(ctx, QuizSubmitted{Quiz: "fractions", Score: score})
		check(err)
	}
	sum := 0
	for l, err := range pulse.Load[QuizSubmitted](ctx, bus, pulse.Query{}) {
		check(err)
		sum += l.Event.Score
	}
	fmt.Println(sum)
	// Output:
	// 3
}
