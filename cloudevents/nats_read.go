package cloudevents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/edupulse-live/pulse"
)

// HeaderReader is the inverse of AppendHeaders and Encode: it reads an event, first the headers, one by one in any order, then the
// body, which in structured mode is all that counts. It may be used for one event after another; the zero value is ready.
type HeaderReader struct {
	r          reader
	buf        []byte // the names, and the values in double quotes
	err        error  // the first, for Envelope
	structured bool   // the body is the event in the JSON format
}

// Set takes in one header. Headers that are no attributes of the event are ignored. What is wrong with one Envelope says.
func (h *HeaderReader) Set(name, value string) {
	attr, ours := strings.CutPrefix(name, headerPrefix)
	encoded := true
	if !ours {
		switch {
		case strings.EqualFold(name, headerContentType):
			if media, _, _ := strings.Cut(value, ";"); strings.EqualFold(strings.TrimSpace(media), ContentType) {
				h.structured = true
				return
			}
			attr, encoded = attrDataContentType, false
		case len(name) > len(headerPrefix) && strings.EqualFold(name[:len(headerPrefix)], headerPrefix):
			attr = name[len(headerPrefix):]
		default:
			return
		}
	}
	if h.err == nil {
		h.err = h.set(strings.ToLower(attr), value, encoded)
	}
}

// set takes in the attribute of a name, which is percent-encoded or stands as it is.
func (h *HeaderReader) set(attr, value string, encoded bool) error {
	h.buf = append(h.buf, attr...)
	start := len(h.buf)
	name := h.buf[start-len(attr):]
	h.buf = append(h.buf, '"')
	var err error
	if encoded {
		h.buf, err = appendUnescaped(h.buf, value)
	} else {
		h.buf = append(h.buf, value...)
	}
	if err == nil {
		err = checkText(h.buf[start+1:])
	}
	if err != nil {
		return invalid(attr, "%v", err)
	}
	h.buf = append(h.buf, '"')
	raw := h.buf[start:]
	text := raw[1 : len(raw)-1]
	if bytes.IndexByte(text, '"') >= 0 || bytes.IndexByte(text, '\\') >= 0 {
		raw = quote(text)
	}
	return h.attribute(attr, name, text, raw)
}

// attribute takes in one attribute; name is attr, and raw is text as a JSON string.
func (h *HeaderReader) attribute(attr string, name, text, raw []byte) error {
	if attr == memberData || attr == memberDataBase64 {
		return invalid(attr, "no attribute may have this name: the data is the body")
	}
	bit := knownBit(name)
	if h.r.seen&bit != 0 {
		return twice(name)
	}
	h.r.seen |= bit
	switch {
	case bit == 0:
		return h.r.extension(name, raw, false)
	case len(text) == 0:
		return invalid(attr, "it is empty: give it a value or leave it out")
	case attr == attrVersion:
		n, err := parseInt(text, maxVersion)
		if err != nil {
			return invalid(attr, "%v", err)
		}
		h.r.env.Version = int(n)
		return nil
	}
	return h.r.attribute(name, text, raw)
}

// quote is text as a JSON string.
func quote(text []byte) []byte {
	b := []byte{'"'}
	for _, c := range text {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"')
}

// Envelope returns the event with the headers that were set and a body, which it keeps. A body without bytes is the payload null. The
// errors are those of Unmarshal. The reader is ready for the next event.
func (h *HeaderReader) Envelope(body []byte) (pulse.Envelope, error) {
	if h.structured { // what headers say is not for us (NATS binding 1.0.2, 3.2)
		*h = HeaderReader{buf: h.buf[:0]}
		return Unmarshal(body)
	}
	err := h.finish(body)
	env := h.r.env
	*h = HeaderReader{buf: h.buf[:0]}
	if err != nil {
		return pulse.Envelope{}, err
	}
	return env, nil
}

func (h *HeaderReader) finish(body []byte) error {
	if h.err != nil {
		return h.err
	}
	if len(body) > 0 {
		if err := pulse.CheckJSON(body); err != nil {
			return fmt.Errorf("cloudevents: data: %w", err)
		}
		h.r.env.Data = json.RawMessage(body)
	}
	return h.r.finish()
}

// appendUnescaped appends what the value of a header says, without double quotes around it.
func appendUnescaped(dst []byte, s string) ([]byte, error) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	plain := strings.IndexByte(s, '%')
	if plain < 0 {
		return append(dst, s...), nil
	}
	dst = append(dst, s[:plain]...)
	for i := plain; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			high, low := 0xff, 0xff
			if i+2 < len(s) {
				high, low = unhex(s[i+1]), unhex(s[i+2])
			}
			if high > 15 || low > 15 {
				return dst, errors.New("a percent sign is not followed by two hexadecimal digits: write it as %25")
			}
			c = byte(high<<4 | low)
			i += 2
		}
		dst = append(dst, c)
	}
	return dst, nil
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return 0xff
}
