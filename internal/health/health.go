// Package health tells whether a process that runs relays is ready: whether its store answers and its relays move.
package health

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/edupulse-live/pulse"
)

// Store is what is looked at.
type Store interface {
	Info(ctx context.Context) (pulse.Info, error)
	States(ctx context.Context) ([]pulse.SubscriptionState, error)
}

// Times.
const (
	storePatience = 2 * time.Second  // how long the store has to answer
	interval      = time.Second      // between two looks
	stuckAfter    = 30 * time.Second // without a move while there is something to publish
	calmFor       = 2 * time.Second  // without a pause and with nothing to publish a relay is well again
)

// Health watches the relays of this process. Its methods may be called concurrently.
type Health struct {
	store Store

	mu       sync.Mutex // guards all below
	relays   []*relay
	stopping bool
}

// relay is what is known of one relay.
type relay struct {
	destination string
	connection  string // why there is none to the broker yet, "" when there is

	cursor pulse.Position // as last seen
	moved  time.Time      // when it was seen to have moved, or to have nothing to do, or something again
	idle   bool           // it had nothing to do when it was last seen: that may be long ago
	broken string         // why it paused itself, until it has moved since
	calm   time.Time      // since when it is not paused; zero while it is
}

// New returns the health of a process that runs the relays of these destinations. None of them is connected yet.
func New(store Store, destinations ...string) *Health {
	h := &Health{store: store}
	for _, d := range destinations {
		h.relays = append(h.relays, &relay{destination: d, connection: "not connected yet", moved: time.Now()})
	}
	return h
}

// Connection tells that the process has a connection to the broker of a destination, or why it has none.
func (h *Health) Connection(destination string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.relays {
		if r.destination == destination {
			r.connection = ""
			if err != nil {
				r.connection = cmp.Or(err.Error(), "not connected")
			}
		}
	}
}

// Stopping tells that the process is about to end.
func (h *Health) Stopping() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopping = true
}

// Watch looks at the relays until ctx ends.
func (h *Health) Watch(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		h.Report(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Report is the answer to whether the process is ready.
type Report struct {
	Ready        bool                `json:"ready"`
	Stopping     bool                `json:"stopping,omitempty"`
	Store        StoreReport         `json:"store"`
	Destinations []DestinationReport `json:"destinations"`
}

// StoreReport tells of the store.
type StoreReport struct {
	Reachable bool           `json:"reachable"`
	Head      pulse.Position `json:"head"`
	Error     string         `json:"error,omitempty"`
}

// State is what a relay is doing, in a word.
type State string

// The states of a relay.
const (
	Running    State = "running"    // in this process, or it is about to
	Standby    State = "standby"    // another process runs it
	Paused     State = "paused"     // by hand, or to republish: not for this process to change
	Connecting State = "connecting" // this process has no connection to the broker, and no other runs the relay
	Broken     State = "broken"     // it paused itself because the broker fails, and tries again
	Stuck      State = "stuck"      // there is something to publish and it does not move
	Diverged   State = "diverged"   // it stopped itself because destination and log do not match, until a person resumes it
	Unknown    State = "unknown"    // the store does not answer
)

// DestinationReport tells of one relay.
type DestinationReport struct {
	Name        string         `json:"name"`
	Ready       bool           `json:"ready"`
	State       State          `json:"state"`
	Reason      string         `json:"reason,omitempty"`
	Cursor      pulse.Position `json:"cursor"`
	Lag         int64          `json:"lag"`
	Parked      int            `json:"parked"` // refused by the broker
	Blocked     int            `json:"blocked_keys"`
	PausedUntil *time.Time     `json:"paused_until,omitempty"` // absent: until resumed, or not paused
	Holder      string         `json:"holder,omitempty"`
}

// Report looks at the store and the relays now.
func (h *Health) Report(ctx context.Context) Report {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	info, err := h.store.Info(ctx)
	var states []pulse.SubscriptionState
	if err == nil {
		states, err = h.store.States(ctx)
	}
	now := time.Now()

	h.mu.Lock()
	defer h.mu.Unlock()
	r := Report{Ready: err == nil && !h.stopping, Stopping: h.stopping, Destinations: []DestinationReport{}}
	if err != nil {
		r.Store.Error = err.Error()
	} else {
		r.Store = StoreReport{Reachable: true, Head: info.Head}
	}
	for _, relay := range h.relays {
		d := DestinationReport{Name: relay.destination, State: Unknown}
		if err == nil {
			d = relay.report(stateOf(states, relay.destination, info.Head), now)
		}
		r.Ready = r.Ready && d.Ready
		r.Destinations = append(r.Destinations, d)
	}
	return r
}

// stateOf finds the state of a relay. One that is not registered yet has everything before it.
func stateOf(states []pulse.SubscriptionState, destination string, head pulse.Position) *pulse.SubscriptionState {
	for i := range states {
		if states[i].Name == pulse.RelayName(destination) {
			return &states[i]
		}
	}
	return &pulse.SubscriptionState{Head: head}
}

// report judges a relay by its state now.
func (r *relay) report(s *pulse.SubscriptionState, now time.Time) DestinationReport {
	paused := s.PausedUntil.After(now)
	byItself := paused && !s.PausedUntil.Equal(pulse.Forever) && !strings.HasPrefix(s.PauseReason, "republish")
	r.observe(s, now, paused, byItself)
	d := DestinationReport{
		Name: r.destination, State: Running, Cursor: s.Cursor.Position, Lag: s.Lag(), Parked: s.Dead, Blocked: s.Blocked, Holder: s.Holder,
	}
	if paused && !s.PausedUntil.Equal(pulse.Forever) {
		until := s.PausedUntil.UTC()
		d.PausedUntil = &until
	}
	switch {
	case paused && strings.HasPrefix(s.PauseReason, pulse.ErrDiverged.Error()):
		d.State, d.Reason = Diverged, s.PauseReason
	case paused && !byItself:
		d.State, d.Reason = Paused, s.PauseReason
	case r.broken != "":
		d.State, d.Reason = Broken, r.broken
	case r.connection != "" && s.Holder == "":
		d.State, d.Reason = Connecting, r.connection
	case s.Lag() < 0:
		d.State, d.Reason = Stuck, "the log was restored or replaced: see pulse doctor"
	case now.Sub(r.moved) >= stuckAfter:
		d.State, d.Reason = Stuck, "nothing was published for "+now.Sub(r.moved).Truncate(time.Second).String()
	case r.connection != "":
		d.State, d.Reason = Standby, r.connection
	}
	d.Ready = d.State == Running || d.State == Standby || d.State == Paused
	return d
}

// observe notes what can only be seen over time.
func (r *relay) observe(s *pulse.SubscriptionState, now time.Time, paused, byItself bool) {
	if r.idle {
		r.moved = now
	}
	r.idle = s.Lag() == 0
	if s.Cursor.Position != r.cursor {
		r.cursor, r.moved, r.broken = s.Cursor.Position, now, ""
	}
	switch {
	case byItself:
		r.broken, r.calm = cmp.Or(s.PauseReason, "paused by itself"), time.Time{}
	case paused:
		r.broken, r.moved, r.calm = "", now, time.Time{}
	case r.calm.IsZero():
		r.calm = now
	}
	if r.idle {
		r.moved = now
		if !r.calm.IsZero() && now.Sub(r.calm) >= calmFor {
			r.broken = ""
		}
	}
}
