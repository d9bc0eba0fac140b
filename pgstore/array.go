package pgstore

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// array builds a one-dimensional array of PostgreSQL, in the binary format or as text. The text can be given as a string parameter to any
// driver; the binary one is smaller and quicker to build and to read.
type array struct {
	text  bool
	buf   []byte
	n     int
	nulls bool
}

// head is the length of what precedes the elements of a binary array: dimensions, has nulls, element type, length, lower bound.
const head = 5 * 4

func (a *array) reset() {
	a.n, a.nulls = 0, false
	if a.text {
		a.buf = append(a.buf[:0], '{')
		return
	}
	a.buf = append(a.buf[:0], make([]byte, head)...)
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

// literal returns the array as text.
func (a *array) literal() string { return string(a.buf) + "}" }

// begin starts an element of so many bytes in the binary format.
func (a *array) begin(size int) {
	a.n++
	switch {
	case !a.text:
		a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(size))
	case a.n > 1:
		a.buf = append(a.buf, ',')
	}
}

func (a *array) null() {
	a.nulls = true
	a.begin(-1)
	if a.text {
		a.buf = append(a.buf, "NULL"...)
	}
}

func (a *array) uuid(id uuid.UUID) {
	a.begin(len(id))
	if a.text {
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

func (a *array) int32(n int) {
	a.begin(4)
	if a.text {
		a.buf = strconv.AppendInt(a.buf, int64(n), 10)
		return
	}
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(n))
}

func (a *array) int64(n int64) {
	a.begin(8)
	if a.text {
		a.buf = strconv.AppendInt(a.buf, n, 10)
		return
	}
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(n))
}

// epochMicros is 2000-01-01, from which PostgreSQL counts microseconds, in microseconds since 1970.
const epochMicros = 946_684_800_000_000

func (a *array) time(t time.Time) {
	a.begin(8)
	if a.text {
		a.buf = append(t.UTC().AppendFormat(append(a.buf, '"'), "2006-01-02 15:04:05.000000Z07:00"), '"')
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
	if a.text {
		a.buf = append(hex.AppendEncode(append(a.buf, `"\\x`...), b), '"')
		return
	}
	a.buf = append(a.buf, b...)
}

func (a *array) string(s string) {
	a.begin(len(s))
	if a.text {
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
	if a.text {
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
