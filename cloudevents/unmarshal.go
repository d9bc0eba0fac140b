package cloudevents

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/edupulse-live/pulse"
)

// Unmarshal reads one event in the JSON format, with or without white space around it. It keeps nothing of line. The error
// is an ErrSerialization when line or its data is not strict JSON, see pulse.CheckJSON, and an ErrInvalid when it is no
// CloudEvent 1.0 that fits an envelope.
func Unmarshal(line []byte) (pulse.Envelope, error) {
	var r reader
	m := members{data: line}
	for m.next() {
		if err := r.member(m.name, m.value); err != nil {
			return pulse.Envelope{}, err
		}
	}
	if m.err != nil {
		return pulse.Envelope{}, m.err
	}
	if err := r.finish(); err != nil {
		return pulse.Envelope{}, err
	}
	return r.env, nil
}

// reader gathers the members of one event.
type reader struct {
	env        pulse.Envelope
	seen       uint // bits of known members, see bit
	spec       []byte
	id         []byte
	rawID      []byte // as it stands in the line
	typed      string // value of cetyped
	extensions []extension
}

// member takes one member in.
func (r *reader) member(name, value []byte) error {
	bit := knownBit(name)
	if r.seen&bit != 0 {
		return twice(name)
	}
	r.seen |= bit
	null := string(value) == "null" // an attribute that is left out, says JSON format 1.0.2, 2.2
	switch {
	case string(name) == memberData:
		return r.data(value)
	case string(name) == memberDataBase64 && !null:
		return r.dataBase64(value)
	case bit == 0:
		return r.extension(name, value, null)
	case null:
		return nil
	case string(name) == attrVersion:
		n, err := parseInt(value, maxVersion)
		if err != nil {
			return invalid(attrVersion, "%v", err)
		}
		r.env.Version = int(n)
		return nil
	}
	s, err := unquote(value)
	if err == nil {
		err = checkText(s)
	}
	if err != nil {
		return invalid(string(name), "%v", err)
	}
	if len(s) == 0 {
		return invalid(string(name), "it is empty: give it a value or leave it out")
	}
	return r.attribute(name, s, value)
}

// extension takes in an attribute Pulse does not know. One that is null is noted, so that it cannot be there a second time.
func (r *reader) extension(name, value []byte, null bool) error {
	e, err := extension{name: name}, checkName(name)
	if !null {
		e, err = keep(name, value)
	}
	r.extensions = append(r.extensions, e)
	return err
}

// knownBit numbers the members that have a place in an envelope; 0 for others.
func knownBit(name []byte) uint {
	switch string(name) {
	case attrSpecVersion:
		return 1 << 0
	case attrID:
		return 1 << 1
	case attrSource:
		return 1 << 2
	case attrType:
		return 1 << 3
	case attrSubject:
		return 1 << 4
	case attrTime:
		return 1 << 5
	case attrDataContentType:
		return 1 << 6
	case attrActor:
		return 1 << 7
	case attrCorrelation:
		return 1 << 8
	case attrCausation:
		return 1 << 9
	case attrPosition:
		return 1 << 10
	case attrVersion:
		return 1 << 11
	case attrRecordedAt:
		return 1 << 12
	case attrTrace:
		return 1 << 13
	case attrCommitment:
		return 1 << 14
	case memberData:
		return 1 << 15
	case memberDataBase64:
		return 1 << 16
	case attrTyped:
		return 1 << 17
	}
	return 0
}

// attribute takes in a known attribute that is a string.
func (r *reader) attribute(name, s, raw []byte) (err error) {
	env, ok := &r.env, true
	switch string(name) {
	case attrSpecVersion:
		r.spec = s
	case attrID:
		r.id, r.rawID = s, raw
	case attrSource:
		env.Source = string(s)
	case attrType:
		env.Name = string(s)
		err = pulse.ValidateName(env.Name)
	case attrSubject:
		env.Key = string(s)
	case attrTime:
		env.OccurredAt, err = parseTime(s)
	case attrRecordedAt:
		env.RecordedAt, err = parseTime(s)
	case attrDataContentType:
		if string(s) != jsonContent {
			return r.extension(name, raw, false)
		}
	case attrActor:
		if env.Actor, ok = parseUUID(s); !ok {
			err = fmt.Errorf("want a UUID in lower case, have %.40q", s)
		}
	case attrCausation:
		if env.Causation, ok = parseUUID(s); !ok {
			return r.extension(name, raw, false)
		}
	case attrCorrelation:
		env.Correlation = string(s)
	case attrPosition:
		var n int64
		n, err = parseInt(s, math.MaxInt64)
		env.Position = pulse.Position(n)
	case attrTrace:
		env.Trace = string(s)
	case attrCommitment:
		err = r.commitment(s)
	case attrTyped:
		r.typed = string(s)
	}
	if err != nil {
		return invalid(string(name), "%v", err)
	}
	return nil
}

