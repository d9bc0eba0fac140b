package pulse

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Options configure a Bus. The zero value works.
type Options struct {
	// Source names this application in every envelope, a URI reference such as "/school". Default "/".
	Source string
	// Logger gets what the bus does in the background. Default slog.Default().
	Logger *slog.Logger
	// DrainTimeout is how long Run lets handlers finish after its context is cancelled. Default 20 seconds.
	DrainTimeout time.Duration
}

// Bus is what an application holds: it emits events into a store's log and hands them to subscriptions.
// Its methods may be used concurrently.
type Bus struct {
	store  Store
	source string
	log    *slog.Logger
	drain  time.Duration
	origin string
	limit  int // size limit of one event, bytes

	batch     *batcher
	given     *batcher // of events whose id the caller gave: they may have to wait for who is storing the same, others must not
	shapes    shapeCache
	head      headSignal
	epoch     atomic.Int64  // of the log, as last seen
	handled   atomic.Int64  // grows whenever a subscription has come further
	saved     chan struct{} // has room for one: a subscription saved its progress, for Drain
	turn      chan struct{} // has room for one: the suspect delivery that is being tried
	emitted   recent        // by this process, for what reads the log
	published recent        // by its relays, for what is fed from a broker

	mu      sync.Mutex
	runners map[string]*runner // by subscription name
	closed  bool
	// While Run or Drain is active:
	running  bool
	draining bool // it is Drain
	stop     context.CancelFunc
	stopped  chan struct{} // closed when it has returned
}

// New returns a bus over store. It asks the store for the name and the limits of its log and starts no goroutine.
// The store remains the caller's to close, after the bus.
func New(store Store, opts *Options) (*Bus, error) {
	if store == nil {
		return nil, fmt.Errorf("%w: pulse.New needs a store, memstore.New(nil) for a first try", ErrInvalid)
	}
	if opts == nil {
		opts = &Options{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	info, err := store.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("pulse.New: %w", err)
	}
	b := &Bus{
		store:   store,
		source:  opts.Source,
		log:     opts.Logger,
		drain:   opts.DrainTimeout,
		origin:  info.Origin,
		limit:   info.MaxBytes,
		runners: map[string]*runner{},
		saved:   make(chan struct{}, 1),
		turn:    make(chan struct{}, 1),
	}
	if b.source == "" {
		b.source = "/"
	}
	if b.log == nil {
		b.log = slog.Default()
	}
	if b.drain <= 0 {
		b.drain = 20 * time.Second
	}
	if err := validateText("source", b.source, maxText); err != nil {
		return nil, fmt.Errorf("pulse.New: %w", err)
	}
	b.epoch.Store(int64(info.Epoch))
	b.head.init()
	b.batch = newBatcher(store, b.stored)
	b.given = newBatcher(store, b.stored)
	return b, nil
}

// storeTimeout bounds what the bus asks of a store on nobody's behalf.
const storeTimeout = 30 * time.Second

// In returns an Emitter that appends through a, an adapter's transaction: what it emits exists if and only if that
// transaction commits. After committing call Wake, or use the adapter's Do, so that subscriptions see it at once.
func (b *Bus) In(a Appender) Emitter { return txEmitter{bus: b, to: a} }

// InUntilWake is In for who is sure to call Wake once the transaction has ended, as the Do of each adapter is: the bus does not look for its events
// before.
func (b *Bus) InUntilWake(a Appender) Emitter { return txEmitter{bus: b, to: untilWake{a}} }

// untilWake marks an Appender of InUntilWake.
type untilWake struct{ Appender }

// Wake tells the bus that something was committed to its store. Emit does it by itself.
func (b *Bus) Wake() { b.committed() }

// Close stops Run and waits for it, so that handlers that run can emit to their end; then it refuses further emits and waits for those in
// flight. It does not close the store.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	stop, stopped := b.stop, b.stopped
	b.mu.Unlock()
	if stop != nil {
		stop()
		<-stopped
	}
	b.batch.close()
	b.given.close()
	return nil
}

func (b *Bus) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// shapeCache remembers the shape of each event type.
type shapeCache struct{ m sync.Map } // reflect.Type -> shape

func (c *shapeCache) of(t reflect.Type) (shape, error) {
	if s, ok := c.m.Load(t); ok {
		return s.(shape), nil
	}
	s, err := shapeOf(t)
	if err == nil {
		c.m.Store(t, s)
	}
	return s, err
}
