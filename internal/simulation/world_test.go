package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// world is one schedule while it runs.
type world struct {
	plan    *plan
	parts   parts
	store   fullStore
	dest    *destination // nil without a broker
	history *history
	log     *slog.Logger
	tracef  func(format string, args ...any) // nil: nobody listens
	begun   time.Time
	healed  chan struct{} // closed when faults end
	over    chan struct{} // closed when all is checked
	slots   sync.WaitGroup
	// standing waits until each slot has come through the faults.
	standing sync.WaitGroup

	mu         sync.Mutex
	mended     bool // handlers have no trouble any more
	lives      map[int]*life
	leases     map[string]*grant
	violations []string
	coverage   map[string]int
}

// grant is the newest lease of a subscription as far as processes were told.
type grant struct {
	lease    pulse.Lease
	node     *node
	expires  time.Time // or later
	released bool
}

// report is what came out of a schedule.
type report struct {
	violations []string
	coverage   map[string]int
	events     int
	calls      int
	virtual    time.Duration
}

// storeMaker makes the store under test. hook must be called as memstore calls it.
type storeMaker func(opts *memstore.Options) fullStore

func soundStore(opts *memstore.Options) fullStore { return memstore.New(opts) }

// parts are what a schedule runs on.
type parts struct {
	store     storeMaker
	publisher func(pulse.Publisher) pulse.Publisher // wraps that of a process
}

// sound are parts without a bug.
func sound() parts {
	return parts{store: soundStore, publisher: func(p pulse.Publisher) pulse.Publisher { return p }}
}

// live runs a schedule. It must be called in a bubble of synctest.
func live(p *plan, with parts, tracef func(format string, args ...any)) report {
	w := &world{
		plan: p, parts: with, history: newHistory(), tracef: tracef, begun: time.Now(), log: slog.New(slog.DiscardHandler),
		healed: make(chan struct{}), over: make(chan struct{}),
		lives: map[int]*life{}, leases: map[string]*grant{}, coverage: map[string]int{},
	}
	if tracef != nil {
		w.log = slog.New(tracer{w})
	}
	w.store = with.store(&memstore.Options{
		LateSequencing: p.late, Hook: w.hook, Clock: func() time.Time { return time.Now().Add(p.skew) },
	})
	if p.broker != nil {
		w.dest = w.newDestination()
		w.cover("a schedule with a broker")
	}
	w.live()
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	return report{
		violations: w.violations, coverage: w.coverage,
		events: len(w.history.emissions), calls: len(w.history.calls), virtual: time.Since(w.begun),
	}
}

// live is the course of a schedule: faults, healing, and checks; then mended handlers get what was given up, and checks.
func (w *world) live() {
	w.register()
	w.standing.Add(w.plan.instances)
	for i := range w.plan.instances {
		w.slots.Go(func() { w.slot(i) })
	}
	watching := make(chan struct{})
	var observer sync.WaitGroup
	observer.Go(func() { w.observe(watching) })
	w.act()
	close(w.healed)
	w.trace("healed")
	if w.converge("after the faults") {
		w.check()
		w.mend()
		if w.settleAll() && w.converge("after mending the handlers") {
			w.check()
			w.checkNothingLeft()
		}
	}
	close(watching)
	observer.Wait()
	close(w.over)
	w.slots.Wait()
}

// act lets emitters and a person work while faults last.
func (w *world) act() {
	var actors sync.WaitGroup
	for i := range w.plan.emitters {
		actors.Go(func() { newEmitter(w, i).run() })
	}
	if w.plan.operated {
		actors.Go(func() { newOperator(w).run() })
	}
	if w.dest != nil && len(w.plan.broker.weather) > 0 {
		actors.Go(w.dest.weather)
	}
	time.Sleep(w.plan.lasting)
	actors.Wait()
}

