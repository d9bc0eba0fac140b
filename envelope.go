package pulse

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Position is the gapless, immutable place of an envelope in one store's log: 1, 2, 3 …
// Zero means "not in a log yet", or "before the first event" where a position is a starting point.
type Position int64

// Envelope is an event as recorded.
type Envelope struct {
	Position    Position        // place in the log; 0 until the store has sequenced it
	ID          uuid.UUID       // identity of the event, version 7 unless the caller gave one
	Name        string          // dotted lower-case event name, used for routing
	Version     int             // version of the payload's shape, from 1
	Source      string          // the application that emitted it, a URI reference such as "/school"
	OccurredAt  time.Time       // when it happened: UTC, whole microseconds
	RecordedAt  time.Time       // when the store wrote it: UTC, whole microseconds, the store's clock
	Actor       uuid.UUID       // who triggered it; uuid.Nil when unknown
	Correlation string          // the cross-service trace id; never empty on a recorded event
	Causation   uuid.UUID       // the event whose handling emitted this one; uuid.Nil when none
	Key         string          // ordering key; "" when the event has none
	Trace       string          // W3C traceparent of the emitting request; "" when none
	Extensions  json.RawMessage // CloudEvents attributes Pulse does not know, a JSON object; nil when none
	Data        json.RawMessage // the public payload, byte for byte as emitted
	Commitment  [32]byte        // what the ledger signs; see Record.Commit
}

// Record is an envelope on its way into a store, with what the store keeps beside it so that
// the event can be proved later. The store owns nothing of it: it copies what it keeps.
type Record struct {
	Envelope

	Origin   string   // name of the log the digests were made for; a store refuses another's
	FactSalt [32]byte // salt of the digest over the fact part
	LinkSalt [32]byte // salt of the digest over the link part
	Digests  []byte   // 32 bytes for each part, in part order
	Format   int      // version of the commitment's format, see CommitFormat

	// IDNew reports that ID was made for this record, so that it cannot be stored already.
	IDNew bool
	// TimeGiven reports that the caller chose OccurredAt, so that Repeats compares it.
	TimeGiven bool
}

// Repeats reports whether r says the same as stored, an envelope with the same id. The circumstances
// of a call (correlation, causation, trace, and the time unless the caller chose it) may differ
// between two attempts to emit one event; what the event says, about what and by whom, may not.
func (r *Record) Repeats(stored *Envelope) bool {
	return r.ID == stored.ID &&
		r.Name == stored.Name &&
		r.Version == stored.Version &&
		r.Source == stored.Source &&
		r.Key == stored.Key &&
		r.Actor == stored.Actor &&
		(!r.TimeGiven || r.OccurredAt.Equal(stored.OccurredAt)) &&
		bytes.Equal(r.Data, stored.Data) &&
		bytes.Equal(r.Extensions, stored.Extensions)
}

// overhead is what the fixed-size attributes of an event add to its size on the wire:
// ids, times, position, version and commitment as CloudEvents headers, rounded up.
const overhead = 512

// escaping is how many bytes one of an extension's JSON becomes as a header, at most.
const escaping = 3

// Size is the number of bytes the event takes on the wire, headers included, rounded up.
// It is what the store's size limit is compared with.
func (e *Envelope) Size() int {
	return overhead + len(e.Name) + len(e.Source) + len(e.Correlation) + len(e.Key) +
		len(e.Trace) + escaping*len(e.Extensions) + len(e.Data)
}
