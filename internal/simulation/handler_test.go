package simulation

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// The events of a schedule.
type (
	changed struct {
		Label  string `json:"label"`
		Lesson string `json:"lesson" pulse:"key"`
	}
	graded struct {
		Label  string `json:"label"`
		Lesson string `json:"lesson" pulse:"key"`
	}
	// effect is what a transactional handler does.
	effect struct {
		Subscription string         `json:"subscription"`
		Generation   int            `json:"generation"`
		Position     pulse.Position `json:"position"`
		Of           uuid.UUID      `json:"of"`
		Key          string         `json:"key"`
	}
	// followUp is what a plain handler does, under an id that makes doing it again safe.
	followUp struct {
		Of uuid.UUID `json:"of"`
	}
)

func (changed) EventName() string  { return "lesson.changed" }
func (graded) EventName() string   { return "lesson.graded" }
func (effect) EventName() string   { return "effect.made" }
func (followUp) EventName() string { return "effect.followed" }

// lessons is what all subscriptions handle.
const lessons = "lesson.>"

type deliveryKey struct{}

// handlers are the options of Subscribe for one process.
func (w *world) handlers(n *node, bus *pulse.Bus, s *sub) []pulse.SubscribeOption {
	h := &handler{w: w, node: n, bus: bus, sub: s}
	opts := s.options()
	switch {
	case s.batch > 0 && s.tx:
		return append(opts, pulse.OnBatchTx(lessons, s.batch, func(ctx context.Context, _ pulse.Tx, ds []pulse.Delivery) error { return h.handle(ctx, ds) }))
	case s.batch > 0:
		return append(opts, pulse.OnBatch(lessons, s.batch, h.handle))
	case s.tx:
		return append(opts, pulse.Use(keepDelivery),
			pulse.OnTx(func(ctx context.Context, _ pulse.Tx, _ changed) error { return h.kept(ctx) }),
			pulse.OnTx(func(ctx context.Context, _ pulse.Tx, _ graded) error { return h.kept(ctx) }))
	}
	return append(opts, pulse.OnDelivery(lessons, func(ctx context.Context, d *pulse.Delivery) error {
		return h.handle(ctx, []pulse.Delivery{*d})
	}))
}

// keepDelivery puts the delivery into the context, for typed handlers.
func keepDelivery(next pulse.Handler) pulse.Handler {
	return func(ctx context.Context, d *pulse.Delivery) error {
		return next(context.WithValue(ctx, deliveryKey{}, *d), d)
	}
}

// handler is the handler of one subscription in one process.
type handler struct {
	w    *world
	node *node
	bus  *pulse.Bus
	sub  *sub
}

func (h *handler) kept(ctx context.Context) error {
	return h.handle(ctx, []pulse.Delivery{ctx.Value(deliveryKey{}).(pulse.Delivery)})
}

// handle is one call.
func (h *handler) handle(ctx context.Context, ds []pulse.Delivery) error {
	if err := h.node.gate(); err != nil {
		return err
	}
	c := h.begin(ctx, ds)
	t := h.w.troubleOf(c)
	err := h.node.sleep(ctx, t.work)
	if err == nil && ctx.Err() == nil {
		err = h.effects(ctx, ds)
	}
	if err == nil && ctx.Err() == nil && t.kind != "" {
		h.w.cover("a handler: " + t.kind)
		err = h.suffer(ctx, c, t)
	} else if err == nil {
		err = ctx.Err()
	}
	h.end(ctx, c, err)
	return err
}

// begin notes the call.
func (h *handler) begin(ctx context.Context, ds []pulse.Delivery) *call {
	c := &call{sub: h.sub, node: h.node, generation: ds[0].Generation, at: h.w.age()}
	if h.sub.tx {
		c.tx = ctx.Value(txKey{}).(*transaction)
	}
	for i := range ds {
		d := &ds[i]
		var e changed
		if err := d.Decode(&e); err != nil {
			h.w.violate("payload of %s at %d: %v", d.Name, d.Position, err)
		}
		c.visits = append(c.visits, visit{d.Position, d.ID, d.Key, e.Label, d.Attempt, d.IdempotencyKey()})
	}
	h.w.trace("%s/%s handles %v attempt %d", h.node.name, h.sub.name, positions(c), c.visits[0].attempt)
	for _, other := range h.w.history.begin(c) {
		h.w.violate("G10: %s handles %v of %q beside %v, with a key in common", h.node.name, positions(c), h.sub.name, positions(other))
	}
	return c
}

func positions(c *call) []pulse.Position {
	var ps []pulse.Position
	for _, v := range c.visits {
		ps = append(ps, v.position)
	}
	return ps
}

