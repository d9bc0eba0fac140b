package pulse_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
)

// A plain error means: try again later. A delivery that has failed too often is kept as a dead letter.
func ExampleRetry() {
	ctx := context.Background()
	bus, _ := exampleBus()
	check(bus.Subscribe("mailer",
		pulse.Retry(pulse.RetryPolicy{Attempts: 3, First: time.Millisecond}),
		pulse.OnDelivery("lesson.*", func(_ context.Context, d *pulse.Delivery) error {
			fmt.Println("attempt", d.Attempt)
			return errors.New("no such mailbox")
		})))
	_, err := bus.Emit(ctx, LessonPublished{LessonID: "algebra-1"})
	check(err)
	check(bus.Drain(ctx))
	dead, err := bus.Deliveries(ctx, pulse.DeliveryQuery{Subscription: "mailer"})
	check(err)
	for _, d := range dead {
		fmt.Println(d.Name, d.Status, "after", d.Attempt, "attempts:", d.Error)
	}
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
	// lesson.published dead after 3 attempts: no such mailbox
}

// RetryAfter chooses the wait, for a server that says when to come back.
func ExampleRetryAfter() {
	ctx := context.Background()
	bus, _ := exampleBus()
	check(bus.Subscribe("webhook", pulse.OnDelivery("lesson.*", func(_ context.Context, d *pulse.Delivery) error {
		fmt.Println("attempt", d.Attempt)
		if d.Attempt == 1 {
			return fmt.Errorf("429: %w", pulse.RetryAfter(5*time.Millisecond))
		}
		return nil
	})))
	_, err := bus.Emit(ctx, LessonPublished{LessonID: "algebra-1"})
	check(err)
	check(bus.Drain(ctx))
	// Output:
	// attempt 1
	// attempt 2
}

// Park gives up at once, for what no further attempt can mend.
func ExamplePark() {
	ctx := context.Background()
	bus, _ := exampleBus()
	check(bus.Subscribe("grader", pulse.On(func(_ context.Context, e QuizSubmitted) error {
		if e.Score < 0 {
			return pulse.Park("a negative score")
		}
		return nil
	})))
	_, err := bus.Emit(ctx, QuizSubmitted{Quiz: "fractions", Score: -1})
	check(err)
	check(bus.Drain(ctx))
	dead, err := bus.Deliveries(ctx, pulse.DeliveryQuery{Statuses: []pulse.DeliveryStatus{pulse.StatusDead}})
	check(err)
	fmt.Println(len(dead), dead[0].Attempt, dead[0].Error)
	// Output:
	// 1 1 parked: a negative score
}

// Unavailable pauses the subscription for a while: nothing is wrong with the event, so no attempt is counted.
func ExampleUnavailable() {
	ctx := context.Background()
	bus, _ := exampleBus()
	down := true
	check(bus.Subscribe("mailer", pulse.OnDelivery("lesson.*", func(_ context.Context, d *pulse.Delivery) error {
		fmt.Println("attempt", d.Attempt)
		if down {
			down = false
			return pulse.Unavailable(errors.New("connection refused"))
		}
		return nil
	})))
	_, err := bus.Emit(ctx, LessonPublished{LessonID: "algebra-1"})
	check(err)
	check(bus.Drain(ctx))
	// Output:
	// attempt 1
	// attempt 1
}
