package pulse_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
)

// TestAllMessagesExpired: a broker that has nothing any more says nothing of what it had. The log has it.
func TestAllMessagesExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelayed(t, nil)
		if err := r.Pause(t.Context(), "index", "away"); err != nil {
			t.Fatal(err)
		}
		stop := r.running(t)
		for i := range 300 {
			emit(t, r.Bus, lesson{"a", i})
		}
		time.Sleep(10 * time.Second)
		r.broker.Expire("memory", 300)
		if err := r.Resume(t.Context(), "index"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		emit(t, r.Bus, lesson{"a", 300})
		drain(t, r.Bus)
		stop()
		if got := r.got.of("a"); len(got) != 301 || !slices.IsSorted(got) {
			t.Errorf("%d of 301 handled, in order: %t", len(got), slices.IsSorted(got))
		}
	})
}

// TestReplayFromTheBroker: a new generation handles again what the broker delivered and has forgotten or keeps.
func TestReplayFromTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelayed(t, nil)
		for i := range 100 {
			emit(t, r.Bus, lesson{"a", i})
		}
		drain(t, r.Bus)
		if err := r.Replay(t.Context(), "index", 31); err != nil {
			t.Fatal(err)
		}
		emit(t, r.Bus, lesson{"a", 100})
		drain(t, r.Bus)
		got := r.got.of("a")
		if len(got) != 100+71 || !slices.IsSorted(got[100:]) || got[100] != 30 {
			t.Errorf("%d handled, want 100 and from 30 on 71 more: %v", len(got), got[min(100, len(got)):])
		}
	})
}

// TestMessagesThatNeverCome: what the broker acknowledged to the relay and lost, in the middle or at the end, is taken from the log.
func TestMessagesThatNeverCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelayed(t, func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
			if env.Position%10 == 0 {
				return membroker.Forget
			}
			return membroker.None
		})
		stop := r.running(t)
		for i := range 100 {
			emit(t, r.Bus, lesson{"a", i})
		}
		time.Sleep(time.Minute)
		stop()
		states, err := r.Subscriptions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, lag := r.got.of("a"), states[0].Lag(); len(got) != 100 || !slices.IsSorted(got) || lag != 0 {
			t.Errorf("%d of 100 handled, in order: %t, %s lags by %d", len(got), slices.IsSorted(got), states[0].Name, lag)
		}
	})
}

// TestMessagesOutOfPlace: messages that come late, early or twice are handled once, in the order of the log.
func TestMessagesOutOfPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		broker := membroker.New(nil)
		var got seen
		subscribe(t, bus, "index", pulse.From("memory", broker.Source("memory")),
			pulse.On(func(_ context.Context, e lesson) error { got.add(e); return nil }), pulse.Ordered())
		for i := range 30 {
			emit(t, bus, lesson{"a", i})
		}
		var envs []pulse.Envelope
		for env, err := range bus.Log(t.Context(), pulse.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			envs = append(envs, env)
		}
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- bus.Run(ctx) }()
		for _, i := range []int{0, 1, 5, 3, 3, 2, 9, 4, 0, 20, 10, 29} {
			broker.Publisher("memory").PublishBatch(t.Context(), envs[i:i+1])
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if ns := got.of("a"); len(ns) != 30 || !slices.IsSorted(ns) {
			t.Errorf("handled %v, want 0 to 29 in order", ns)
		}
	})
}

// TestDestinationWithRoutes: a subscription that reads from a destination gets what is published there.
func TestDestinationWithRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		broker := membroker.New(nil)
		if err := bus.Publish("memory", broker.Publisher("memory"), pulse.Route("lesson.*")); err != nil {
			t.Fatal(err)
		}
		handled := map[string]int{}
		subscribe(t, bus, "index", pulse.From("memory", broker.Source("memory")), pulse.OnDelivery(">", func(_ context.Context, d *pulse.Delivery) error {
			handled[d.Name]++
			return nil
		}), pulse.Concurrency(1))
		for i := range 20 {
			emit(t, bus, lesson{"a", i})
			if _, err := bus.Emit(t.Context(), pulse.Raw{Name: "quiz.graded", Data: []byte("1")}); err != nil {
				t.Fatal(err)
			}
		}
		drain(t, bus)
		if len(handled) != 1 || handled["lesson.changed"] != 20 {
			t.Errorf("handled %v, want the 20 that are published", handled)
		}
	})
}
