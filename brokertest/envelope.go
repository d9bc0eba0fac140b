package brokertest

import (
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// Envelope returns the envelope of a new event at a position, as a relay publishes it, after the edits were made.
func Envelope(position pulse.Position, edits ...func(*pulse.Envelope)) pulse.Envelope {
	now := time.Now().UTC().Truncate(time.Microsecond)
	env := pulse.Envelope{
		Position:    position,
		ID:          uuid.Must(uuid.NewV7()),
		Name:        "lesson.published",
		Version:     1,
		Source:      "/brokertest",
		OccurredAt:  now,
		RecordedAt:  now,
		Correlation: "correlation-1",
		Data:        json.RawMessage(`{"title":"Fractions"}`),
	}
	rand.Read(env.Commitment[:]) // never fails
	for _, edit := range edits {
		edit(&env)
	}
	return env
}

// named is an edit that sets the event's name.
func named(name string) func(*pulse.Envelope) {
	return func(e *pulse.Envelope) { e.Name = name }
}

// keyed is an edit that sets the ordering key.
func keyed(key string) func(*pulse.Envelope) {
	return func(e *pulse.Envelope) { e.Key = key }
}

// data is an edit that sets the payload.
func data(json string) func(*pulse.Envelope) {
	return func(e *pulse.Envelope) { e.Data = []byte(json) }
}
