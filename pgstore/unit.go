package pgstore

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// column is an attribute of the type new_event.
type column struct {
	name string
	oid  uint32 // of its type
	add  func(u *unit, r *pulse.Record)
}

// columns are the attributes in their order.
var columns = [...]column{
	{"event_id", uuidOID, func(u *unit, r *pulse.Record) { u.uuid(r.ID) }},
	{"occurred_at", timestamptzOID, func(u *unit, r *pulse.Record) { u.time(r.OccurredAt) }},
	{"actor_id", uuidOID, func(u *unit, r *pulse.Record) { u.uuid(r.Actor) }},
	{"causation_id", uuidOID, func(u *unit, r *pulse.Record) { u.uuid(r.Causation) }},
	{"version", int4OID, func(u *unit, r *pulse.Record) { u.int(r.Version, 4) }},
	{"format", int2OID, func(u *unit, r *pulse.Record) { u.int(r.Format, 2) }},
	{"name", textOID, func(u *unit, r *pulse.Record) { addText(u, r.Name) }},
	{"source", textOID, func(u *unit, r *pulse.Record) { addText(u, r.Source) }},
	{"correlation_id", textOID, func(u *unit, r *pulse.Record) { addText(u, r.Correlation) }},
	{"key", textOID, func(u *unit, r *pulse.Record) { addText(u, r.Key) }},
	{"trace", textOID, func(u *unit, r *pulse.Record) { addText(u, r.Trace) }},
	{"fact_salt", byteaOID, func(u *unit, r *pulse.Record) { u.bytea(r.FactSalt[:]) }},
	{"link_salt", byteaOID, func(u *unit, r *pulse.Record) { u.bytea(r.LinkSalt[:]) }},
	{"digests", byteaOID, func(u *unit, r *pulse.Record) { u.bytea(r.Digests) }},
	{"commitment", byteaOID, func(u *unit, r *pulse.Record) { u.bytea(r.Commitment[:]) }},
	{"extensions", jsonOID, func(u *unit, r *pulse.Record) { addText(u, r.Extensions) }},
	{"data", jsonOID, func(u *unit, r *pulse.Record) { addText(u, r.Data) }},
}

// Object ids of PostgreSQL's types, which never change.
const (
	byteaOID       = 17
	int2OID        = 21
	int4OID        = 23
	textOID        = 25
	jsonOID        = 114
	timestamptzOID = 1184
	uuidOID        = 2950
)

// unit writes events as one parameter: a value of new_event for one, an array of them for more.
type unit struct {
	buf    []byte
	quotes *quotes // how text is quoted; nil for the binary format, which the server reads fastest
}

// quotes are how a field of a row is quoted.
type quotes struct{ around, quote, backslash string }

// binary returns recs in the binary format. It stays u's.
func (u *unit) binary(recs []pulse.Record) []byte {
	u.buf, u.quotes = u.buf[:0], nil
	if len(recs) > 1 { // dimensions, has nulls, type of the elements, which the server knows better, length, lower bound
		for _, v := range [...]uint32{1, 0, 0, uint32(len(recs)), 1} {
			u.buf = binary.BigEndian.AppendUint32(u.buf, v)
		}
	}
	for i := range recs {
		start := len(u.buf)
		if len(recs) > 1 {
			u.size(0) // known below
		}
		u.size(len(columns))
		for j := range columns {
			u.size(int(columns[j].oid))
			columns[j].add(u, &recs[i])
		}
		if len(recs) > 1 {
			binary.BigEndian.PutUint32(u.buf[start:], uint32(len(u.buf)-start-4))
		}
	}
	return u.buf
}

// text returns recs as text, which every driver takes.
func (u *unit) text(recs []pulse.Record) string {
	begin, end := "(", ")"
	u.buf, u.quotes = u.buf[:0], &quotes{`"`, `""`, `\\`}
	if len(recs) > 1 { // rows that are quoted themselves
		begin, end = `"(`, `)"`
		u.quotes = &quotes{`\"`, `\"\"`, `\\\\`}
		u.raw("{")
	}
	for i := range recs {
		if i > 0 {
			u.raw(",")
		}
		u.raw(begin)
		for j := range columns {
			if j > 0 {
				u.raw(",")
			}
			columns[j].add(u, &recs[i])
		}
		u.raw(end)
	}
	if len(recs) > 1 {
		u.raw("}")
	}
	return string(u.buf)
}

func (u *unit) raw(s string) { u.buf = append(u.buf, s...) }

// size adds a length to the binary format, or another number.
func (u *unit) size(n int) { u.buf = binary.BigEndian.AppendUint32(u.buf, uint32(n)) }

// null adds what is not there: text has nothing for it.
func (u *unit) null() {
	if u.quotes == nil {
		u.size(-1)
	}
}

func (u *unit) uuid(id uuid.UUID) {
	switch {
	case id == uuid.Nil:
		u.null()
	case u.quotes == nil:
		u.size(len(id))
		u.buf = append(u.buf, id[:]...)
	default:
		u.raw(id.String())
	}
}

// int adds an integer of so many bytes.
func (u *unit) int(n, size int) {
	if u.quotes != nil {
		u.buf = strconv.AppendInt(u.buf, int64(n), 10)
		return
	}
	u.size(size)
	for size--; size >= 0; size-- {
		u.buf = append(u.buf, byte(n>>(8*size)))
	}
}

// epochMicros is 2000-01-01, from which PostgreSQL counts microseconds, in microseconds since 1970.
const epochMicros = 946_684_800_000_000

func (u *unit) time(t time.Time) {
	if u.quotes != nil {
		u.buf = t.UTC().AppendFormat(u.buf, timeLayout)
		return
	}
	u.size(8)
	u.buf = binary.BigEndian.AppendUint64(u.buf, uint64(t.UnixMicro()-epochMicros))
}

// timeOf reads a timestamptz.
func timeOf(b []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + epochMicros).UTC()
}

func (u *unit) bytea(b []byte) {
	if u.quotes == nil {
		u.size(len(b))
		u.buf = append(u.buf, b...)
		return
	}
	u.raw(u.quotes.backslash + "x")
	u.buf = hex.AppendEncode(u.buf, b)
}

// addText adds text, or JSON; without any, null.
func addText[T ~string | ~[]byte](u *unit, s T) {
	switch {
	case len(s) == 0:
		u.null()
		return
	case u.quotes == nil:
		u.size(len(s))
		u.buf = append(u.buf, s...)
		return
	}
	u.raw(u.quotes.around)
	for i := range len(s) {
		switch c := s[i]; c {
		case '"':
			u.raw(u.quotes.quote)
		case '\\':
			u.raw(u.quotes.backslash)
		default:
			u.buf = append(u.buf, c)
		}
	}
	u.raw(u.quotes.around)
}

// textArray returns values as an array in text. They hold no control characters that matter.
func textArray(values []string) string {
	b := []byte{'{'}
	for i, value := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		for j := range len(value) {
			if value[j] == '"' || value[j] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, value[j])
		}
		b = append(b, '"')
	}
	return string(append(b, '}'))
}
