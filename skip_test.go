package pulse_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/edupulse-live/pulse"
)

// TestADeadLetterIsSavedBeforeItsKeyGoesOn: whenever the process ends, what was skipped has left its record.
func TestADeadLetterIsSavedBeforeItsKeyGoesOn(t *testing.T) {
	for name, handler := range map[string]func(handle func(p pulse.Position) error) pulse.SubscribeOption{
		"one by one": func(handle func(p pulse.Position) error) pulse.SubscribeOption {
			return pulse.OnDelivery("lesson.>", func(_ context.Context, d *pulse.Delivery) error { return handle(d.Position) })
		},
		"in batches": func(handle func(p pulse.Position) error) pulse.SubscribeOption {
			return pulse.OnBatch("lesson.>", 2, func(_ context.Context, ds []pulse.Delivery) error {
				for i := range ds {
					if err := handle(ds[i].Position); err != nil {
						return err
					}
				}
				return nil
			})
		},
	} {
		for how, fails := range map[string]error{"parked": pulse.Park("poison"), "failed": errors.New("poison"), "interrupted": nil} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					bus, store := newBus(t)
					var got []pulse.Position
					subscribe(t, bus, "index", pulse.Ordered(), pulse.SkipFailed(), pulse.Retry(pulse.RetryPolicy{Attempts: 2}), handler(func(p pulse.Position) error {
						switch list := rows(t, bus); {
						case p == 1 || p == 3:
							return fails
						case len(list) == 0 || list[0].Position != 1 || list[0].Status != pulse.StatusDead:
							t.Errorf("%d is handled, and of the one before it there is %+v", p, list)
						case p > 3 && how != "interrupted" && (len(list) == 1 || list[1].Status != pulse.StatusDead):
							t.Errorf("%d is handled, and of the ones before it there is %+v", p, list)
						}
						got = append(got, p)
						return nil
					}))
					for n := range 5 {
						emit(t, bus, lesson{"a", n})
					}
					if how == "interrupted" {
						crashed(t, store, "index", pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: 1}, Put: []pulse.DeliveryState{row(1, pulse.StatusRunning, "a", 2)}})
					}
					drainSoon(t, bus)
					if slices.Sort(got); how != "interrupted" && !slices.Equal(got, []pulse.Position{2, 4, 5}) {
						t.Errorf("handled %v", got)
					}
				})
			})
		}
	}
}
