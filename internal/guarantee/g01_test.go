//go:build unix

package guarantee

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// Emit returned nil: the event survives kill -9 at every point of the store's writes, and at random moments under
// concurrent emitters. What was emitted in a transaction is there exactly if the rest of it is.
func TestG01_EmittedSurvivesKill(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		t.Logf("seed %d", seed)
		c := &killing{kind: k, place: newPlace(t, k), positions: map[uuid.UUID]pulse.Position{}}
		for _, point := range failpoint.Names() {
			hit := 1 + random.IntN(12)
			if strings.HasPrefix(point, "lease.") {
				hit = 1 // it is renewed only once a second
			}
			c.round(t, fmt.Sprintf("%s=kill@%d", point, hit), 0)
		}
		for range scaled(24, 4) {
			c.round(t, "", time.Duration(random.IntN(60_000))*time.Microsecond)
		}
		t.Logf("%d kills, %d events acknowledged, %d stored, of %d units of several and %d transactions with a row of their own",
			c.rounds, c.acked, len(c.positions), c.units, c.rows)
		atLeast(t, "events acknowledged", c.acked, 20*c.rounds)
		atLeast(t, "events of killed emitters that were stored but not acknowledged", len(c.positions)-c.acked, 1)
		atLeast(t, "units of several events", c.units, c.rounds)
		atLeast(t, "transactions", c.rows, c.rounds)
	})
}

// killing is one log on which process after process emits and is killed.
type killing struct {
	kind
	place     place
	rounds    int
	acked     int
	units     int
	rows      int
	positions map[uuid.UUID]pulse.Position // of all that was ever seen in the log
}

// round starts an emitting process, kills it at a failpoint or after a time, and looks at what is left.
func (c *killing) round(t *testing.T, failpoints string, after time.Duration) {
	t.Helper()
	c.rounds++
	p := start(t, c.kind, c.place, childSpec{Role: "emit", Failpoints: failpoints, Base: c.rounds * 1_000_000})
	if failpoints == "" {
		p.awaitLines(t, "ack", 20)
		time.Sleep(after)
		p.kill()
	}
	if state := p.wait(t); !killed(state) {
		t.Fatalf("%s: the child was to be killed, but ended by %s: %s", failpoints, state, p.stderr.tail(10))
	}
	for _, line := range p.lines("error ") {
		t.Errorf("%s: an emit failed: %s", failpoints, line)
	}
	c.look(t, failpoints, p.lines("ack "))
}

// look compares the log with what was acknowledged and with what it was before.
func (c *killing) look(t *testing.T, failpoints string, acks []string) {
	t.Helper()
	w := open(t, c.place, "")
	defer w.shut(t)
	stored := w.stored(t)
	for _, ack := range acks {
		for id := range strings.FieldsSeq(ack) {
			c.acked++
			if _, ok := stored[uuid.MustParse(id)]; !ok {
				t.Errorf("%s: event %s was acknowledged and is lost", failpoints, id)
			}
		}
	}
	for id, position := range c.positions {
		if stored[id].Position != position {
			t.Errorf("%s: event %s was at position %d and is now at %d", failpoints, id, position, stored[id].Position)
		}
	}
	for id, env := range stored {
		c.positions[id] = env.Position
	}
	c.checkUnits(t, stored)
	c.checkRows(t, w, stored)
	if err := c.place.check(t.Context()); err != nil {
		t.Errorf("%s: %v", failpoints, err)
	}
}

// checkUnits looks for units of which only a part is there. A unit's events have its name and size as correlation.
func (c *killing) checkUnits(t *testing.T, stored map[uuid.UUID]pulse.Envelope) {
	t.Helper()
	parts := map[string]int{}
	for _, env := range stored {
		if strings.HasPrefix(env.Correlation, "unit/") {
			parts[env.Correlation]++
		}
	}
	for unit, n := range parts {
		var number, size int
		if _, err := fmt.Sscanf(unit, "unit/%d/%d", &number, &size); err != nil || n != size {
			t.Errorf("of %s there are %d events (%v)", unit, n, err)
		}
	}
	c.units = len(parts)
}

// checkRows compares the rows written in transactions with the events emitted in the same.
func (c *killing) checkRows(t *testing.T, w *world, stored map[uuid.UUID]pulse.Envelope) {
	t.Helper()
	rows := w.effects(t)
	c.rows = len(rows)
	events := 0
	for _, env := range stored {
		if env.Key != "with-row" {
			continue
		}
		events++
		var l lesson
		if err := json.Unmarshal(env.Data, &l); err != nil || rows[l.N] != 1 {
			t.Errorf("event %d at position %d has %d rows (%v)", l.N, env.Position, rows[l.N], err)
		}
	}
	if events != len(rows) {
		t.Errorf("%d rows for %d events of the same transactions", len(rows), events)
	}
}

// emitUntilKilled emits in all ways there are, and says what was acknowledged. Beside it runs a transactional
// subscription, so that all failpoints are reached.
func emitUntilKilled(_ context.Context, c *child) error {
	ctx := context.Background()
	if err := c.bus.Subscribe("mirror", c.onTx(func(context.Context, any, lesson) error { return nil })); err != nil {
		return err
	}
	e := &emitting{child: c}
	var running sync.WaitGroup
	for i, way := range []func(context.Context, int) ([]uuid.UUID, error){e.one, e.one, e.several, e.withRow, e.twice} {
		running.Go(func() {
			for n := c.Base + i*100_000; ; n += 10 {
				ids, err := way(ctx, n)
				if err != nil {
					c.say("error %v", err)
					return
				}
				c.say("ack%s", join(ids))
				time.Sleep(c.Pace)
			}
		})
	}
	err := c.bus.Run(ctx)
	running.Wait()
	return err
}

func join(ids []uuid.UUID) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(" " + id.String())
	}
	return b.String()
}

// emitting are the ways to emit. Each is given the first of ten numbers of its own.
type emitting struct{ *child }

func (e *emitting) one(ctx context.Context, n int) ([]uuid.UUID, error) {
	id, err := e.bus.Emit(ctx, lesson{Key: "one", N: n})
	return []uuid.UUID{id}, err
}

func (e *emitting) several(ctx context.Context, n int) ([]uuid.UUID, error) {
	evs := make([]pulse.Event, 2+n/10%6)
	for i := range evs {
		evs[i] = lesson{Key: "several", N: n + i}
	}
	return e.bus.EmitAll(ctx, evs, pulse.CorrelatedTo(fmt.Sprintf("unit/%d/%d", n, len(evs))))
}

// twice gives the id itself and emits again, as a caller does who did not hear the answer.
func (e *emitting) twice(ctx context.Context, n int) ([]uuid.UUID, error) {
	id, err := e.bus.Emit(ctx, lesson{Key: "twice", N: n}, pulse.ID(uuid.New()))
	if err == nil {
		_, err = e.bus.Emit(ctx, lesson{Key: "twice", N: n}, pulse.ID(id))
	}
	return []uuid.UUID{id}, err
}

func (e *emitting) withRow(ctx context.Context, n int) (ids []uuid.UUID, err error) {
	err = e.store.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
		in := e.bus.In(tx)
		if err := e.write(ctx, tx.Unwrap(), in, n); err != nil {
			return err
		}
		id, err := in.Emit(ctx, lesson{Key: "with-row", N: n})
		ids = append(ids, id)
		return err
	})
	return ids, err
}