func (r *reader) commitment(s []byte) error {
	var b [33]byte // what 44 characters without padding would be
	if len(s) == base64.StdEncoding.EncodedLen(len(r.env.Commitment)) {
		if n, err := base64.StdEncoding.Strict().Decode(b[:], s); err == nil && n == len(r.env.Commitment) {
			copy(r.env.Commitment[:], b[:])
			return nil
		}
	}
	return fmt.Errorf("want 32 bytes in base64, have %.60q", s)
}

func (r *reader) data(value []byte) error {
	if r.env.Data != nil {
		return errTwoData()
	}
	if err := pulse.CheckJSON(value); err != nil {
		return fmt.Errorf("cloudevents: data: %w", err)
	}
	r.env.Data = bytes.Clone(value)
	return nil
}

func (r *reader) dataBase64(value []byte) error {
	if r.env.Data != nil {
		return errTwoData()
	}
	s, err := unquote(value)
	if err == nil && bytes.ContainsAny(s, "\r\n") {
		err = fmt.Errorf("%w: it has line breaks: remove them", pulse.ErrInvalid) // the decoder would overlook them
	}
	if err != nil {
		return fmt.Errorf("cloudevents: data_base64: %w", err)
	}
	data, err := base64.StdEncoding.Strict().AppendDecode(nil, s)
	if err != nil {
		return fmt.Errorf("cloudevents: data_base64: %w: %w", pulse.ErrInvalid, err)
	}
	if err := pulse.CheckJSON(data); err != nil {
		return fmt.Errorf("cloudevents: data_base64: %w", err)
	}
	r.env.Data = data
	return nil
}

func errTwoData() error {
	return fmt.Errorf("cloudevents: %w: the event has data and data_base64: keep one", pulse.ErrInvalid)
}

// finish checks what is required and fills in what follows from several attributes.
func (r *reader) finish() error {
	for _, a := range [...]struct {
		name string
		size int
	}{
		{attrSpecVersion, len(r.spec)}, {attrID, len(r.id)}, {attrSource, len(r.env.Source)}, {attrType, len(r.env.Name)},
	} {
		if a.size == 0 {
			return invalid(a.name, "it is missing, and every CloudEvent has one")
		}
	}
	if string(r.spec) != specVersion {
		return invalid(attrSpecVersion, "%.40q is not known: this is for %q", r.spec, specVersion)
	}
	if r.env.Data == nil {
		r.env.Data = json.RawMessage("null")
	}
	if r.typed != "" {
		if err := r.restoreTypes(); err != nil {
			return err
		}
	}
	var ok bool
	if r.env.ID, ok = parseUUID(r.id); !ok {
		r.env.ID = derivedID(r.env.Source, string(r.id))
		r.extensions = append(r.extensions, extension{[]byte(attrForeignID), r.rawID})
	}
	var err error
	r.env.Extensions, err = joinExtensions(r.extensions)
	return err
}

// restoreTypes makes numbers and booleans again of the extensions that were some before they were headers. In the JSON format
// others may have done so already.
func (r *reader) restoreTypes() error {
	all, err := sortExtensions(r.extensions) // there may be many, and as many names
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(r.typed, " ") {
		at, found := slices.BinarySearchFunc(all, []byte(name), func(e extension, name []byte) int { return bytes.Compare(e.name, name) })
		if !found || all[at].value == nil {
			return invalid(attrTyped, "%.40q is no extension of the event", name)
		}
		e := &all[at]
		if e.value[0] != '"' {
			continue
		}
		text := e.value[1 : len(e.value)-1]
		if len(text) == 0 || text[0] == '"' || text[0] == '\\' {
			return invalid(name, "%.40q is no number or boolean, as %s says", text, attrTyped)
		}
		if *e, err = keep(e.name, text); err != nil {
			return err
		}
	}
	return nil
}
