package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/edupulse-live/pulse"
)

// LiveOptions say how to play. Data and Open are required.
type LiveOptions struct {
	Data     string        // directory for the store and its broker, created when there is none
	Open     Opener        // the store
	Schema   string        // of the store, when that is in PostgreSQL
	Broker   BrokerOpener  // the broker between log and side effects; nil for none. It may be another one each time
	Rate     float64       // things that people do, per second; 0 for as many as possible
	Events   int           // stop after so many; 0 for no limit
	Duration time.Duration // stop after so long; 0 for no limit
	Seed     uint64        // what people do; 0 for something else each time
	View     io.Writer     // gets a line for everything that happens; nil for nobody
	Colour   bool          // View is a terminal with colours
	Logger   *slog.Logger
}

// Summary is what happened while the small platform was played.
type Summary struct {
	Store     string         `json:"store"`     // file
	Emitted   int            `json:"emitted"`   // with what handlers emitted
	Published int            `json:"published"` // acknowledgements of the broker; 0 without one
	Handled   map[string]int `json:"handled"`   // by subscription
	Retries   int            `json:"retries"`   // attempts that failed and were to be repeated
	Dead      int            `json:"dead"`      // dead letters
	Seconds   float64        `json:"seconds"`
	Trace     string         `json:"trace,omitempty"` // a correlation that is worth a look
}

// settleTime is how long a run that came to its end waits for retries.
const settleTime = 15 * time.Second

// Live plays the small platform until ctx ends or a limit is reached. Either is a good end. What was not handled by then stays in
// the store for the next run.
func Live(ctx context.Context, opts LiveOptions) (*Summary, error) {
	if err := os.MkdirAll(opts.Data, 0o700); err != nil {
		return nil, err
	}
	path := storePath(opts.Data, opts.Schema)
	store, err := opts.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	broker, err := openBroker(ctx, opts.Broker, path)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	summary, err := playLive(ctx, &opts, store, broker)
	if summary != nil {
		summary.Store = path
	}
	return summary, errors.Join(err, broker.close(), store.Close())
}

func playLive(ctx context.Context, opts *LiveOptions, store Store, broker *Broker) (s *Summary, err error) {
	logger := slog.Default()
	if opts.Logger != nil {
		logger = opts.Logger
	}
	bus, err := pulse.New(store, &pulse.Options{Source: "/demo", Logger: slog.New(expected{logger.Handler()})})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bus.Close()) }()
	v := &view{out: opts.View, colour: opts.Colour}
	if v.out == nil {
		v.out = io.Discard
	}
	r := &liveRun{opts: opts, bus: bus, view: v, effects: newEffects(bus, v), start: time.Now()}
	if err := errors.Join(broker.publish(bus, r.acked), r.effects.subscribe(broker.from())); err != nil {
		return nil, err
	}
	err = r.play(ctx)
	return r.summary(), err
}

// expected leaves out of the log what the demo does on purpose and shows in its view.
type expected struct{ slog.Handler }

// Handle is that of the handler inside, except for dead letters.
func (h expected) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "pulse: dead letter" {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// liveRun is one run of the small platform.
type liveRun struct {
	opts    *LiveOptions
	bus     *pulse.Bus
	view    *view
	effects *effects
	start   time.Time
	emitted int
	trace   string

	published atomic.Int64
}

// acked notes that the broker has an event.
func (r *liveRun) acked(env *pulse.Envelope) {
	r.published.Add(1)
	r.view.published(env)
}

// play emits while the subscriptions run. At a limit it waits for what is still to be done; when ctx ends it does not.
func (r *liveRun) play(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	emitting, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() {
		err := r.bus.Run(running)
		cancel() // when it failed, nothing would be handled any more
		ran <- err
	}()
	err := r.emit(emitting)
	stop()
	if err = errors.Join(err, <-ran); err != nil || ctx.Err() != nil {
		return err
	}
	settling, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := r.bus.Drain(settling); err != nil && settling.Err() == nil {
		return err
	}
	return nil
}

// emit lets people do things until ctx ends or a limit is reached.
func (r *liveRun) emit(ctx context.Context) error {
	if r.opts.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.opts.Duration)
		defer cancel()
	}
	seed := r.opts.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	p := newPlatform(seed, fmt.Sprintf("%04x", uint16(seed)))
	for r.opts.Events == 0 || r.emitted < r.opts.Events {
		if r.opts.Rate > 0 {
			at := r.start.Add(time.Duration(float64(r.emitted) / r.opts.Rate * float64(time.Second)))
			if sleepUntil(ctx, at) != nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := r.do(ctx, p.next()); err != nil {
			return err
		}
	}
	return nil
}

// do emits one event. It is not interrupted: what people did is written down.
func (r *liveRun) do(ctx context.Context, a action) error {
	_, err := r.bus.Emit(context.WithoutCancel(ctx), a.event, pulse.By(a.actor), pulse.CorrelatedTo(a.correlation))
	if err != nil {
		return err
	}
	r.emitted++
	r.view.emitted(a.event)
	if q, ok := a.event.(QuizSubmitted); r.trace == "" || ok && q.Quiz == finalQuiz && *q.Score >= passed {
		r.trace = a.correlation // leads to a completed course, and that to a badge
	}
	return nil
}

func (r *liveRun) summary() *Summary {
	s := &Summary{
		Emitted:   r.emitted + int(r.effects.emitted.Load()),
		Published: int(r.published.Load()),
		Handled:   map[string]int{},
		Retries:   int(r.effects.retries.Load()),
		Dead:      int(r.effects.dead.Load()),
		Seconds:   round(time.Since(r.start).Seconds()),
		Trace:     r.trace,
	}
	for name, n := range r.effects.handled {
		s.Handled[name] = int(n.Load())
	}
	return s
}
