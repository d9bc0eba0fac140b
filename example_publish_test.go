package pulse_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
)

// Emit records the event, and a relay publishes it. While the broker is down events wait in the log.
func ExampleBus_Publish() {
	ctx := context.Background()
	bus, _ := exampleBus()
	defer bus.Close()
	broker := membroker.New(nil) // in an application natsbroker.Connect or natsbroker.Embed
	check(bus.Publish("nats", broker.Publisher("nats"), pulse.Route("lesson.>"), pulse.Route("quiz.submitted")))

	for _, name := range []string{"lesson.published", "mail.sent", "quiz.submitted"} {
		_, err := bus.Emit(ctx, pulse.Raw{Name: name, Data: []byte(`{}`)})
		check(err)
	}
	check(bus.Drain(ctx))
	for _, env := range broker.Messages("nats") {
		fmt.Println(env.Position, env.Name)
	}
	// Output:
	// 1 lesson.published
	// 3 quiz.submitted
}

// The subscription gets its events from the broker. Its retries and dead letters are in the store, as those of any other.
func ExampleFrom() {
	ctx := context.Background()
	bus, _ := exampleBus()
	defer bus.Close()
	broker := membroker.New(nil)
	check(bus.Publish("nats", broker.Publisher("nats")))
	check(bus.Subscribe("search", pulse.From("nats", broker.Source("nats")),
		pulse.OnDelivery("lesson.>", func(_ context.Context, d *pulse.Delivery) error {
			fmt.Println("indexed", d.Envelope.Name, d.Envelope.Key)
			return nil
		})))
	_, err := bus.Emit(ctx, pulse.Raw{Name: "lesson.published", Key: "algebra-1", Data: []byte(`{}`)})
	check(err)
	check(bus.Drain(ctx))
	// Output: indexed lesson.published algebra-1
}

// An event the broker refuses for good becomes a dead letter of the relay, and the later ones of its key wait for a person's word.
func ExampleRelayName() {
	ctx := context.Background()
	bus, _ := exampleBus()
	defer bus.Close()
	strict := true
	broker := membroker.New(&membroker.Options{Hook: func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
		if strict && env.Position == 1 {
			return membroker.Refuse
		}
		return membroker.None
	}})
	check(bus.Publish("nats", broker.Publisher("nats")))
	for range 2 {
		_, err := bus.Emit(ctx, pulse.Raw{Name: "lesson.published", Key: "algebra-1", Data: []byte(`{}`)})
		check(err)
	}
	check(bus.Drain(ctx))
	fmt.Println(len(broker.Messages("nats")), "published")

	strict = false // somebody mended it
	n, err := bus.Settle(ctx, pulse.DeliveryQuery{Subscription: pulse.RelayName("nats")}, pulse.SettleRetry)
	check(err)
	check(bus.Drain(ctx))
	fmt.Println(n, "tried again,", len(broker.Messages("nats")), "published")
	// Output:
	// 0 published
	// 1 tried again, 2 published
}

// A reader outside lost what it had from position 2 on, and gets it again.
func ExampleBus_Republish() {
	ctx := context.Background()
	bus, _ := exampleBus()
	defer bus.Close()
	broker := membroker.New(nil)
	check(bus.Publish("nats", broker.Publisher("nats")))
	for range 3 {
		_, err := bus.Emit(ctx, pulse.Raw{Name: "lesson.published", Data: []byte(`{}`)})
		check(err)
	}
	check(bus.Drain(ctx))

	n, err := bus.Republish(ctx, "nats", broker.Publisher("nats"), pulse.Query{After: 1}, &pulse.RepublishOptions{Rate: 500})
	check(err)
	fmt.Println(n, "sent again")
	_, err = bus.Republish(ctx, "nats", broker.Publisher("nats"), pulse.Query{After: 7}, nil)
	fmt.Println(errors.Is(err, pulse.ErrInvalid), "for what was not published yet")
	// Output:
	// 2 sent again
	// true for what was not published yet
}
