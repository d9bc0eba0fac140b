package pulse

import (
	"bytes"
	"sync"
)

// Bounds of recent.
const (
	recentEvents = 8192
	recentSize   = 2 << 10 // bytes; what is larger is not kept
)

// recent has the events that the relays of this process published last. A subscription that is fed from there takes the event that a
// message tells of from here, which costs less than to read it out of the message, and knows that the log has it.
type recent struct {
	mu     sync.RWMutex
	events []Envelope // by position, modulo their number; nil while no subscription is fed by a broker
}

// wanted says that there is somebody to keep events for.
func (r *recent) wanted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events == nil {
		r.events = make([]Envelope, recentEvents)
	}
}

// forget is for a relay that begins: what was published before may be of a log that was since replaced.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.events)
}

// published keeps events as they were read from the log.
func (r *recent) published(envs []Envelope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events == nil {
		return
	}
	for i := range envs {
		if env := &envs[i]; env.Size() <= recentSize {
			r.events[env.Position%recentEvents] = *env
		}
	}
}

// find returns a copy of the event that a message says it has.
func (r *recent) find(c Cursor) (Envelope, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.events == nil || c.Position < 0 {
		return Envelope{}, false
	}
	env := r.events[c.Position%recentEvents]
	if env.Position != c.Position || env.Commitment != c.Commitment || c.Position == 0 {
		return Envelope{}, false
	}
	env.Data, env.Extensions = bytes.Clone(env.Data), bytes.Clone(env.Extensions)
	return env, true
}
