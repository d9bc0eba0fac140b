//go:build unix

package guarantee

import (
	"context"
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
)

// subscriptionName is what children call theirs.
const subscriptionName = "effects"

// soon retries without giving up and without long waits.
func soon() pulse.SubscribeOption {
	return pulse.Retry(pulse.RetryPolicy{Attempts: 1000, First: time.Millisecond, Max: 5 * time.Millisecond})
}

// attempts retries so many times, without long waits.
func attempts(n int) pulse.SubscribeOption {
	return pulse.Retry(pulse.RetryPolicy{Attempts: n, First: time.Millisecond, Max: 5 * time.Millisecond})
}

// effectHandlers are the sorts of subscriptions that write an effect for each lesson in its transaction, by name.
func effectHandlers() []string {
	return []string{"single", "ordered", "batch", "ordered-batch"}
}

// effectHandler makes one of effectHandlers.
func (w *world) effectHandler(sort string) []pulse.SubscribeOption {
	single := w.onTx(func(ctx context.Context, tx any, e lesson) error { return w.write(ctx, tx, w.bus, e.N) })
	batch := pulse.OnBatchTx(lessonName, 10, func(ctx context.Context, tx pulse.Tx, ds []pulse.Delivery) error {
		for i := range ds {
			var e lesson
			if err := ds[i].Decode(&e); err != nil {
				return err
			}
			if err := w.write(ctx, tx.Unwrap(), w.bus, e.N); err != nil {
				return err
			}
		}
		return nil
	})
	opts := map[string][]pulse.SubscribeOption{
		"single":        {single},
		"ordered":       {single, pulse.Ordered()},
		"batch":         {batch},
		"ordered-batch": {batch, pulse.Ordered()},
	}[sort]
	return append(opts, soon(), pulse.Start(pulse.Beginning))
}

// handleUntilDrained is a process that handles what there is and then ends.
func handleUntilDrained(ctx context.Context, c *child) error {
	if err := c.bus.Subscribe(subscriptionName, append(c.fed, c.effectHandler(c.Handler)...)...); err != nil {
		return err
	}
	c.say("handling")
	if err := c.bus.Drain(ctx); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	c.say("drained")
	return nil
}
