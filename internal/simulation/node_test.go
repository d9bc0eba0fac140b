package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// fullStore is a store with all that a subscription needs.
type fullStore interface {
	pulse.Store
	pulse.Transactor
	pulse.Leases
	pulse.Subscriptions
	pulse.Deliveries
}

// errKilled is what the goroutines of a dead process get to see. Nobody hears what they make of it.
var errKilled = fmt.Errorf("%w: this process was killed", pulse.ErrStore)

// node is one process as the store sees it: all that its bus asks of the store goes through it. Killed, nothing
// it does reaches the store any more; frozen, everything it does waits.
type node struct {
	w     *world
	name  string
	store fullStore
	dead  chan struct{} // closed when it is killed
	stops atomic.Bool   // it was asked to end
	// thawed tells that it was frozen once.
	thawed atomic.Bool

	mu      sync.Mutex
	freezes int                   // under way
	frozen  chan struct{}         // closed when it goes on; nil while it runs
	silence chan struct{}         // closed when it has been frozen for so long that a broker gives it up
	giveUp  *time.Timer           // closes silence; nil while it runs
	streams map[string]*rand.Rand // by point
}

func (w *world) newNode(name string) *node {
	return &node{w: w, name: name, store: w.store, dead: make(chan struct{}), silence: make(chan struct{}), streams: map[string]*rand.Rand{}}
}

// kill ends the process like kill -9.
func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.isDead() {
		close(n.dead)
	}
}

func (n *node) isDead() bool {
	select {
	case <-n.dead:
		return true
	default:
		return false
	}
}

// freeze stops the process like SIGSTOP.
func (n *node) freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.freezes++; n.freezes > 1 {
		return
	}
	n.frozen = make(chan struct{})
	n.giveUp = time.AfterFunc(patience, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		close(n.silence)
		n.silence = make(chan struct{})
	})
}

// thaw lets it go on.
func (n *node) thaw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.freezes--; n.freezes > 0 {
		return
	}
	n.giveUp.Stop()
	close(n.frozen)
	n.frozen = nil
}

// suspend freezes the process for a while, or until it dies.
func (n *node) suspend(d time.Duration) {
	n.freeze()
	select {
	case <-time.After(d):
	case <-n.dead:
	}
	n.thawed.Store(true)
	n.thaw()
}

// silent is closed when the process has been frozen for so long that a broker gives it up.
func (n *node) silent() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.silence
}

// gate waits while the process is frozen. An error tells that it is dead.
func (n *node) gate() error {
	for {
		n.mu.Lock()
		frozen := n.frozen
		n.mu.Unlock()
		if n.isDead() {
			return errKilled
		}
		if frozen == nil {
			return nil
		}
		select {
		case <-frozen:
		case <-n.dead:
		}
	}
}

// sleep passes time in the process: until d is over, ctx ends or the process dies. An error tells the latter.
func (n *node) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-n.dead:
	}
	return n.gate()
}

// draw is true with the probability q, from the stream of a point.
func (n *node) draw(point string, q float64) bool {
	if q == 0 {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return chance(n.stream(point), q)
}

// between is a duration from low to high, from the stream of a point.
func (n *node) between(point string, low, high time.Duration) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return between(n.stream(point), low, high)
}

// stream is the random source of a point. The caller holds mu.
func (n *node) stream(point string) *rand.Rand {
	r := n.streams[point]
	if r == nil {
		r = n.w.plan.stream(n.name + "/" + point)
		n.streams[point] = r
	}
	return r
}

type (
	nodeKey struct{}
	txKey   struct{}
)

// hook is where the faults of the store happen. Calls that come through no node, those of the checkers, have none.
func (w *world) hook(ctx context.Context, point string) error {
	n, _ := ctx.Value(nodeKey{}).(*node)
	if n == nil {
		return nil
	}
	if point == memstore.TransactAfterCommit {
		w.history.committed(ctx)
	}
	if err := n.gate(); err != nil {
		return err
	}
	if w.isHealed() {
		return nil
	}
	rates := &w.plan.rates
	if n.draw(point+"/slow", rates.slow) {
		w.cover("a slow store")
		if err := n.sleep(context.Background(), 10*time.Millisecond); err != nil {
			return err
		}
	}
	if n.name != operatorName && n.draw(point+"/kill", rates.kill) {
		w.cover("a process killed in a write")
		w.trace("%s is killed at %s", n.name, point)
		n.kill()
		return errKilled
	}
	if n.draw(point, rates.before[point]+rates.after[point]) {
		w.cover("fault at " + point)
		w.trace("%s: fault at %s", n.name, point)
		return errFault
	}
	return nil
}

var errFault = fmt.Errorf("the disk is on fire")

// enter begins a call of the process to the store.
func (n *node) enter(ctx context.Context) (context.Context, error) {
	if err := n.gate(); err != nil {
		return ctx, err
	}
	return context.WithValue(ctx, nodeKey{}, n), nil
}

// leave brings the answer back to the process, if it still lives.
func (n *node) leave(err error) error {
	if killed := n.gate(); killed != nil {
		return killed
	}
	return err
}

// reading is enter for reads, which have no hook of their own.
func (n *node) reading(ctx context.Context, what string) (context.Context, error) {
	ctx, err := n.enter(ctx)
	if err == nil && !n.w.isHealed() && n.draw(what, n.w.plan.rates.read) {
		n.w.cover("a read that failed")
		err = fmt.Errorf("%w: %s: %w", pulse.ErrStore, what, errFault)
	}
	return ctx, err
}