// register registers the subscriptions, over a log that has some events, before anything can fail.
func (w *world) register() {
	bus, err := pulse.New(w.store, nil)
	for i := 0; err == nil && i < w.plan.old; i++ {
		m := &emission{label: fmt.Sprintf("old/%d", i), name: "lesson.changed", key: fmt.Sprintf("old-%d", i%min(w.plan.old-1, 50)), answer: acked}
		m.id, err = bus.Emit(context.Background(), changed{m.label, m.key})
		w.history.emissions = append(w.history.emissions, m)
	}
	if err != nil {
		w.violate("set-up: emit: %v", err)
	}
	_ = bus.Close()
	if w.plan.old > 600 {
		w.cover("a large backlog")
	}
	_, _ = w.store.Info(context.Background()) // they have their positions
	if w.dest != nil {
		w.registerOne(w.plan.relay, pulse.Registration{Start: pulse.Beginning})
	}
	for _, s := range w.plan.subs {
		r := pulse.Registration{Start: s.start}
		if s.fed {
			r.Source = school
		}
		w.registerOne(s, r)
	}
}

func (w *world) registerOne(s *sub, r pulse.Registration) {
	r.Name = s.name
	state, err := w.store.Register(context.Background(), r)
	if err != nil {
		w.violate("set-up: register %s: %v", s.name, err)
	}
	w.history.starts[s.name] = []pulse.Position{state.Cursor.Position + 1}
}

// old is the least number of events that there are before the subscriptions.
const old = 3

// convergence bounds the virtual time a healed system may take.
const convergence = 10 * time.Minute

// converge drains through a living process. Anything but success is a violation.
func (w *world) converge(when string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), convergence)
	defer cancel()
	for {
		l := w.anyLife()
		if l == nil {
			w.violate("convergence %s: no process came up", when)
			return false
		}
		head := w.headNow()
		err := l.bus.Drain(ctx)
		w.trace("drained %s: %v", when, err)
		if l.isDead() {
			continue // killed at the last moment
		}
		synctest.Wait()
		if err == nil && w.headNow() > head {
			continue // it handled what emits, or a process that has thawed stores what it had begun to
		}
		if err != nil {
			w.violate("convergence %s: %v\n%s", when, err, w.dump())
		}
		return err == nil
	}
}

// dump describes the subscriptions as stored.
func (w *world) dump() string {
	ctx := context.Background()
	states, _ := w.store.States(ctx)
	rows, _ := w.store.List(ctx, pulse.DeliveryQuery{})
	text := ""
	for _, s := range states {
		text += fmt.Sprintf("  %s: generation %d, cursor %d of %d, retries %d, waiting %d, dead %d, held by %q, paused until %v\n",
			s.Name, s.Generation, s.Cursor.Position, s.Head, s.Retries, s.Waiting, s.Dead, s.Holder, s.PausedUntil)
	}
	for _, r := range rows {
		text += fmt.Sprintf("  %s %d: %s lane %q attempt %d due %v: %s\n", r.Subscription, r.Position, r.Status, r.Lane, r.Attempt, r.Due.Sub(w.begun), r.Error)
	}
	return text
}

func (w *world) isHealed() bool {
	select {
	case <-w.healed:
		return true
	default:
		return false
	}
}

// age is the virtual time since the schedule began.
func (w *world) age() time.Duration { return time.Since(w.begun) }

// mend ends the troubles of all handlers.
func (w *world) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mended = true
}

func (w *world) isMended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mended
}

// violate notes a broken promise.
func (w *world) violate(format string, args ...any) {
	text := fmt.Sprintf("%v: ", w.age()) + fmt.Sprintf(format, args...)
	w.trace("VIOLATION %s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, text)
}

// cover notes that something was exercised.
func (w *world) cover(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.coverage[what]++
}

func (w *world) trace(format string, args ...any) {
	if w.tracef != nil {
		w.tracef("%10v "+format, append([]any{w.age()}, args...)...)
	}
}

// tracer is a slog.Handler that writes into the trace.
type tracer struct{ w *world }

func (t tracer) Enabled(context.Context, slog.Level) bool { return true }
func (t tracer) WithAttrs([]slog.Attr) slog.Handler       { return t }
func (t tracer) WithGroup(string) slog.Handler            { return t }
func (t tracer) Handle(_ context.Context, r slog.Record) error {
	text := ""
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	t.w.trace("%s%s", r.Message, text)
	return nil
}
