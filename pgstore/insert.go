package pgstore

import (
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
)

const (
	// insertChunk is the number of events one statement inserts at most: the ids that one number of event_units gives.
	insertChunk = 4096

	// plainWait is how long an insert waits for another transaction that is storing one of its ids. Generated ids never wait.
	plainWait = 100 * time.Millisecond
	// repeatWait is how long the lane of repeated ids does for one event, and unitWait for several, which others may be waiting for.
	repeatWait = 3 * time.Second
	unitWait   = 300 * time.Millisecond
)

// The ways to append, as the last arguments of the functions that do it.
const (
	ownUnit     = "$4::text, false" // commits at once, and fails as a whole when one of the ids is stored
	unitInTx    = "NULL, true"      // leaves out events whose ids are stored
	unitInBatch = "NULL, false"
)

// appendSQL is the statement that stores a unit. Its parameters are the unit, the log's name, and the size of the largest event. It selects
// a row for each event that was stored.
func appendSQL(one bool, way string) string {
	text := "::text" // what any driver takes a string for
	if way == ownUnit {
		text = ""
	}
	statement := "SELECT FROM generate_series(1, @append_all($1%s::@new_event[], $2::text, $3::int4, %s))"
	if one {
		statement = "SELECT WHERE @append_one($1%s::@new_event, $2::text, $3::int4, %s) = 1"
	}
	return fmt.Sprintf(statement, text, way)
}

// insertOneSQL is what appendSQL(true, unitInBatch) does, with a parameter for each column and without a function: the server does less each time, and
// much more the first time on a connection. So it is for connections that prepare statements.
const insertOneSQL = `INSERT INTO @events (id,
		event_id, occurred_at, actor_id, causation_id, version, format, name, source,
		correlation_id, key, trace, fact_salt, link_salt, digests, commitment, extensions, data)
	VALUES (@first_id($18::text, $19::int4),
		$1::uuid, $2::timestamptz, $3::uuid, $4::uuid, $5::int4, $6::int2, $7::text, $8::text,
		$9::text, $10::text, $11::text, $12::bytea, $13::bytea, $14::bytea, $15::bytea, $16::json, $17::json)`

// insertNewSQL leaves out an event whose id is stored, as appendSQL(true, unitInTx) does.
const insertNewSQL = insertOneSQL + " ON CONFLICT (event_id) DO NOTHING"

// scalars are the parameters of insertOneSQL and insertNewSQL, for pgx.
func scalars(recs []pulse.Record) []any {
	r := &recs[0]
	return []any{
		orNull([16]byte(r.ID)), r.OccurredAt, orNull([16]byte(r.Actor)), orNull([16]byte(r.Causation)), r.Version, r.Format, r.Name, r.Source,
		orNull(r.Correlation), orNull(r.Key), orNull(r.Trace), r.FactSalt[:], r.LinkSalt[:], r.Digests, r.Commitment[:],
		orNull(string(r.Extensions)), orNull(string(r.Data)), r.Origin, r.Size(),
	}
}

func orNull[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// syncSQL is an expression that makes the commit of the transaction durable where the server's settings would not.
const syncSQL = "CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN set_config('synchronous_commit', 'on', true) ELSE '' END"

// literals returns the parameters of an insert without a limited time, for any driver.
func literals(recs []pulse.Record) []any {
	var u unit
	return []any{u.text(recs), recs[0].Origin, largest(recs)}
}

// largest is the size of the largest of recs.
func largest(recs []pulse.Record) (size int) {
	for i := range recs {
		size = max(size, recs[i].Size())
	}
	return size
}