// end notes how the call ended.
func (h *handler) end(ctx context.Context, c *call, err error) {
	outcome := outcomeOf(ctx, err)
	if h.node.isDead() {
		outcome = killed
	}
	c.stopped = h.node.stops.Load()
	h.w.trace("%s/%s has %s %v: %v", h.node.name, h.sub.name, outcome, positions(c), err)
	h.w.cover("outcome: " + outcome)
	h.w.history.finish(c, outcome)
}

func outcomeOf(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return handled
	case errors.Is(err, errKilled):
		return killed
	case errors.Is(ctx.Err(), context.Canceled):
		return interrupted
	case errors.Is(err, errDown):
		return unavailable
	case errors.Is(err, errPoison):
		return parked
	}
	return failed
}

// effects does what the handler is there for.
func (h *handler) effects(ctx context.Context, ds []pulse.Delivery) error {
	for i := range ds {
		d := &ds[i]
		var err error
		if h.sub.tx {
			_, err = h.bus.Emit(ctx, effect{h.sub.name, d.Generation, d.Position, d.ID, d.Key})
		} else if h.sub.name == "plain" && d.ID[15] < 128 {
			_, err = h.bus.Emit(ctx, followUp{d.ID}, pulse.ID(followID(d.ID)))
		}
		if err != nil {
			return fmt.Errorf("effect of %d: %w", d.Position, err)
		}
	}
	return nil
}

func followID(of uuid.UUID) uuid.UUID { return uuid.NewSHA1(of, []byte("followed")) }

var (
	errTrouble = errors.New("trouble")
	errDown    = errors.New("smtp is down")
	errPoison  = errors.New("poison")
)

// suffer is what trouble does to a call.
func (h *handler) suffer(ctx context.Context, c *call, t trouble) error {
	switch t.kind {
	case "panic":
		h.end(ctx, c, errTrouble)
		panic("trouble")
	case "goexit":
		h.end(ctx, c, errTrouble)
		runtime.Goexit()
	case "later":
		return fmt.Errorf("%w: %w", errTrouble, pulse.RetryAfter(t.wait))
	case "park":
		return fmt.Errorf("%w: %w", errPoison, pulse.Park("poison"))
	case "down":
		return pulse.Unavailable(errDown)
	case "slow": // notices its timeout
		if err := h.node.sleep(ctx, 2*h.sub.timeout); err != nil {
			return err
		}
		return errors.Join(errTrouble, ctx.Err())
	case "hang": // does not
		if err := h.node.sleep(context.Background(), t.wait); err != nil {
			return err
		}
		if t.fails {
			return errTrouble
		}
		return nil
	case "stuck": // until faults end, or its process
		select {
		case <-h.w.healed:
		case <-h.node.dead:
		}
		return h.node.gate()
	case "kill":
		if h.w.isHealed() {
			break
		}
		h.node.kill()
		return errKilled
	}
	return errTrouble
}

// trouble is what is wrong with handling one event.
type trouble struct {
	kind  string // "" for none
	times int    // calls it spoils, until handlers are mended
	work  time.Duration
	wait  time.Duration
	fails bool // in the end
}

// troubleOf decides what happens in a call: the first of its events that has trouble left spoils it.
func (w *world) troubleOf(c *call) trouble {
	var t trouble
	mended := w.isMended()
	for _, v := range c.visits {
		t = w.drawTrouble(c.sub, v.label)
		if mended || t.kind == "kill" && w.isHealed() {
			t.kind = ""
		}
		if t.kind != "" && w.history.try(try{c.sub.name, c.generation, v.label}, t.times) {
			return t
		}
	}
	t.kind = ""
	return t
}

// try counts a call for an event, and reports whether it is one of the first limit.
func (h *history) try(k try, limit int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries[k]++
	return h.tries[k] <= limit
}

// drawTrouble is the same for each call of one event and subscription.
func (w *world) drawTrouble(s *sub, label string) trouble {
	r := w.plan.stream(s.name + "/" + label)
	t := trouble{work: between(r, 0, 20*time.Millisecond)}
	if chance(r, 0.1) {
		t.work = between(r, 0, s.timeout*3/4)
	}
	if !chance(r, s.trouble) {
		return t
	}
	t.kind = s.troubles[r.IntN(len(s.troubles))]
	t.times = 1 + r.IntN(s.policy.Attempts+1)
	t.wait = between(r, 0, s.timeout*3)
	t.fails = chance(r, 0.5)
	switch t.kind {
	case "park":
		t.times = 1 << 30
	case "down":
		t.times = 1 + r.IntN(2)
		if r.IntN(3) > 0 {
			t.kind = "fail"
		}
	}
	return t
}
