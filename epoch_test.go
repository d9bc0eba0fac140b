package pulse_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// epochs is a store whose log gets into another epoch, as one in PostgreSQL does when a standby is promoted.
type epochs struct {
	*memstore.Store
	more *atomic.Int32
}

func (s epochs) Info(ctx context.Context) (pulse.Info, error) {
	info, err := s.Store.Info(ctx)
	info.Epoch += int(s.more.Load())
	return info, err
}

// In a new epoch subscriptions begin again from what the store has: what they had read and not saved may not be in the log any more.
func TestNewEpochBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := epochs{memstore.New(nil), new(atomic.Int32)}
		bus, err := pulse.New(store, quiet)
		if err != nil {
			t.Fatal(err)
		}
		var saw seen
		subscribe(t, bus, "mailer", pulse.Ordered(), pulse.On(func(_ context.Context, e lesson) error {
			if saw.add(e); e.N == 2 {
				time.Sleep(10 * time.Second)
			}
			return nil
		}))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- bus.Run(ctx) }()
		emit(t, bus, lesson{"a", 1})
		time.Sleep(time.Second) // it is handled, and that is saved
		emit(t, bus, lesson{"a", 2}, lesson{"a", 3})
		time.Sleep(time.Second)
		store.more.Add(1)
		time.Sleep(time.Minute)
		cancel()
		if err := <-ran; err != nil {
			t.Fatal(err)
		}
		if got := saw.of("a"); !slices.Equal(got, []int{1, 2, 2, 3}) {
			t.Errorf("handled %v, want the second event once more, which was being handled", got)
		}
	})
}
