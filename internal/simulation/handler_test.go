package simulation

import (
	"context"
	"errors"
	"fmt"

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
	if s.fed {
		opts = append(opts, pulse.From(school, w.dest.inlet(n)))
	}
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
	h.w.trace("%s/%s handles %v attempt %d, keys %v", h.node.name, h.sub.name, positions(c), c.visits[0].attempt, keys(c))
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
	c.stopped, c.late = h.node.stops.Load(), h.w.age()-c.at > h.sub.timeout
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

// keys are the ordering keys of a call.
func keys(c *call) []string {
	var ks []string
	for _, v := range c.visits {
		ks = append(ks, v.key)
	}
	return ks
}
