package pulse_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
	"github.com/edupulse-live/pulse/memstore"
)

// TestFollowersArePublishedInTheirPlace: what waited behind a refused message is not published before what lies in front of it in the
// log, so that the last message of the destination tells how far the relay has come: also to one that takes over from it.
func TestFollowersArePublishedInTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuse atomic.Bool
		refuse.Store(true)
		bus, _ := newBus(t)
		broker := membroker.New(&membroker.Options{MaxBatch: 1, Hook: func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
			if refuse.Load() && env.Position == 1 {
				return membroker.Refuse
			}
			time.Sleep(100 * time.Millisecond)
			return membroker.None
		}})
		if err := bus.Publish("memory", broker.Publisher("memory")); err != nil {
			t.Fatal(err)
		}
		emit(t, bus, lesson{"a", 1})
		for i := range 30 {
			emit(t, bus, lesson{"b", i})
		}
		emit(t, bus, lesson{"a", 2})
		stop := (&relayed{Bus: bus}).running(t)
		time.Sleep(time.Second)
		refuse.Store(false)
		if n, err := bus.Settle(t.Context(), pulse.DeliveryQuery{}, pulse.SettleRetry); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		time.Sleep(time.Minute)
		stop()
		var got []pulse.Position
		for _, env := range broker.Messages("memory") {
			got = append(got, env.Position)
		}
		first := slices.Index(got, 1)
		if len(got) != 32 || first < 1 || first > 20 || got[31] != 32 || !slices.IsSorted(slices.Delete(slices.Clone(got), first, first+1)) {
			t.Errorf("published were %v, want the first one when it was settled, and the last one last", got)
		}
	})
}

// TestSettledMessageBehindALoss: a dead letter is settled, and the destination has lost what came before it: that is published first.
func TestSettledMessageBehindALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuse atomic.Bool
		refuse.Store(true)
		r := newRelayed(t, func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
			if refuse.Load() && env.Position == 10 {
				return membroker.Refuse
			}
			return membroker.None
		})
		if err := r.Pause(t.Context(), "index", "away"); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			emit(t, r.Bus, lesson{"a", i})
		}
		stop := r.running(t)
		time.Sleep(time.Second)
		stop()
		r.broker.Wipe()
		refuse.Store(false)
		if n, err := r.Settle(t.Context(), pulse.DeliveryQuery{}, pulse.SettleRetry); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		stop = r.running(t)
		time.Sleep(time.Minute)
		stop()
		var got []pulse.Position
		for _, env := range r.broker.Messages("memory") {
			got = append(got, env.Position)
		}
		if len(got) != 10 || !slices.IsSorted(got) {
			t.Errorf("published were %v, want 1 to 10 in order", got)
		}
	})
}

// TestALossBeforeManyRows: the relay gets back to what its destination lost, however many wait behind a message that was refused.
func TestALossBeforeManyRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lost, waiting = 10, 10_100
		bus, err := pulse.New(memstore.New(nil), quiet)
		if err != nil {
			t.Fatal(err)
		}
		r := relayed{Bus: bus, broker: membroker.New(&membroker.Options{Hook: func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
			if env.Position == lost+1 {
				return membroker.Refuse
			}
			return membroker.None
		}})}
		if err := bus.Publish("memory", r.broker.Publisher("memory")); err != nil {
			t.Fatal(err)
		}
		for i := range lost {
			emit(t, bus, lesson{"a", i})
		}
		for i := range waiting {
			emit(t, bus, lesson{"b", i})
		}
		run := func() (published int) {
			stop := r.running(t)
			time.Sleep(time.Minute)
			stop()
			return len(r.broker.Messages("memory"))
		}
		if n := run(); n != lost {
			t.Fatalf("%d published, want those before the one that is refused", n)
		}
		r.broker.Wipe()
		if n := run(); n != lost {
			t.Errorf("%d published again, want %d", n, lost)
		}
	})
}

// publishLate publishes ten events, of which one that is refused at first comes last. The subscription handles none.
func (r *relayed) publishLate(t *testing.T, refuse *atomic.Bool) {
	t.Helper()
	if err := r.Pause(t.Context(), "index", "away"); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		emit(t, r.Bus, lesson{string(rune('a' + i)), i})
	}
	stop := r.running(t)
	time.Sleep(time.Second)
	refuse.Store(false)
	if n, err := r.Settle(t.Context(), pulse.DeliveryQuery{}, pulse.SettleRetry); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	time.Sleep(time.Minute)
	stop()
}

