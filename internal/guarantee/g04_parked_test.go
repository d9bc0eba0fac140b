//go:build unix

package guarantee

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// refusedKey is the key of events of which the broker refuses some.
const refusedKey = "refused"

// mixed emits events of other keys around two of the refused key: one that the broker takes or refuses, and one behind it that it takes.
func (r *relayed) mixed(t testing.TB, refuse bool) {
	t.Helper()
	r.more(t, 1+r.random.IntN(12))
	l := lesson{Key: refusedKey, N: -1}
	if refuse {
		l.Pad = refusal
	}
	r.emit(t, l)
	r.more(t, r.random.IntN(3))
	r.emit(t, lesson{Key: refusedKey, N: -1})
	r.more(t, 1+r.random.IntN(12))
}

// The broker refuses an event, and relays are killed between publishing and saving, and elsewhere: the refused event is parked and those
// behind it of its key wait, all of them visible, until a person decides; then they come in order. None is taken for published.
func TestG04_RefusedIsParkedThroughKills(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		points := []string{failpoint.PublishAfter, failpoint.AdvanceBefore, failpoint.AdvanceAfter, failpoint.PublishBefore}
		for _, before := range []bool{false, true} {
			for _, point := range points {
				t.Run(fmt.Sprintf("%s, parked before %t", point, before), func(t *testing.T) {
					t.Parallel()
					seed := rand.Uint64()
					t.Logf("seed %d", seed)
					r := newRelayed(t, k, "served", seed, 0)
					if before { // then what follows is only to wait
						r.mixed(t, true)
						r.finish(t)
					}
					for i := range scaled(4, 2) {
						r.mixed(t, !before && i == 0)
						p := r.relay(t, childSpec{Failpoints: point + "=kill@1", TTL: 200 * time.Millisecond})
						if state := p.wait(t); !killed(state) {
							t.Fatalf("not killed, but %s", state)
						}
						r.more(t, 1)
					}
					found := r.finish(t)
					r.checkParked(t)
					if settled := r.settleAll(t, pulse.SettleSkip); settled != 1 {
						t.Errorf("%d dead letters, want 1", settled)
					}
					t.Logf("%+v, afterwards %+v", found, r.finish(t))
					if last := r.deliveries(t, pulse.RelayName(destination)); len(last) != 1 {
						t.Errorf("left: %+v", last)
					}
				})
			}
		}
	})
}

// checkParked checks that of the refused key the first event is a dead letter and all later ones wait behind it.
func (r *relayed) checkParked(t testing.TB) {
	t.Helper()
	var want, got []pulse.Position
	for _, env := range r.stored(t) {
		if env.Key == refusedKey {
			want = append(want, env.Position)
		}
	}
	slices.Sort(want)
	for i, row := range r.deliveries(t, pulse.RelayName(destination)) {
		got = append(got, row.Position)
		if status := map[bool]pulse.DeliveryStatus{true: pulse.StatusDead, false: pulse.StatusWaiting}[i == 0]; row.Status != status || row.Key != refusedKey {
			t.Errorf("row %d is %+v, want it %s", i, row, status)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("positions %v are parked or wait, want all of the key: %v", got, want)
	}
}
