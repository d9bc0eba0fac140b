package storetest

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// Record returns a valid record of a new event for the log named origin, with a fresh id, after the edits were made, in order. The digests and the
// commitment are made last, for what the edits left.
func Record(origin string, edits ...func(*pulse.Record)) pulse.Record {
	rec := pulse.Record{
		Envelope: pulse.Envelope{
			ID:          uuid.Must(uuid.NewV7()),
			Name:        "lesson.published",
			Version:     1,
			Source:      "/storetest",
			OccurredAt:  time.Now().UTC().Truncate(time.Microsecond),
			Correlation: "correlation-1",
			Data:        json.RawMessage(`{"title":"Fractions"}`),
		},
		Origin: origin,
	}
	for _, edit := range edits {
		edit(&rec)
	}
	if err := rec.Commit(); err != nil {
		panic("storetest: " + err.Error()) // an edit made it invalid
	}
	return rec
}

// named is an edit that sets the event's name.
func named(name string) func(*pulse.Record) {
	return func(r *pulse.Record) { r.Name = name }
}

// keyed is an edit that sets the ordering key.
func keyed(key string) func(*pulse.Record) {
	return func(r *pulse.Record) { r.Key = key }
}

// data is an edit that sets the payload.
func data(json string) func(*pulse.Record) {
	return func(r *pulse.Record) { r.Data = []byte(json) }
}

// identified is an edit that sets the id.
func identified(id uuid.UUID) func(*pulse.Record) {
	return func(r *pulse.Record) { r.ID = id }
}

// at is an edit that gives the time at which the event happened.
func at(t time.Time) func(*pulse.Record) {
	return func(r *pulse.Record) { r.OccurredAt, r.TimeGiven = t, true }
}
