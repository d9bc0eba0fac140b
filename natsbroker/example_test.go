package natsbroker_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// A server in this process, that nobody else can reach.
func ExampleEmbed() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "school")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	broker, err := natsbroker.Embed(ctx, dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()

	for _, r := range broker.Publisher().PublishBatch(ctx, events(1, 2)) {
		fmt.Println(r.Outcome == pulse.Acked, r.Sequence)
	}
	feed, err := broker.Source().Open(ctx, pulse.FeedConfig{Subscription: "mailer", Start: pulse.Beginning})
	if err != nil {
		log.Fatal(err)
	}
	defer feed.Close()
	msgs, err := feed.Fetch(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(msgs[0].Name, msgs[0].Position, feed.Ack(ctx, []uint64{msgs[0].Receipt}))
	// Output:
	// true 1
	// true 2
	// lesson.published 1 <nil>
}
