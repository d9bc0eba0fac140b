package pgstore

import (
	"fmt"
	"strconv"
	"strings"
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

// column is one of those that an insert fills.
type column struct {
	name    string
	kind    string // its type
	element uint32 // the type's object id
	add     func(a *array, r *pulse.Record)
}

// columns are the parameters of the insert, in this order.
var columns = [...]column{
	{"event_id", "uuid", uuidOID, func(a *array, r *pulse.Record) { a.uuid(r.ID) }},
	{"name", "text", textOID, func(a *array, r *pulse.Record) { a.string(r.Name) }},
	{"version", "int4", int4OID, func(a *array, r *pulse.Record) { a.int32(r.Version) }},
	{"source", "text", textOID, func(a *array, r *pulse.Record) { a.string(r.Source) }},
	{"occurred_at", "timestamptz", timestamptzOID, func(a *array, r *pulse.Record) { a.time(r.OccurredAt) }},
	{"actor_id", "uuid", uuidOID, func(a *array, r *pulse.Record) { a.uuidOrNull(r.Actor) }},
	{"correlation_id", "text", textOID, func(a *array, r *pulse.Record) { a.stringOrNull(r.Correlation) }},
	{"causation_id", "uuid", uuidOID, func(a *array, r *pulse.Record) { a.uuidOrNull(r.Causation) }},
	{"key", "text", textOID, func(a *array, r *pulse.Record) { a.stringOrNull(r.Key) }},
	{"trace", "text", textOID, func(a *array, r *pulse.Record) { a.stringOrNull(r.Trace) }},
	{"fact_salt", "bytea", byteaOID, func(a *array, r *pulse.Record) { a.bytea(r.FactSalt[:]) }},
	{"link_salt", "bytea", byteaOID, func(a *array, r *pulse.Record) { a.bytea(r.LinkSalt[:]) }},
	{"digests", "bytea", byteaOID, func(a *array, r *pulse.Record) { a.bytea(r.Digests) }},
	{"commitment", "bytea", byteaOID, func(a *array, r *pulse.Record) { a.bytea(r.Commitment[:]) }},
	{"format", "int2", int2OID, func(a *array, r *pulse.Record) { a.int16(r.Format) }},
	{"extensions", "json", jsonOID, func(a *array, r *pulse.Record) { a.bytesOrNull(r.Extensions) }},
	{"data", "json", jsonOID, func(a *array, r *pulse.Record) { a.bytes(r.Data) }},
}

// Object ids of PostgreSQL's types, which never change.
const (
	byteaOID            = 17
	int8OID             = 20
	int2OID             = 21
	int4OID             = 23
	textOID             = 25
	jsonOID             = 114
	byteaArrayOID       = 1001
	int2ArrayOID        = 1005
	int4ArrayOID        = 1007
	textArrayOID        = 1009
	timestamptzOID      = 1184
	timestamptzArrayOID = 1185
	uuidOID             = 2950
	uuidArrayOID        = 2951
	jsonArrayOID        = 199
)

// arrayOID is the object id of the arrays of an element type.
func arrayOID(element uint32) uint32 {
	switch element {
	case byteaOID:
		return byteaArrayOID
	case int2OID:
		return int2ArrayOID
	case int4OID:
		return int4ArrayOID
	case timestamptzOID:
		return timestamptzArrayOID
	case uuidOID:
		return uuidArrayOID
	case jsonOID:
		return jsonArrayOID
	}
	return textArrayOID
}

// The ways to append, as the last arguments of the functions that do it.
const (
	ownUnit     = "$20::text, false" // commits at once, and fails as a whole when one of the ids is stored
	unitInTx    = "NULL, true"       // leaves out events whose ids are stored
	unitInBatch = "NULL, false"
)

// appendSQL is the statement that stores a unit. Its parameters are the columns, as arrays unless it is for one event, the log's name, and
// the size of the largest event. It selects a row for each event that was stored.
func appendSQL(one bool, way string) string {
	statement, array := "SELECT FROM generate_series(1, @append_all(%s))", "[]"
	if one {
		statement, array = "SELECT WHERE @append_one(%s) = 1", ""
	}
	params := make([]string, len(columns), len(columns)+3)
	for i, c := range columns {
		params[i] = "$" + strconv.Itoa(i+1) + "::" + c.kind + array
	}
	n := len(columns)
	params = append(params, fmt.Sprintf("$%d::text", n+1), fmt.Sprintf("$%d::int4", n+2), way)
	return fmt.Sprintf(statement, strings.Join(params, ", "))
}

// syncSQL is an expression that makes the commit of the transaction durable where the server's settings would not.
const syncSQL = "CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN set_config('synchronous_commit', 'on', true) ELSE '' END"

// insertParams are the types and the formats of the parameters of an insert that waits for a limited time, of one event or of many.
func insertParams(one bool) (types []uint32, formats []int16) {
	for _, c := range columns {
		kind := c.element
		if !one {
			kind = arrayOID(kind)
		}
		types, formats = append(types, kind), append(formats, 1)
	}
	return append(types, textOID, int4OID, textOID), append(formats, 0, 0, 0)
}

// rows are records on their way into an insert.
type rows struct {
	arrays [len(columns)]array
	params [][]byte
}

func (r *rows) fill(recs []pulse.Record, as format) {
	for i := range columns {
		a := &r.arrays[i]
		a.reset(as)
		for j := range recs {
			columns[i].add(a, &recs[j])
		}
	}
}

// binary returns the parameters of the columns, for one event or for many. They stay r's.
func (r *rows) binary(recs []pulse.Record) [][]byte {
	r.fill(recs, binaryFormat)
	r.params = r.params[:0]
	for i := range columns {
		if len(recs) == 1 {
			r.params = append(r.params, r.arrays[i].element())
		} else {
			r.params = append(r.params, r.arrays[i].binary(columns[i].element))
		}
	}
	return r.params
}

// literals returns all parameters of an insert without a limited time, of one event or of many, for any driver.
func literals(recs []pulse.Record) []any {
	var r rows
	args := make([]any, 0, len(columns)+2)
	if len(recs) == 1 {
		r.fill(recs, plainFormat)
		for i := range r.arrays {
			args = append(args, r.arrays[i].plain())
		}
	} else {
		r.fill(recs, literalFormat)
		for i := range r.arrays {
			args = append(args, r.arrays[i].literal())
		}
	}
	return append(args, recs[0].Origin, largest(recs))
}

// largest is the size of the largest of recs.
func largest(recs []pulse.Record) (size int) {
	for i := range recs {
		size = max(size, recs[i].Size())
	}
	return size
}
