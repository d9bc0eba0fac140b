package cloudevents

import (
	"strconv"
	"strings"
	"time"

	"github.com/edupulse-live/pulse"
)

// What the names of attributes have before them in an AMQP message (AMQP binding 1.0.2, 3.1.3.1). The first is written, as clients
// of JMS need it; both are read.
const (
	PropertyPrefix = "cloudEvents_"
	propertyColon  = "cloudEvents:"
)

// The application properties that tell where in its log an event stands, and which it is.
const (
	PropertyPosition   = PropertyPrefix + attrPosition
	PropertyCommitment = PropertyPrefix + attrCommitment
	PropertyID         = PropertyPrefix + attrID
)

// SetProperties puts the attributes of env into props as the AMQP binding of CloudEvents has them in binary mode: application
// properties of AMQP 1.0, which are the headers of AMQP 0.9.1. Names are those of the table in the package comment behind "cloudEvents_",
// values are string, bool or int64. It returns the content type of the message, whose body is env.Data, of which is only checked that
// there is some. The errors are those of AppendHeaders; props is as it was then.
func SetProperties(props map[string]any, env *pulse.Envelope) (contentType string, err error) {
	w := newHeaderWriter(true)
	defer writers.Put(w)
	if err := w.write(env); err != nil {
		return "", err
	}
	values, start, typed := string(w.buf), 0, ""
	for i, name := range w.names {
		value := values[start:w.ends[i]]
		start = w.ends[i]
		switch name {
		case headerContentType:
			contentType = value
		case headerPrefix + attrTyped:
			typed = value
		case headerPrefix + attrVersion:
			props[PropertyPrefix+attrVersion] = int64(env.Version)
		default:
			props[propertyName(name)] = value
		}
	}
	setTyped(props, typed)
	return contentType, nil
}

// propertyName is what the attribute of a header is called here.
func propertyName(header string) string {
	switch header {
	case "ce-specversion":
		return PropertyPrefix + attrSpecVersion
	case "ce-id":
		return PropertyID
	case "ce-source":
		return PropertyPrefix + attrSource
	case "ce-type":
		return PropertyPrefix + attrType
	case "ce-subject":
		return PropertyPrefix + attrSubject
	case "ce-time":
		return PropertyPrefix + attrTime
	case "ce-actor":
		return PropertyPrefix + attrActor
	case "ce-correlationid":
		return PropertyPrefix + attrCorrelation
	case "ce-causationid":
		return PropertyPrefix + attrCausation
	case HeaderPosition:
		return PropertyPosition
	case "ce-recordedat":
		return PropertyPrefix + attrRecordedAt
	case "ce-traceparent":
		return PropertyPrefix + attrTrace
	case HeaderCommitment:
		return PropertyCommitment
	}
	return PropertyPrefix + header[len(headerPrefix):]
}

// setTyped makes numbers and booleans of the extensions whose names are listed: AMQP has types.
func setTyped(props map[string]any, names string) {
	for name := range strings.FieldsSeq(names) {
		property := PropertyPrefix + name
		text, _ := props[property].(string)
		if n, err := strconv.ParseInt(text, 10, 32); err == nil {
			props[property] = n
			continue
		}
		props[property] = text == "true"
	}
}

// SetProperty takes in an application property of an AMQP 1.0 message, or a header of one of AMQP 0.9.1. Values may be strings, as all
// attributes can be written, or of AMQP's own types. A property that is null counts as left out, those that are no attributes of an event are ignored. What is
// wrong with one Envelope says. The content type is set by Set, as the header content-type.
func (h *HeaderReader) SetProperty(name string, value any) {
	attr, ours := strings.CutPrefix(name, PropertyPrefix)
	if !ours {
		if attr, ours = strings.CutPrefix(name, propertyColon); !ours {
			return
		}
	}
	if h.err != nil || value == nil {
		return
	}
	switch v := value.(type) {
	case string:
		h.err = h.set(attr, v, false)
	case time.Time:
		h.err = h.set(attr, v.UTC().Format(time.RFC3339Nano), false)
	case bool:
		h.err = h.literal(attr, strconv.FormatBool(v))
	default:
		n, ok := integer(value)
		if !ok {
			h.err = invalid(attr, "it is a %T: attributes are strings, booleans, integers and times", value)
			return
		}
		h.err = h.literal(attr, strconv.FormatInt(n, 10))
	}
}

// literal takes in an attribute that is a number or a boolean. One we know is read from its text; an integer that is none for
// CloudEvents, which has those of 32 bits, is kept as a string.
func (h *HeaderReader) literal(attr, text string) error {
	_, err := checkValue(attr, []byte(text))
	if err != nil || knownBit([]byte(attr)) != 0 {
		return h.set(attr, text, false)
	}
	h.buf = append(h.buf, attr...)
	name := h.buf[len(h.buf)-len(attr):]
	return h.r.extension(name, []byte(text), false)
}

// integer is the value of any of AMQP's integers.
func integer(value any) (n int64, ok bool) {
	switch v := value.(type) {
	case int:
		return int64(v), true
	case int8:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	}
	return 0, false
}
