package simulation

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// history is all that happened, as the checkers see it: what emitters were told, what handlers did, what people decided. A
// tick orders what happened at the same instant.
type history struct {
	mu        sync.Mutex
	tick      int64
	emissions []*emission
	calls     []*call // of handlers, by begin
	settled   []settled
	tries     map[try]int                 // calls so far that a trouble could spoil
	starts    map[string][]pulse.Position // first position of each generation of a subscription
	dying     map[visited]int64           // tick at which a delivery was first to be saved as a dead letter
	recorded  map[visited]int             // how often it was written down as being tried
	pauses    []pausing
	running   map[running][]*call // under way
}

// The answers an emitter can get, the later the better known.
const (
	refused = iota // not stored
	unknown        // nobody knows
	acked          // stored
)

// emission is one event somebody tried to emit, by the best answer of all tries.
type emission struct {
	id      uuid.UUID
	label   string
	name    string
	key     string
	unit    string // events of one unit are stored together or not at all
	answer  int
	started time.Duration
}

// call is one call of a handler.
type call struct {
	sub        *sub
	node       *node
	generation int
	visits     []visit
	begin, end int64 // ticks; end is 0 while it runs
	at         time.Duration
	outcome    string
	stopped    bool         // its process was stopping when it ended: a failure may not count
	late       bool         // it outlived its timeout: when its session has ended without it a failure does not count
	tx         *transaction // nil without one
}

// visit is one delivery in a call.
type visit struct {
	position pulse.Position
	id       uuid.UUID
	key      string
	label    string
	attempt  int
	idem     string
}

// How a call ended.
const (
	handled     = "handled"
	failed      = "failed" // with an error, a panic, runtime.Goexit, or after its timeout
	parked      = "parked"
	unavailable = "unavailable"
	interrupted = "interrupted" // its context was cancelled before its timeout
	killed      = "killed"      // its process died
)

// try counts calls for an event.
type try struct {
	sub        string
	generation int
	label      string
}

// visited is one delivery.
type visited struct {
	sub        string
	generation int
	position   pulse.Position
}

type running struct {
	node *node
	sub  string
}

// settled is what a person decided about a dead letter.
type settled struct {
	visited
	how  pulse.Settlement
	tick int64 // before it took effect
}

// pausing is a time in which a subscription was paused by a person.
type pausing struct {
	sub      string
	from, to time.Duration
}

func newHistory() *history {
	return &history{
		tries: map[try]int{}, starts: map[string][]pulse.Position{}, dying: map[visited]int64{}, recorded: map[visited]int{}, running: map[running][]*call{},
	}
}

// now gives the next tick. The caller holds mu.
func (h *history) now() int64 {
	h.tick++
	return h.tick
}

// stamp gives a tick to somebody outside.
func (h *history) stamp() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now()
}

// committed notes that the transaction of ctx has committed.
func (h *history) committed(ctx context.Context) {
	if t, ok := ctx.Value(txKey{}).(*transaction); ok {
		h.mu.Lock()
		defer h.mu.Unlock()
		t.commit = h.now()
	}
}

// advancing notes what a save says about deliveries, before it is saved.
func (w *world) advancing(lease pulse.Lease, p *pulse.Progress) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, row := range p.Put {
		v := visited{lease.Name, lease.Generation, row.Position}
		if row.Status == pulse.StatusRunning {
			h.recorded[v]++
		}
		if _, ok := h.dying[v]; !ok && row.Status == pulse.StatusDead {
			h.dying[v] = h.now()
		}
	}
}

// begin notes the beginning of a call, and returns those of the same key that run beside it in the same process.
func (h *history) begin(c *call) (beside []*call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.begin = h.now()
	r := running{c.node, c.sub.name}
	for _, other := range h.running[r] {
		if c.sub.ordered && other.sharesKey(c) {
			beside = append(beside, other)
		}
	}
	h.calls = append(h.calls, c)
	h.running[r] = append(h.running[r], c)
	return beside
}

// finish notes the end of a call.
func (h *history) finish(c *call, outcome string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.end, c.outcome = h.now(), outcome
	r := running{c.node, c.sub.name}
	h.running[r] = slices.DeleteFunc(h.running[r], func(other *call) bool { return other == c })
}

func (c *call) sharesKey(other *call) bool {
	return slices.ContainsFunc(c.visits, func(v visit) bool {
		return v.key != "" && slices.ContainsFunc(other.visits, func(o visit) bool { return o.key == v.key })
	})
}

// done is the tick since which the effect of the call exists, 0 when it does not.
func (c *call) done() int64 {
	switch {
	case c.outcome != handled:
		return 0
	case c.tx != nil:
		return c.tx.commit
	}
	return c.end
}
