package simulation

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/edupulse-live/pulse"
)

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
