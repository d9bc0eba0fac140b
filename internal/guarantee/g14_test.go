//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
)

// restores are what is emitted after a log of 60 events, all published, was replaced by an older copy of it with 30.
func restores() map[string]int {
	return map[string]int{"nothing new": 0, "still shorter": 20, "as long": 30, "longer": 60}
}

const published, copied = 60, 30

// replacement is a log that lacks what its broker has.
type replacement struct {
	*world
	broker outside
	seen   *tally
}

// restored publishes a log and then puts an older copy in its place, with other events behind what it has. An empty log of another name
// takes the place where there are no copies. The subscription has handled what the copy knows, or with handled all that was published.
func restored(t *testing.T, k kind, system string, more int, handled bool) *replacement {
	t.Helper()
	r := &replacement{broker: newOutside(t, system), seen: newTally()}
	p := newPlace(t, k)
	session := func(paused bool, from, to int) {
		w := open(t, p, "")
		defer w.shut(t)
		r.world = w
		w.publish(t, r.broker, "")
		r.subscribeFed(t)
		if paused {
			if err := w.bus.Pause(t.Context(), subscriptionName, "for later"); err != nil {
				t.Fatal(err)
			}
		}
		w.emit(t, numbered(to, relayKeys)[from:]...)
		stop := w.run(t)
		defer stop()
		await(t, "all is published", func() bool {
			s := w.state(t, pulse.RelayName(destination))
			return s.Lag() == 0
		})
		if !paused {
			w.awaitHandled(t)
		}
	}
	session(false, 0, copied)
	back := takeCopy(t, k, p)
	session(!handled, copied, published)
	r.world = open(t, back(), "")
	for i := range more {
		r.emit(t, lesson{Key: fmt.Sprintf("key-%d", i%relayKeys), N: 1000 + i})
	}
	return r
}

// takeCopy copies a log and returns what puts the copy in its place. In memory there are no copies: what comes is a new log.
func takeCopy(t *testing.T, k kind, p place) (back func() place) {
	t.Helper()
	if !k.durable {
		return func() place { return newPlace(t, k) }
	}
	if p, ok := p.(*postgresPlace); ok {
		restored := p.copy(t)
		return func() place { return restored }
	}
	content, err := os.ReadFile(p.location())
	if err != nil {
		t.Fatal(err)
	}
	return func() place {
		for _, suffix := range []string{"-wal", "-shm"} {
			if err := os.Remove(p.location() + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(p.location(), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// subscribeFed subscribes what the broker brings.
func (r *replacement) subscribeFed(t *testing.T) {
	t.Helper()
	r.subscribe(t, subscriptionName, pulse.From(destination, r.broker.Source()), pulse.Ordered(), pulse.Start(pulse.Beginning),
		pulse.On(func(_ context.Context, e lesson) error { r.seen.add(e); return nil }))
}

// expectDiverged runs the bus, which has to stop by itself and say why.
func (r *replacement) expectDiverged(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := r.bus.Run(ctx)
	if !errors.Is(err, pulse.ErrDiverged) {
		t.Fatalf("Run returns %v, want an ErrDiverged; handled %v", err, r.seen.list())
	}
	for _, want := range []string{name, "position", "restored"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

// A log is restored from an older copy, or replaced, while the destination has more: the relay stops, says so, and publishes nothing,
// whatever was emitted meanwhile. Not with a broker that cannot tell what it has.
func TestG14_RelayStopsWhenTheLogWasRestored(t *testing.T) {
	t.Parallel()
	eachSystem(t, func(t *testing.T, k kind, system string) {
		if system == onRabbit {
			return // it cannot tell what was published to it last
		}
		for name, more := range restores() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := restored(t, k, system, more, true)
				r.publish(t, r.broker, "")
				r.expectDiverged(t, pulse.RelayName(destination))
				if n := len(stranger(t, r.broker)); n != published {
					t.Errorf("%d messages are at the broker, want the %d of the log before", n, published)
				}
			})
		}
	})
}

// What is fed by the broker is given events that its log does not know: it stops and says so, and handles none of them.
func TestG14_SubscriptionStopsWhenTheLogWasRestored(t *testing.T) {
	t.Parallel()
	eachSystem(t, func(t *testing.T, k kind, system string) {
		for name, more := range restores() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := restored(t, k, system, more, false)
				before := len(r.seen.list())
				r.subscribeFed(t)
				r.expectDiverged(t, subscriptionName)
				if n := len(r.seen.list()) - before; n > 0 {
					t.Errorf("%d events were handled that are not in the log: %v", n, r.seen.list()[before:])
				}
			})
		}
	})
}
