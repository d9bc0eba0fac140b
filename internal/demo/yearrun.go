package demo

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

const (
	yearSubscription = "year"
	yearBatch        = 1024 // events handled in one transaction at most
	yearEmitters     = 512
)

// yearRun is one process's part in a year.
type yearRun struct {
	opts   *YearOptions
	plan   *plan
	secret []byte
	names  *pseudonyms
	bus    *pulse.Bus

	broker    *Broker    // nil for none
	fresh     bool       // no process before this one has begun the year
	published *published // nil without a broker

	start   time.Time       // of the first emit
	began   []time.Duration // by event: when Emit was called, since start; each owned by its emitter
	emitted atomic.Int64
	handled atomic.Int64

	allEmitted time.Duration // when the last Emit had returned, since start

	mu      sync.Mutex
	current handledBatch // in the transaction under way
	batches []handledBatch
}

// handledBatch is one transaction of the handler.
type handledBatch struct {
	batch  int64 // key of its row
	events int
	at     time.Duration // when it was committed, since start
}

func newYearRun(opts *YearOptions, p *plan, secret []byte) *yearRun {
	return &yearRun{
		opts: opts, plan: p, secret: secret,
		names: newPseudonyms(p, newHasher(secret)),
		began: make([]time.Duration, len(p.events)),
	}
}

// play emits and handles until all is done, or ctx ends.
func (r *yearRun) play(ctx context.Context, store Store) (err error) {
	r.bus, err = pulse.New(watched{store, r.committed}, &pulse.Options{Source: "/oulad", Logger: r.opts.Logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.bus.Close()) }()
	if err := r.publish(ctx); err != nil {
		return err
	}
	handling := []pulse.SubscribeOption{pulse.Start(pulse.Beginning), pulse.Ordered(), pulse.OnBatchTx(">", yearBatch, r.handle)}
	if err := r.bus.Subscribe(yearSubscription, append(handling, r.broker.from()...)...); err != nil {
		return err
	}
	r.start = time.Now()
	stopProgress := r.showProgress()
	defer stopProgress()
	if err := r.emitWhileRunning(ctx); err != nil {
		return err
	}
	return r.bus.Drain(ctx)
}

// publish lets the broker, if there is one, have the events, and counts those it has.
func (r *yearRun) publish(ctx context.Context) error {
	if r.broker == nil {
		return nil
	}
	r.published = newPublished(r.plan, r.secret)
	if err := r.broker.publish(r.bus, r.published.acked); err != nil || r.fresh {
		return err
	}
	return r.published.before(ctx, r.bus, r.broker)
}

// ids finds the events of the plan by their ids.
func (r *yearRun) ids() map[uuid.UUID]int32 {
	if r.published != nil {
		return r.published.ids
	}
	return idsOf(r.plan, r.secret)
}

// emitWhileRunning emits all events while the subscription runs. What it has not handled by then is left for Drain.
func (r *yearRun) emitWhileRunning(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() {
		err := r.bus.Run(ctx)
		if err != nil {
			cancel() // nothing would be handled any more
		}
		ran <- err
	}()
	err := r.emitAll(ctx)
	cancel()
	return errors.Join(<-ran, err)
}

// emitAll emits the events of the plan from many goroutines, each event of a key after the one before is stored.
func (r *yearRun) emitAll(ctx context.Context) error {
	emitting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := newDispatcher(r.plan)
	n := r.opts.Emitters
	if n <= 0 {
		n = yearEmitters
	}
	var emitters sync.WaitGroup
	for range n {
		emitters.Go(func() {
			if err := r.emitter(emitting, d); err != nil {
				cancel(err)
			}
		})
	}
	emitters.Wait()
	r.allEmitted = time.Since(r.start)
	if ctx.Err() != nil {
		return ctx.Err() // not what the emitters made of it
	}
	return context.Cause(emitting)
}

// emitter emits what d hands out. An event that is in the log already, from before an interruption, stays what it is: it
// comes with the same id and the same content.
func (r *yearRun) emitter(ctx context.Context, d *dispatcher) error {
	h := newHasher(r.secret)
	for i, ok := d.take(); ok; i, ok = d.done(i) {
		if err := r.pace(ctx, i); err != nil {
			return err
		}
		e := &r.plan.events[i]
		ev := r.plan.event(e, r.names)
		id, at, actor := pulse.ID(h.event(r.plan, e)), pulse.At(r.plan.at(e.day)), pulse.By(r.names.actor(e))
		r.began[i] = time.Since(r.start)
		if _, err := r.bus.Emit(ctx, ev, id, at, actor); err != nil {
			return err
		}
		r.emitted.Add(1)
	}
	return ctx.Err()
}

// pace waits until it is event i's turn, when there is a rate.
func (r *yearRun) pace(ctx context.Context, i int) error {
	if r.opts.Rate <= 0 {
		return nil
	}
	return sleepUntil(ctx, r.start.Add(time.Duration(float64(i)/r.opts.Rate*float64(time.Second))))
}

func sleepUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handle is the side effect: it writes down what it got, in the transaction that remembers the delivery.
func (r *yearRun) handle(ctx context.Context, tx pulse.Tx, ds []pulse.Delivery) error {
	ids := make([]byte, 0, 16*len(ds))
	for i := range ds {
		ids = append(ids, ds[i].ID[:]...)
	}
	own, err := booksIn(tx, r.opts.Schema)
	if err != nil {
		return err
	}
	batch, err := own.add(ctx, ids)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = handledBatch{batch: batch, events: len(ds)}
	return nil
}

// committed notes when a transaction of the handler was committed. There is one at a time, because the subscription is
// ordered and takes batches.
func (r *yearRun) committed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current.events == 0 {
		return // all of it had been handled before
	}
	r.current.at = time.Since(r.start)
	r.batches = append(r.batches, r.current)
	r.handled.Add(int64(r.current.events))
	r.current = handledBatch{}
}

// showProgress reports until the returned function is called.
func (r *yearRun) showProgress() (stop func()) {
	if r.opts.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var reporter sync.WaitGroup
	reporter.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for running := true; running; {
			select {
			case <-tick.C:
			case <-done:
				running = false
			}
			r.opts.Progress(Progress{
				Emitted: int(r.emitted.Load()), Published: r.published.count(), Handled: int(r.handled.Load()), Planned: len(r.plan.events),
			})
		}
	})
	return func() { close(done); reporter.Wait() }
}
