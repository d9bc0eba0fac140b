package pulse

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Event is a Go value that names itself, such as "lesson.published". EventName needs a value receiver and a
// constant answer: handlers are found by asking the zero value.
//
// The struct field tagged `pulse:"key"` is the ordering key. It may be a string, an integer or
// an encoding.TextMarshaler such as uuid.UUID.
type Event interface {
	EventName() string
}

// Versioned is an Event whose payload has had more than one shape. Without it the version is 1.
type Versioned interface {
	EventVersion() int
}

// Raw is an event without a Go type: from the command line, HTTP or an import.
type Raw struct {
	Name    string
	Version int             // 0 means 1
	Key     string          // ordering key, "" for none
	Data    json.RawMessage // strict JSON, stored byte for byte
}

// EventName returns r.Name.
func (r Raw) EventName() string { return r.Name }

// encoded is an event taken apart for its envelope.
type encoded struct {
	name    string
	version int
	key     string
	data    json.RawMessage
}

// encode turns an event into its parts. The payload is strict JSON afterwards.
func (b *Bus) encode(ev Event) (encoded, error) {
	switch raw := ev.(type) {
	case nil:
		return encoded{}, fmt.Errorf("%w: the event is nil", ErrSerialization)
	case Raw:
		return encodeRaw(raw)
	case *Raw:
		if raw == nil {
			return encoded{}, fmt.Errorf("%w: the event is a nil *pulse.Raw", ErrSerialization)
		}
		return encodeRaw(*raw)
	}
	v := reflect.ValueOf(ev)
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return encoded{}, fmt.Errorf("%w: the event is a nil %T", ErrSerialization, ev)
		}
		v = v.Elem()
	}
	e := encoded{name: ev.EventName(), version: eventVersion(ev)}
	s, err := b.shapes.of(v.Type())
	if err != nil {
		return e, err
	}
	if e.key, err = s.keyOf(v); err != nil {
		return e, err
	}
	e.data, err = marshalStrict(ev)
	return e, err
}

func encodeRaw(r Raw) (encoded, error) {
	e := encoded{name: r.Name, version: max(r.Version, 1), key: r.Key, data: bytes.Clone(r.Data)}
	if r.Version < 0 {
		return e, fmt.Errorf("%w: version %d of %q is negative", ErrInvalid, r.Version, r.Name)
	}
	if len(r.Data) == 0 {
		return e, fmt.Errorf("%w: %q has no data: give at least {}", ErrSerialization, r.Name)
	}
	return e, checkJSON(e.data)
}

func eventVersion(ev Event) int {
	if v, ok := ev.(Versioned); ok {
		return v.EventVersion()
	}
	return 1
}

// marshalStrict encodes v and refuses what encoding/json would let pass or silently repair.
func marshalStrict(v any) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("%w: %T: %w", ErrSerialization, v, err)
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	// The encoder writes the escape only for bytes that were not UTF-8; a real U+FFFD stays as it is.
	if bytes.Contains(data, []byte(`\ufffd`)) {
		if path, bad := findInvalidUTF8(v); bad {
			return nil, fmt.Errorf("%w: %T: %s is not valid UTF-8: convert the text before emitting", ErrSerialization, v, path)
		}
	}
	return data, checkJSON(data)
}

// shape is what the tags of an event's type say.
type shape struct {
	key []int // field index path of the ordering key, nil for none
}

// shapeOf reads the tags of t.
func shapeOf(t reflect.Type) (shape, error) {
	var s shape
	if t.Kind() != reflect.Struct {
		return s, nil
	}
	for _, f := range reflect.VisibleFields(t) {
		tag, tagged := f.Tag.Lookup("pulse")
		switch {
		case !tagged:
		case tag != "key":
			return s, fmt.Errorf(`%w: %s.%s: tag pulse:%q is not known: only pulse:"key" is`, ErrInvalid, t, f.Name, tag)
		case !f.IsExported():
			return s, fmt.Errorf(`%w: %s.%s is tagged pulse:"key" but not exported`, ErrInvalid, t, f.Name)
		case s.key != nil:
			return s, fmt.Errorf(`%w: %s has two fields tagged pulse:"key": an event has one ordering key`, ErrInvalid, t)
		case !canBeKey(f.Type):
			return s, fmt.Errorf(`%w: %s.%s is tagged pulse:"key" but a %s is no key: use a string, an integer or an encoding.TextMarshaler`, ErrInvalid, t, f.Name, f.Type)
		default:
			s.key = f.Index
		}
	}
	return s, nil
}

func canBeKey(t reflect.Type) bool {
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return false
}

// keyOf reads the ordering key of v, "" when there is none.
func (s shape) keyOf(v reflect.Value) (string, error) {
	if s.key == nil {
		return "", nil
	}
	f, err := v.FieldByIndexErr(s.key)
	if err != nil || (f.Kind() == reflect.Pointer || f.Kind() == reflect.Interface) && f.IsNil() {
		return "", nil // nothing is there: no key
	}
	if m, ok := f.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return "", fmt.Errorf("%w: ordering key of %s: %w", ErrSerialization, v.Type(), err)
		}
		return string(text), nil
	}
	switch {
	case f.CanInt():
		return strconv.FormatInt(f.Int(), 10), nil
	case f.CanUint():
		return strconv.FormatUint(f.Uint(), 10), nil
	}
	return strings.Clone(f.String()), nil
}
