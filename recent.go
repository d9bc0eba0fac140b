package pulse

import (
	"bytes"
	"sync"
)

// Bounds of recent.
const (
	recentEvents = 8192    // a multiple of recentFirst by a power of two
	recentFirst  = 64      // there is room for at first
	recentSize   = 2 << 10 // bytes; what is larger is not kept
)

// recent has the last events of the log that went through this process. Who reads on from there takes them from here, which costs less
// than to read them from the store, or out of a message.
type recent struct {
	mu     sync.RWMutex
	events []Envelope // by position, modulo the room for them; nil while nobody wants them
}

// wanted says that there is somebody to keep events for.
func (r *recent) wanted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events == nil {
		r.events = make([]Envelope, recentFirst)
	}
}

// forget drops what is there: it may be of a log that was since replaced.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.events)
}

// keep keeps events of the log. They are not changed any more.
func (r *recent) keep(envs []Envelope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range envs {
		r.put(&envs[i])
	}
}

// keepRecords keeps those of recs that have a position.
func (r *recent) keepRecords(recs []Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range recs {
		r.put(&recs[i].Envelope)
	}
}

func (r *recent) put(env *Envelope) {
	if r.events == nil || env.Position <= 0 || env.Size() > recentSize {
		return
	}
	slot := r.slot(env.Position)
	for slot.Position > 0 && slot.Position != env.Position && len(r.events) < recentEvents {
		r.grow()
		slot = r.slot(env.Position)
	}
	*slot = *env
}

// slot is where the event at a position is, or another one at a multiple of the room. The caller holds mu, and there is room.
func (r *recent) slot(p Position) *Envelope { return &r.events[int(p)%len(r.events)] }

// grow makes twice the room. The caller holds mu.
func (r *recent) grow() {
	before := r.events
	r.events = make([]Envelope, 2*len(before))
	for i := range before {
		if p := before[i].Position; p > 0 {
			*r.slot(p) = before[i]
		}
	}
}

// find returns a copy of the event at a place of the log, if it is here.
func (r *recent) find(c Cursor) (Envelope, bool) {
	r.mu.RLock()
	env, ok := r.at(c.Position)
	r.mu.RUnlock()
	if !ok || env.Commitment != c.Commitment {
		return Envelope{}, false
	}
	return owned(env), true
}

// after returns copies of the events behind a position, up to the first that is not here.
func (r *recent) after(p, limit Position) []Envelope {
	r.mu.RLock()
	var envs []Envelope
	for next := p + 1; next <= p+limit; next++ {
		env, ok := r.at(next)
		if !ok {
			break
		}
		if envs == nil {
			envs = make([]Envelope, 0, limit)
		}
		envs = append(envs, env)
	}
	r.mu.RUnlock()
	for i := range envs {
		envs[i] = owned(envs[i])
	}
	return envs
}

// at returns the event at a position. The caller holds mu.
func (r *recent) at(p Position) (env Envelope, ok bool) {
	if r.events == nil || p <= 0 {
		return env, false
	}
	env = *r.slot(p)
	return env, env.Position == p
}

// owned is an event whose bytes are the caller's.
func owned(env Envelope) Envelope {
	env.Data, env.Extensions = bytes.Clone(env.Data), bytes.Clone(env.Extensions)
	return env
}
