package pulsetest

import (
	"context"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// Recorder is a pulse.Emitter for unit tests of code that emits: it keeps what was emitted, and refuses what a bus would refuse.
// The zero value works. Its methods may be called concurrently.
type Recorder struct {
	// Err, when it is not nil, is what every Emit returns; nothing is recorded then. Change it while nobody emits.
	Err error

	mu     sync.Mutex
	bus    *pulse.Bus // over a store in memory; nil until the first Emit
	events []pulse.Event
}

var _ pulse.Emitter = (*Recorder)(nil)

// Emit records ev.
func (r *Recorder) Emit(ctx context.Context, ev pulse.Event, opts ...pulse.EmitOption) (uuid.UUID, error) {
	ids, err := r.EmitAll(ctx, []pulse.Event{ev}, opts...)
	return ids[0], err
}

// EmitAll records all events or none. The ids are those of the events, also with an error, as a bus has it.
func (r *Recorder) EmitAll(ctx context.Context, evs []pulse.Event, opts ...pulse.EmitOption) ([]uuid.UUID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bus == nil {
		bus, err := pulse.New(memstore.New(nil), nil)
		if err != nil {
			return make([]uuid.UUID, len(evs)), err
		}
		r.bus = bus
	}
	if r.Err != nil {
		ended, end := context.WithCancel(ctx) // with which a bus stores nothing
		end()
		ids, _ := r.bus.EmitAll(ended, evs, opts...)
		return ids, r.Err
	}
	ids, err := r.bus.EmitAll(ctx, evs, opts...)
	if err == nil {
		r.events = append(r.events, evs...)
	}
	return ids, err
}

// Events returns the events that were emitted, in order, as the values they were emitted with.
func (r *Recorder) Events() []pulse.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Envelopes returns what a bus would have recorded, in order: with ids, actors and correlations.
func (r *Recorder) Envelopes() ([]pulse.Envelope, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bus == nil {
		return nil, nil
	}
	var all []pulse.Envelope
	for env, err := range r.bus.Log(context.Background(), pulse.Query{}) {
		if err != nil {
			return nil, err
		}
		all = append(all, env)
	}
	return all, nil
}
