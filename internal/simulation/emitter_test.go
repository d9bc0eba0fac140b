package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// emitter is a client that changes lessons through whatever process is up. Its lessons are its own, so that their
// events are emitted one after the other.
type emitter struct {
	w    *world
	r    *rand.Rand
	name string
	n    int // events so far
}

func newEmitter(w *world, i int) *emitter {
	name := fmt.Sprintf("emitter%d", i)
	return &emitter{w: w, r: w.plan.stream(name), name: name}
}

// run emits the planned number of events.
func (e *emitter) run() {
	mean := e.w.plan.lasting / time.Duration(e.w.plan.events)
	for e.n < e.w.plan.events {
		time.Sleep(between(e.r, 0, 2*mean))
		l := e.process()
		if l == nil {
			return
		}
		switch e.r.IntN(6) {
		case 0:
			e.transact(l)
		case 1:
			e.emitAll(l)
		default:
			e.emit(l)
		}
	}
}

// process waits for a process to talk to.
func (e *emitter) process() *life {
	for range 1000 {
		if l := e.w.pick(e.r); l != nil {
			return l
		}
		time.Sleep(50 * time.Millisecond)
	}
	e.w.violate("set-up: %s found no process for a long time", e.name)
	return nil
}

// draw makes the next event, noted as not stored so far.
func (e *emitter) draw(unit string) (*emission, pulse.Event) {
	e.n++
	m := &emission{label: fmt.Sprintf("%s/%d", e.name, e.n), unit: unit, started: e.w.age()}
	if chance(e.r, 0.9) {
		m.key = fmt.Sprintf("%s-%d", e.name, e.r.IntN(4))
	}
	h := e.w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	h.emissions = append(h.emissions, m)
	switch e.r.IntN(8) {
	case 0:
		m.name = "quiz.taken" // nobody handles it
		return m, pulse.Raw{Name: m.name, Key: m.key, Data: fmt.Appendf(nil, `{"label":%q}`, m.label)}
	case 1:
		m.name = "lesson.graded"
		return m, graded{m.label, m.key}
	}
	m.name = "lesson.changed"
	return m, changed{m.label, m.key}
}

// context is what the emitter waits with: often patiently, sometimes not at all.
func (e *emitter) context() (context.Context, context.CancelFunc) {
	if !chance(e.r, e.w.plan.rates.cancel) {
		return context.WithCancel(context.Background())
	}
	e.w.cover("an impatient emitter")
	if chance(e.r, 0.2) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx, cancel
	}
	return context.WithTimeout(context.Background(), between(e.r, time.Microsecond, 15*time.Millisecond))
}

// answer notes what the emitter was told about an event, or a transaction, through a process.
func (e *emitter) answer(l *life, err error, ms ...*emission) {
	got := refused
	switch {
	case err == nil:
		got = acked
	case errors.Is(err, pulse.ErrUnknown), l.isDead(): // a dead process tells nothing
		got = unknown
	}
	e.w.trace("%s: %v: %v", e.name, ms[0].label, err)
	h := e.w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range ms {
		m.answer = max(m.answer, got)
	}
}

// emit emits one event, and again under its id when the outcome is not known.
func (e *emitter) emit(l *life) {
	m, ev := e.draw("")
	var opts []pulse.EmitOption
	if chance(e.r, 0.2) {
		m.id = uuid.UUID{0: byte(e.r.Uint32()), 1: byte(e.r.Uint32()), 2: byte(e.r.Uint32()), 3: byte(e.r.Uint32()), 6: 0x40, 8: 0x80, 15: byte(e.r.Uint32())}
		opts = append(opts, pulse.ID(m.id))
	}
	insists := chance(e.r, 0.8)
	for range 20 {
		ctx, cancel := e.context()
		id, err := l.bus.Emit(ctx, ev, opts...)
		cancel()
		if m.id = id; id == uuid.Nil {
			e.w.violate("G2: Emit returned no id with: %v", err)
		}
		e.answer(l, err, m)
		e.coverAnswer(m, err)
		if err == nil || !insists {
			break
		}
		opts = []pulse.EmitOption{pulse.ID(id)}
		time.Sleep(between(e.r, 0, 300*time.Millisecond))
		if l = e.process(); l == nil {
			return
		}
	}
	if m.answer == acked && chance(e.r, 0.05) {
		e.steal(l, m)
	}
}

func (e *emitter) coverAnswer(m *emission, err error) {
	switch {
	case m.answer == acked:
		e.w.cover("an event acknowledged")
	case m.answer == unknown:
		e.w.cover("an event of unknown outcome")
	default:
		e.w.cover("an event refused")
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		if errors.Is(err, pulse.ErrUnknown) {
			e.w.cover("a cancellation after hand-off")
		} else {
			e.w.cover("a cancellation before hand-off")
		}
	}
}

// steal tries to give a stored event's id to another one.
func (e *emitter) steal(l *life, m *emission) {
	_, err := l.bus.Emit(context.Background(), changed{"stolen", m.key}, pulse.ID(m.id))
	if err == nil {
		e.w.violate("G2: the id of %s was given to another event", m.label)
	}
	if errors.Is(err, pulse.ErrConflict) {
		e.w.cover("a conflict")
	}
}

// emitAll emits some events as one.
func (e *emitter) emitAll(l *life) {
	var ms []*emission
	var evs []pulse.Event
	unit := fmt.Sprintf("%s/all/%d", e.name, e.n)
	for range 2 + e.r.IntN(3) {
		m, ev := e.draw(unit)
		ms, evs = append(ms, m), append(evs, ev)
	}
	ctx, cancel := e.context()
	defer cancel()
	ids, err := l.bus.EmitAll(ctx, evs)
	for i, id := range ids {
		ms[i].id = id
	}
	e.answer(l, err, ms...)
}

var errRollback = errors.New("the caller changed its mind")

// transact emits in a transaction that may end in any way.
func (e *emitter) transact(l *life) {
	var ms []*emission
	unit := fmt.Sprintf("%s/tx/%d", e.name, e.n)
	end := []string{"commit", "commit", "error", "panic", "cancel"}[e.r.IntN(5)]
	ctx, cancel := e.context()
	defer cancel()
	err := recovered(func() error {
		return l.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
			for range 1 + e.r.IntN(3) {
				m, ev := e.draw(unit)
				id, err := l.bus.In(tx).Emit(ctx, ev)
				m.id = id
				ms = append(ms, m)
				if err != nil {
					return err
				}
				time.Sleep(between(e.r, 0, 30*time.Millisecond))
			}
			switch end {
			case "error":
				return errRollback
			case "panic":
				panic(errRollback)
			case "cancel":
				cancel()
			}
			return nil
		})
	})
	if len(ms) == 0 {
		return
	}
	e.w.cover("a transaction: " + end)
	e.answer(l, err, ms...)
	if errors.Is(err, errRollback) || end == "cancel" { // whatever became of the process: it was never asked to commit
		for _, m := range ms {
			m.answer = refused
		}
	}
}

// recovered runs fn and returns a panic as an error.
func recovered(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = p.(error)
		}
	}()
	return fn()
}
