package pgstore

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// format is how values are written.
type format int

const (
	binaryFormat  format = iota // an array as the server reads it fastest
	literalFormat               // an array as text, which every driver takes as a string
	plainFormat                 // one value as text, no array
)

// array builds a one-dimensional array of PostgreSQL, or one value.
type array struct {
	as    format
	buf   []byte
	n     int
	nulls bool
}

// head is the length of what precedes the elements of a binary array: dimensions, has nulls, element type, length, lower bound.
const head = 5 * 4

func (a *array) reset(as format) {
	a.as, a.n, a.nulls, a.buf = as, 0, false, a.buf[:0]
	switch as {
	case binaryFormat:
		a.buf = append(a.buf, make([]byte, head)...)
	case literalFormat:
		a.buf = append(a.buf, '{')
	}
}

// binary returns the array, which stays a's.
func (a *array) binary(element uint32) []byte {
	if a.n == 0 {
		clear(a.buf[:head])
		binary.BigEndian.PutUint32(a.buf[8:], element)
		return a.buf[:3*4]
	}
	nulls := uint32(0)
	if a.nulls {
		nulls = 1
	}
	for i, v := range [...]uint32{1, nulls, element, uint32(a.n), 1} {
		binary.BigEndian.PutUint32(a.buf[4*i:], v)
	}
	return a.buf
}

// element returns the only element of a binary array, nil if it is null. It stays a's.
func (a *array) element() []byte {
	if a.nulls {
		return nil
	}
	return a.buf[head+4:]
}

// literal returns the array as text.
func (a *array) literal() string { return string(a.buf) + "}" }

// plain returns the value as text, nil if it is null.
func (a *array) plain() any {
	if a.nulls {
		return nil
	}
	return string(a.buf)
}

// begin starts an element of so many bytes in the binary format.
func (a *array) begin(size int) {
	a.n++
	switch {
	case a.as == binaryFormat:
		a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(size))
	case a.n > 1:
		a.buf = append(a.buf, ',')
	}
}

// quote begins or ends text that an array as text has in quotes.
func (a *array) quote() {
	if a.as == literalFormat {
		a.buf = append(a.buf, '"')
	}
}

func (a *array) null() {
	a.nulls = true
	a.begin(-1)
	if a.as == literalFormat {
		a.buf = append(a.buf, "NULL"...)
	}
}

func (a *array) uuid(id uuid.UUID) {
	a.begin(len(id))
	if a.as != binaryFormat {
		a.buf = append(a.buf, id.String()...)
		return
	}
	a.buf = append(a.buf, id[:]...)
}

func (a *array) uuidOrNull(id uuid.UUID) {
	if id == uuid.Nil {
		a.null()
		return
	}
	a.uuid(id)
}

func (a *array) int16(n int) {
	a.begin(2)
	if a.as != binaryFormat {
		a.buf = strconv.AppendInt(a.buf, int64(n), 10)
		return
	}
	a.buf = binary.BigEndian.AppendUint16(a.buf, uint16(n))
}

func (a *array) int32(n int) {
	a.begin(4)
	if a.as != binaryFormat {
		a.buf = strconv.AppendInt(a.buf, int64(n), 10)
		return
	}
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(n))
}

// epochMicros is 2000-01-01, from which PostgreSQL counts microseconds, in microseconds since 1970.
const epochMicros = 946_684_800_000_000

func (a *array) time(t time.Time) {
	a.begin(8)
	if a.as != binaryFormat {
		a.quote()
		a.buf = t.UTC().AppendFormat(a.buf, timeLayout)
		a.quote()
		return
	}
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(t.UnixMicro()-epochMicros))
}

// timeOf reads a timestamptz.
func timeOf(b []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + epochMicros).UTC()
}

func (a *array) bytea(b []byte) {
	a.begin(len(b))
	switch a.as {
	case binaryFormat:
		a.buf = append(a.buf, b...)
		return
	case literalFormat:
		a.buf = append(a.buf, `"\\x`...)
	case plainFormat:
		a.buf = append(a.buf, `\x`...)
	}
	a.buf = hex.AppendEncode(a.buf, b)
	a.quote()
}

func (a *array) string(s string) {
	a.begin(len(s))
	if a.as == literalFormat {
		a.buf = appendQuoted(a.buf, s)
		return
	}
	a.buf = append(a.buf, s...)
}

func (a *array) stringOrNull(s string) {
	if s == "" {
		a.null()
		return
	}
	a.string(s)
}

// bytes adds text that is in bytes, such as JSON.
func (a *array) bytes(b []byte) {
	a.begin(len(b))
	if a.as == literalFormat {
		a.buf = appendQuoted(a.buf, b)
		return
	}
	a.buf = append(a.buf, b...)
}

func (a *array) bytesOrNull(b []byte) {
	if b == nil {
		a.null()
		return
	}
	a.bytes(b)
}

func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}