// TestLateMessageLost: what a destination lost includes a message that was published late, far behind its place.
func TestLateMessageLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuse atomic.Bool
		refuse.Store(true)
		r := newRelayed(t, func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
			if refuse.Load() && env.Position == 5 {
				return membroker.Refuse
			}
			return membroker.None
		})
		r.publishLate(t, &refuse)
		if n := len(r.broker.Messages("memory")); n != 10 {
			t.Fatalf("%d of 10 published", n)
		}
		r.broker.Truncate("memory", 7)
		stop := r.running(t)
		time.Sleep(time.Minute)
		stop()
		found := map[pulse.Position]bool{}
		for _, env := range r.broker.Messages("memory") {
			found[env.Position] = true
		}
		if len(found) != 10 {
			t.Errorf("fed again it has %v, want 1 to 10", found)
		}
	})
}

// TestCrashWhileFeedingAgain: the destination lost a late message with its tail, and the relay fails before it has saved anything of what
// it feeds again: the messages behind the gap do not make it believe that all is there.
func TestCrashWhileFeedingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		bus, _ := faultyBus(t, func(_ context.Context, point string) error {
			if failing.Load() && point == memstore.AdvanceAfter { // the cursor is set back, and then the process ends
				failing.Store(false)
				return errors.New("the power is gone")
			}
			return nil
		})
		var refuse atomic.Bool
		refuse.Store(true)
		broker := membroker.New(&membroker.Options{Hook: func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
			if refuse.Load() && env.Position == 6 {
				return membroker.Refuse
			}
			return membroker.None
		}})
		if err := bus.Publish("memory", broker.Publisher("memory")); err != nil {
			t.Fatal(err)
		}
		subscribe(t, bus, "index", pulse.From("memory", broker.Source("memory")), pulse.OnDelivery(">", func(context.Context, *pulse.Delivery) error { return nil }))
		emit(t, bus, lesson{"z", 0})
		drainSoon(t, bus)
		if err := bus.Pause(t.Context(), "index", "away"); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			emit(t, bus, lesson{string(rune('a' + i)), i})
		}
		stop := (&relayed{Bus: bus}).running(t)
		time.Sleep(time.Second)
		refuse.Store(false)
		if n, err := bus.Settle(t.Context(), pulse.DeliveryQuery{}, pulse.SettleRetry); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		time.Sleep(time.Minute)
		stop()
		broker.Truncate("memory", 8) // 10, 11 and 6 are gone
		failing.Store(true)
		stop = (&relayed{Bus: bus}).running(t)
		time.Sleep(time.Minute)
		stop()
		found := map[pulse.Position]bool{}
		for _, p := range published(broker) {
			found[p] = true
		}
		if len(found) != 11 || failing.Load() {
			t.Errorf("fed again it has %v, want 1 to 11; failed: %t", found, !failing.Load())
		}
	})
}

// TestInterruptionsWhileFeedingAgain: the destination lost a late message with its tail, and fails for a while before each message it is fed
// again: what is behind the gap never makes the relay believe that all is there.
func TestInterruptionsWhileFeedingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuse, lost atomic.Bool
		refuse.Store(true)
		tried := map[pulse.Position]bool{}
		r := newRelayed(t, func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
			switch first := !tried[env.Position]; {
			case refuse.Load() && env.Position == 6:
				return membroker.Refuse
			case lost.Load() && first:
				tried[env.Position] = true
				return membroker.Drop
			}
			return membroker.None
		})
		r.publishLate(t, &refuse)
		r.broker.Truncate("memory", 8) // 10 and 6 are gone
		lost.Store(true)
		stop := r.running(t)
		time.Sleep(time.Minute)
		stop()
		found := map[pulse.Position]bool{}
		for _, p := range published(r.broker) {
			found[p] = true
		}
		if len(found) != 10 {
			t.Errorf("fed again it has %v, want 1 to 10", found)
		}
	})
}

// TestARelayThatIsBehindPublishesLargeBatches: it does not begin with the first page that was read.
func TestARelayThatIsBehindPublishesLargeBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, most = 8000, 4000
		bus, _ := newBus(t)
		evs := make([]pulse.Event, n)
		for i := range evs {
			evs[i] = lesson{"a", i}
		}
		for ; len(evs) > 0; evs = evs[1000:] {
			if _, err := bus.EmitAll(t.Context(), evs[:1000]); err != nil {
				t.Fatal(err)
			}
		}
		p := &batches{Publisher: membroker.New(&membroker.Options{MaxBatch: most}).Publisher("memory")}
		if err := bus.Publish("memory", p); err != nil {
			t.Fatal(err)
		}
		drainSoon(t, bus)
		if len(p.sizes) == 0 || p.sizes[0] < most/2 || len(p.sizes) > 2*n/most {
			t.Errorf("%d events were published in batches of %v", n, p.sizes)
		}
	})
}

// batches is a publisher that notes how large they are.
type batches struct {
	pulse.Publisher
	sizes []int
}

func (p *batches) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	p.sizes = append(p.sizes, len(envs))
	return p.Publisher.PublishBatch(ctx, envs)
}
