package cloudevents

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/google/uuid"
)

// Marshal returns env in the JSON format, on one line without a line break at its end. The error is an ErrInvalid when an
// attribute is missing or cannot be written, and an ErrSerialization when Data is not strict JSON; see pulse.CheckJSON.
func Marshal(env pulse.Envelope) ([]byte, error) {
	const attributes = 640 // what a usual event has besides its data
	return AppendJSON(make([]byte, 0, attributes+len(env.Extensions)+len(env.Data)), env)
}

// AppendJSON appends to dst what Marshal returns. With an error it returns dst as it was.
func AppendJSON(dst []byte, env pulse.Envelope) ([]byte, error) {
	w := writer{buf: dst}
	w.write(&env)
	if w.err != nil {
		return dst, w.err
	}
	return w.buf, nil
}

// writer appends the members of one object. After an error its buf means nothing.
type writer struct {
	buf []byte
	err error
}

func (w *writer) write(env *pulse.Envelope) {
	if env.ID == uuid.Nil {
		w.fail(invalid(attrID, "the event has none"))
	}
	if env.Source == "" {
		w.fail(invalid(attrSource, "CloudEvents need one: set the source of the event or the bus"))
	}
	if err := pulse.ValidateName(env.Name); err != nil {
		w.fail(fmt.Errorf("cloudevents: attribute %s: %w", attrType, err))
	}
	w.buf = append(w.buf, `{"specversion":"`+specVersion+`"`...)
	w.uuid(attrID, env.ID)
	w.text(attrSource, env.Source)
	w.text(attrType, env.Name)
	w.text(attrSubject, env.Key)
	w.time(attrTime, env.OccurredAt)
	w.uuid(attrActor, env.Actor)
	w.text(attrCorrelation, env.Correlation)
	w.uuid(attrCausation, env.Causation)
	w.position(env.Position)
	w.version(env.Version)
	w.time(attrRecordedAt, env.RecordedAt)
	w.text(attrTrace, env.Trace)
	w.commitment(&env.Commitment)
	if !w.extensions(env) {
		w.text(attrDataContentType, jsonContent)
	}
	w.data(env.Data)
	w.buf = append(w.buf, '}')
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *writer) name(attr string) {
	w.buf = append(w.buf, `,"`...)
	w.buf = append(w.buf, attr...)
	w.buf = append(w.buf, `":`...)
}

func (w *writer) text(attr, s string) {
	if s == "" {
		return
	}
	if err := checkText(s); err != nil {
		w.fail(invalid(attr, "%v", err))
		return
	}
	w.name(attr)
	w.buf = append(w.buf, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			w.buf = append(w.buf, '\\')
		}
		w.buf = append(w.buf, s[i])
	}
	w.buf = append(w.buf, '"')
}

func (w *writer) uuid(attr string, id uuid.UUID) {
	if id == uuid.Nil {
		return
	}
	w.name(attr)
	const digits = "0123456789abcdef"
	w.buf = append(w.buf, '"')
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			w.buf = append(w.buf, '-')
		}
		w.buf = append(w.buf, digits[b>>4], digits[b&15])
	}
	w.buf = append(w.buf, '"')
}

func (w *writer) time(attr string, t time.Time) {
	if t.IsZero() {
		return
	}
	t = t.UTC()
	if err := checkTime(t); err != nil {
		w.fail(invalid(attr, "%v", err))
		return
	}
	w.name(attr)
	w.buf = append(w.buf, '"')
	w.buf = t.AppendFormat(w.buf, timeFormat)
	w.buf = append(w.buf, '"')
}

func (w *writer) position(p pulse.Position) {
	switch {
	case p < 0:
		w.fail(invalid(attrPosition, "%d is negative", p))
	case p > 0:
		w.name(attrPosition)
		w.buf = append(w.buf, '"')
		w.buf = strconv.AppendInt(w.buf, int64(p), 10)
		w.buf = append(w.buf, '"')
	}
}

func (w *writer) version(v int) {
	switch {
	case v < 0 || v > maxVersion:
		w.fail(invalid(attrVersion, "%d is not between 1 and %d", v, maxVersion))
	case v > 0:
		w.name(attrVersion)
		w.buf = strconv.AppendInt(w.buf, int64(v), 10)
	}
}

func (w *writer) commitment(c *[32]byte) {
	if *c == [32]byte{} {
		return
	}
	w.name(attrCommitment)
	w.buf = append(w.buf, '"')
	w.buf = base64.StdEncoding.AppendEncode(w.buf, c[:])
	w.buf = append(w.buf, '"')
}

// extensions writes the attributes Pulse does not know. It reports whether the content type is among them.
func (w *writer) extensions(env *pulse.Envelope) (contentType bool) {
	if env.Extensions == nil {
		return false
	}
	all, err := splitExtensions(env.Extensions)
	if err != nil {
		w.fail(fmt.Errorf("extensions: %w", err))
	}
	for _, e := range all {
		switch string(e.name) {
		case attrDataContentType:
			contentType = true
		case attrCausation:
			if env.Causation != uuid.Nil {
				w.fail(invalid(attrCausation, "the extensions have one, and so has the event"))
			}
		}
		w.name(string(e.name))
		w.buf = append(w.buf, e.value...)
	}
	return contentType
}

func (w *writer) data(data []byte) {
	if len(data) == 0 {
		w.fail(fmt.Errorf("cloudevents: %w: the event has no data: a payload that says nothing is null", pulse.ErrInvalid))
		return
	}
	if err := pulse.CheckJSON(data); err != nil {
		w.fail(fmt.Errorf("cloudevents: data: %w", err))
		return
	}
	if bytes.ContainsAny(data, "\r\n") || len(bytes.TrimSpace(data)) != len(data) {
		w.name(memberDataBase64)
		w.buf = append(w.buf, '"')
		w.buf = base64.StdEncoding.AppendEncode(w.buf, data)
		w.buf = append(w.buf, '"')
		return
	}
	w.name(memberData)
	w.buf = append(w.buf, data...)
}
