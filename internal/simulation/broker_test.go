package simulation

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
)

// school is the destination all relays publish to.
const school = "school"

// destination is the broker's side of a schedule: the broker, and all that ever happened to the messages there.
type destination struct {
	w      *world
	broker *membroker.Broker

	delivered sync.Map // delivery -> true: what was brought to somebody

	mu       sync.Mutex // held from when the fate of a message is decided until it has come true
	down     bool
	losses   int        // how often messages were lost
	stream   []*arrival // what is there
	all      []*arrival // and what was
	refusals map[pulse.Position]int
	missing  map[pulse.Position]int64 // since which tick, until a relay has noticed it
	owed     map[pulse.Position]int64 // what it must publish again, as somebody has not handled it yet
}

// arrival is one message as the broker stored it.
type arrival struct {
	position pulse.Position
	id       uuid.UUID
	node     *node
	tick     int64
	at       time.Duration
	lost     bool
}

func (w *world) newDestination() *destination {
	d := &destination{w: w, refusals: map[pulse.Position]int{}, missing: map[pulse.Position]int64{}, owed: map[pulse.Position]int64{}}
	d.broker = membroker.New(&membroker.Options{MaxBatch: w.plan.broker.batch, Hook: d.hook})
	return d
}

type sendingKey struct{}

// hook decides what becomes of a message.
func (d *destination) hook(ctx context.Context, _ string, env *pulse.Envelope) membroker.Fault {
	return ctx.Value(sendingKey{}).(*sending).next(env)
}

// note notes a message as it is stored. The caller holds d.mu.
func (d *destination) note(env *pulse.Envelope, n *node) {
	a := &arrival{position: env.Position, id: env.ID, node: n, tick: d.w.history.stamp(), at: d.w.age()}
	d.coverArrival(a)
	d.w.trace("%s has published %d, key %q, as message %d", n.name, env.Position, env.Key, len(d.stream)+1)
	d.stream = append(d.stream, a)
	d.all = append(d.all, a)
}

func (d *destination) coverArrival(a *arrival) {
	w := d.w
	w.cover("a message published")
	lost, here := false, false
	for _, old := range d.all {
		if old.id == a.id {
			lost, here = lost || old.lost, here || !old.lost
		}
	}
	switch {
	case here:
		w.cover("a message published again")
	case lost:
		w.cover("a lost message fed again")
	}
	if w.isFormer(a.node) {
		w.cover("a message of a former relay")
	}
}

// decided settles what has to be published again: a relay that publishes for the first time since it asked for the last message has
// noticed what was lost by then, and feeds those who are fed from here from the lowest cursor on. What they have all handled by now,
// though it was lost, a former relay owed them and this one does not. The caller holds d.mu.
func (d *destination) decided(o *outlet) {
	if strings.HasPrefix(o.node.name, republisherName) || !o.asked && len(d.missing) == 0 {
		return
	}
	o.asked = false
	lowest := pulse.Position(math.MaxInt64)
	states, err := d.w.store.States(context.Background())
	if err != nil {
		d.w.violate("states: %v", err)
	}
	for _, s := range states {
		if s.Source == school {
			lowest = min(lowest, s.Cursor.Position)
		}
	}
	maps.DeleteFunc(d.owed, func(p pulse.Position, _ int64) bool { return p <= lowest })
	for p, tick := range d.missing {
		if p > lowest {
			d.owed[p] = tick
			d.w.cover("a lost message that somebody has not handled")
		}
	}
	clear(d.missing)
}

// isFormer reports whether another process has been told to be the relay.
func (w *world) isFormer(n *node) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.leases[w.plan.relay.name]
	return g != nil && g.node != n
}

// refuses reports whether the broker will never take a message, as it says: until a person has done something about it.
// The caller holds d.mu.
func (d *destination) refuses(env *pulse.Envelope) bool {
	r := d.w.plan.stream(fmt.Sprintf("refusal/%d", env.Position))
	if d.w.isHealed() || !chance(r, d.w.plan.broker.refuse) || d.refusals[env.Position] > r.IntN(4) {
		return false
	}
	d.refusals[env.Position]++
	return true
}

// setDown takes the broker down, or up again.
func (d *destination) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
	d.broker.SetDown(down)
	d.w.trace("the broker is down: %v", down)
}

// cut lets the broker lose all but its first n messages.
func (d *destination) cut(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n >= len(d.stream) {
		return
	}
	d.losses++
	highest := func(messages []*arrival) (p pulse.Position) {
		for _, a := range messages {
			p = max(p, a.position)
		}
		return p
	}
	// When nothing is lost but what was published late, behind what is still there, no relay can know.
	noticeable := len(d.missing) > 0 || highest(d.stream[n:]) > highest(d.stream[:n])
	for _, a := range d.stream[n:] {
		a.lost = true
		if noticeable && !slices.ContainsFunc(d.stream[:n], func(b *arrival) bool { return b.position == a.position }) {
			d.missing[a.position] = d.w.history.stamp()
		}
	}
	d.w.trace("the broker loses %d messages, and has %d", len(d.stream)-n, n)
	d.stream = d.stream[:n]
	if n == 0 {
		d.w.cover("a broker wiped")
		d.broker.Wipe()
		return
	}
	d.w.cover("a broker cut")
	d.broker.Truncate(school, n)
}

// length is how many messages are there.
func (d *destination) length() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.stream)
}
