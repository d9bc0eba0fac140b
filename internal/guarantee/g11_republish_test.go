//go:build unix

package guarantee

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// Replay and republish at the same time, again and again, while all runs: each generation has each effect at most once and the last one
// has all, and a stranger at the broker has got every event again each time, also right after it was sent before.
func TestG11_ReplayAndRepublishAtOnce(t *testing.T) {
	t.Parallel()
	eachSystem(t, func(t *testing.T, k kind, system string) {
		for _, sort := range []string{"unordered", "ordered"} {
			t.Run(sort, func(t *testing.T) {
				t.Parallel()
				n, rounds := 150, scaled(4, 2)
				b := newOutside(t, system)
				r := &replayed{world: open(t, newPlace(t, k), ""), random: rand.New(rand.NewPCG(1, 1)), calls: map[int]int{}, healed: true}
				r.publish(t, b, "")
				opts := []pulse.SubscribeOption{pulse.From(destination, b.Source()), pulse.Start(pulse.Beginning), pulse.OnBatchTx(lessonName, 3, r.handle)}
				if sort == "ordered" {
					opts = append(opts, pulse.Ordered())
				}
				r.subscribe(t, subscriptionName, opts...)
				r.emit(t, numbered(n, relayKeys)...)
				stop := r.run(t)
				r.awaitHandled(t)
				for range rounds {
					var both sync.WaitGroup
					both.Go(func() { r.replayAll(t) })
					both.Go(func() {
						if sent, err := r.bus.Republish(t.Context(), destination, b.Publisher(), pulse.Query{Name: lessonName}, nil); err != nil || sent != n {
							t.Errorf("%d republished: %v", sent, err)
						}
					})
					both.Wait()
					r.awaitHandled(t)
				}
				stop()
				r.check(t, n, rounds)
				times := map[uuid.UUID]int{}
				for _, m := range stranger(t, b) {
					times[m.id]++
				}
				for id, env := range r.stored(t) {
					if env.Name == lessonName && times[id] < 1+rounds {
						t.Errorf("position %d was sent %d times, want at least %d", env.Position, times[id], 1+rounds)
					}
				}
			})
		}
	})
}

// awaitHandled waits until the subscription has handled all there is.
func (w *world) awaitHandled(t testing.TB) {
	t.Helper()
	await(t, "all is handled", func() bool {
		s := w.state(t, subscriptionName)
		return s.Lag() == 0 && s.Retries+s.Waiting+s.Dead == 0
	})
}
