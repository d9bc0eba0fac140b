package pgstore

import (
	"slices"
	"sync"

	"github.com/edupulse-live/pulse"
)

// Bounds of appended.
const (
	mostAppended  = 8192
	appendedBytes = 2 << 10 // of one event; larger ones are not kept
)

// appended has copies of events that were appended here and that no tick has placed yet, so that they need not be read afterwards. They are known
// by their commitments, which are random: whoever has that of a stored event has that event, and not one of an attempt before.
type appended struct {
	mu   sync.Mutex
	envs map[[32]byte]*pulse.Envelope
	full bool // there was no more room, and nobody has ticked since: nothing is kept
}

// add keeps recs, which may be committed, or not.
func (a *appended) add(recs []pulse.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.envs)+len(recs) > mostAppended { // of those that were never committed there is no other end
		a.envs, a.full = nil, true
	}
	if a.full {
		return
	}
	if a.envs == nil {
		a.envs = map[[32]byte]*pulse.Envelope{}
	}
	envs := make([]pulse.Envelope, len(recs))
	for i := range recs {
		env := &envs[i]
		*env = recs[i].Envelope
		if env.Size() > appendedBytes {
			continue
		}
		env.Data, env.Extensions = slices.Clone(env.Data), slices.Clone(env.Extensions)
		a.envs[env.Commitment] = env
	}
}

// wanted is of how many events a tick shall tell at most.
func (a *appended) wanted() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.full = false
	if len(a.envs) == 0 {
		return 0
	}
	return mostAppended
}

// What a tick tells of an event.
const (
	commitmentBytes = 32
	placedBytes     = commitmentBytes + 8
)

// take takes out those that a tick has placed. It returns the last of them up to head, without a gap.
func (a *appended) take(placed []byte, head int64) (newest []pulse.Envelope) {
	n := len(placed) / placedBytes
	if n == 0 || len(placed)%placedBytes != 0 {
		return nil
	}
	newest = make([]pulse.Envelope, 0, n)
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range n {
		told := placed[i*placedBytes:][:placedBytes]
		commitment := [32]byte(told[:commitmentBytes])
		env := a.envs[commitment]
		if env == nil {
			newest = newest[:0]
			continue
		}
		delete(a.envs, commitment)
		env.Position, env.RecordedAt = pulse.Position(head-int64(n-1-i)), timeOf(told[commitmentBytes:])
		newest = append(newest, *env)
	}
	return newest
}
