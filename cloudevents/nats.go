package cloudevents

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/google/uuid"
)

// Header is one header of a message that has an event in binary mode, where the data stands in the body.
type Header struct{ Name, Value string }

// The headers that tell where in its log an event stands.
const (
	HeaderPosition   = headerPrefix + attrPosition
	HeaderCommitment = headerPrefix + attrCommitment

	headerPrefix      = "ce-"
	headerContentType = "content-type"
)

// attrTyped lists the extensions that are numbers and booleans, of which headers have only the text.
const attrTyped = "cetyped"

// AppendHeaders appends the headers of env as the CloudEvents bindings of NATS and HTTP have them in binary mode: names are those of
// the table in the package comment behind "ce-", and values are percent-encoded (HTTP binding 1.0.2, 3.1.3.2). The header content-type
// has neither. The body is env.Data, of which is only checked that there is some: that it is JSON the log has seen to. With an error,
// an ErrInvalid when an attribute is missing or cannot be written, it returns dst as it was.
func AppendHeaders(dst []Header, env *pulse.Envelope) ([]Header, error) {
	w := newHeaderWriter(false)
	defer writers.Put(w)
	if err := w.write(env); err != nil {
		return dst, err
	}
	values, start := string(w.buf), 0
	for i, name := range w.names {
		dst = append(dst, Header{name, values[start:w.ends[i]]})
		start = w.ends[i]
	}
	return dst, nil
}

// headerWriter writes all values one behind the other, so that they need one allocation.
type headerWriter struct {
	names []string
	buf   []byte
	ends  []int // where the value of each name ends in buf
	plain bool  // values stand as they are, not percent-encoded
	err   error
}

// writers are used again and again: what they wrote is copied.
var writers = sync.Pool{New: func() any { return new(headerWriter) }}

func newHeaderWriter(plain bool) *headerWriter {
	w, _ := writers.Get().(*headerWriter)
	*w = headerWriter{names: w.names[:0], buf: w.buf[:0], ends: w.ends[:0], plain: plain}
	return w
}

func (w *headerWriter) write(env *pulse.Envelope) error {
	w.required(env)
	w.ascii("ce-specversion", specVersion)
	w.uuid("ce-id", env.ID)
	w.text("ce-source", attrSource, env.Source)
	w.ascii("ce-type", env.Name)
	w.text("ce-subject", attrSubject, env.Key)
	w.time("ce-time", attrTime, &env.OccurredAt)
	w.uuid("ce-actor", env.Actor)
	w.text("ce-correlationid", attrCorrelation, env.Correlation)
	w.uuid("ce-causationid", env.Causation)
	w.number(HeaderPosition, attrPosition, int64(env.Position), math.MaxInt64)
	w.number("ce-dataversion", attrVersion, int64(env.Version), maxVersion)
	w.time("ce-recordedat", attrRecordedAt, &env.RecordedAt)
	w.text("ce-traceparent", attrTrace, env.Trace)
	if env.Commitment != ([32]byte{}) {
		w.buf = base64.StdEncoding.AppendEncode(w.buf, env.Commitment[:])
		w.add(HeaderCommitment)
	}
	if env.Extensions == nil || !w.extensions(env) {
		w.ascii(headerContentType, jsonContent)
	}
	return w.err
}

func (w *headerWriter) required(env *pulse.Envelope) {
	switch {
	case env.ID == uuid.Nil:
		w.fail(invalid(attrID, "the event has none"))
	case env.Source == "":
		w.fail(invalid(attrSource, "CloudEvents need one: set the source of the event or the bus"))
	case len(env.Data) == 0:
		w.fail(fmt.Errorf("cloudevents: %w: the event has no data: a payload that says nothing is null", pulse.ErrInvalid))
	}
	if err := pulse.ValidateName(env.Name); err != nil {
		w.fail(fmt.Errorf("cloudevents: attribute %s: %w", attrType, err))
	}
}

func (w *headerWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// add adds the header whose value was appended to buf.
func (w *headerWriter) add(name string) {
	w.names, w.ends = append(w.names, name), append(w.ends, len(w.buf))
}

// ascii adds what needs no encoding.
func (w *headerWriter) ascii(name, value string) {
	w.buf = append(w.buf, value...)
	w.add(name)
}

func (w *headerWriter) text(name, attr, s string) {
	if s == "" {
		return
	}
	if err := checkText(s); err != nil {
		w.fail(invalid(attr, "%v", err))
		return
	}
	w.encode(s)
	w.add(name)
}

// encode appends a value to buf.
func (w *headerWriter) encode(s string) {
	if w.plain {
		w.buf = append(w.buf, s...)
		return
	}
	w.buf = appendEscaped(w.buf, s)
}

func (w *headerWriter) number(name, attr string, n, max int64) {
	switch {
	case n < 0 || n > max:
		w.fail(invalid(attr, "%d is not between 1 and %d", n, max))
	case n > 0:
		w.buf = strconv.AppendInt(w.buf, n, 10)
		w.add(name)
	}
}

func (w *headerWriter) uuid(name string, id uuid.UUID) {
	if id == uuid.Nil {
		return
	}
	const digits = "0123456789abcdef"
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			w.buf = append(w.buf, '-')
		}
		w.buf = append(w.buf, digits[b>>4], digits[b&15])
	}
	w.add(name)
}

func (w *headerWriter) time(name, attr string, t *time.Time) {
	if t.IsZero() {
		return
	}
	utc := t.UTC()
	if err := checkTime(utc); err != nil {
		w.fail(invalid(attr, "%v", err))
		return
	}
	w.buf = utc.AppendFormat(w.buf, timeFormat)
	w.add(name)
}

// extensions adds the attributes Pulse does not know, and which of them are no strings. It reports whether the content type is
// among them.
func (w *headerWriter) extensions(env *pulse.Envelope) (contentType bool) {
	all, err := splitExtensions(env.Extensions)
	if err != nil {
		w.fail(fmt.Errorf("extensions: %w", err))
	}
	var typed []byte
	for _, e := range all {
		attr, text := string(e.name), e.value
		if attr == attrCausation && env.Causation != uuid.Nil {
			w.fail(invalid(attr, "the extensions have one, and so has the event"))
		}
		if text[0] != '"' {
			typed = append(append(typed, ' '), attr...)
		} else if text, err = unquote(text); err != nil {
			w.fail(invalid(attr, "%v", err))
		}
		if attr == attrDataContentType {
			contentType = true
			w.ascii(headerContentType, string(text))
			continue
		}
		w.encode(string(text)) // splitExtensions has checked it; it may be empty
		w.add(headerPrefix + attr)
	}
	if len(typed) > 0 {
		w.text(headerPrefix+attrTyped, attrTyped, string(typed[1:]))
	}
	return contentType
}

// appendEscaped appends s with all but visible ASCII, and '"' and '%', percent-encoded byte by byte.
func appendEscaped(dst []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '"' && c != '%' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}
