package cloudevents

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/edupulse-live/pulse"
)

// ReadRequest reads the event that r carries, in binary or structured mode, and all of the body. maxBytes limits the body and, in
// binary mode, the ce- headers together: a larger event is an ErrTooLarge (413 Content Too Large). Otherwise the error is an
// ErrSerialization when the body is not strict JSON, see pulse.CheckJSON, an ErrInvalid when the request carries no CloudEvent 1.0
// that fits an envelope (both 400 Bad Request), or what reading the body returned.
//
// Batches are an ErrInvalid, and so is a body with a Content-Encoding. In structured mode ce- headers are ignored: what they say, the
// body says.
func ReadRequest(r *http.Request, maxBytes int64) (pulse.Envelope, error) {
	structured, err := contentMode(r.Header)
	if err != nil {
		return pulse.Envelope{}, err
	}
	var h HeaderReader
	if !structured {
		size, err := readHeaders(&h, r.Header)
		if err != nil {
			return pulse.Envelope{}, err
		}
		if maxBytes -= size; maxBytes < 0 {
			return pulse.Envelope{}, tooLarge()
		}
	}
	if r.ContentLength > maxBytes {
		return pulse.Envelope{}, tooLarge()
	}
	body, err := readBody(r.Body, maxBytes)
	if err != nil {
		return pulse.Envelope{}, err
	}
	switch {
	case structured:
		return Unmarshal(body)
	case len(body) > 0 && len(r.Header["Content-Type"]) == 0:
		return pulse.Envelope{}, invalid(attrDataContentType, "the header Content-Type is missing, and there is a body: say that it is %s", jsonContent)
	}
	return h.Envelope(body)
}

func tooLarge() error {
	return fmt.Errorf("cloudevents: %w: raise the limit, or keep large content elsewhere and send a reference", pulse.ErrTooLarge)
}

func readBody(body io.Reader, maxBytes int64) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(body, max(maxBytes, maxBytes+1))) // there is no number after the largest
	if _, limited := errors.AsType[*http.MaxBytesError](err); limited {
		return nil, tooLarge()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("cloudevents: read the body: %w", err)
	case int64(len(b)) > maxBytes:
		return nil, tooLarge()
	}
	return b, nil
}

// contentMode finds out how the event is written.
func contentMode(h http.Header) (structured bool, err error) {
	types := h["Content-Type"]
	if len(types) > 1 {
		return false, twice([]byte(attrDataContentType))
	}
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return false, fmt.Errorf("cloudevents: %w: the body is encoded (Content-Encoding %.40q): send it as it is", pulse.ErrInvalid, encoding)
	}
	if len(types) == 0 {
		return false, nil
	}
	media, params, err := mime.ParseMediaType(types[0])
	if err != nil {
		return false, invalid(attrDataContentType, "the header Content-Type is %.60q, which is no media type", types[0])
	}
	if charset := params["charset"]; !isUTF8(charset) {
		return false, invalid(attrDataContentType, "the charset is %.40q: send UTF-8", charset)
	}
	switch {
	case media == ContentType:
		return true, nil
	case media == "application/cloudevents-batch+json":
		return false, fmt.Errorf("cloudevents: %w: batches of events are not read: send them one by one", pulse.ErrInvalid)
	case strings.HasPrefix(media, "application/cloudevents"):
		return false, fmt.Errorf("cloudevents: %w: the format %.60q is not known: send %s, or the data with ce- headers", pulse.ErrInvalid, media, ContentType)
	}
	return false, nil
}

// isAttribute tells whether the header of a name is an attribute of an event.
func isAttribute(name string) bool {
	return len(name) > len(headerPrefix) && strings.EqualFold(name[:len(headerPrefix)], headerPrefix)
}

// readHeaders takes in the attributes, and returns their size in bytes.
func readHeaders(r *HeaderReader, h http.Header) (size int64, err error) {
	for name, values := range h {
		if !isAttribute(name) {
			continue
		}
		attr := strings.ToLower(name[len(headerPrefix):])
		switch {
		case len(values) != 1:
			return 0, twice([]byte(attr))
		case attr == attrDataContentType:
			return 0, invalid(attr, "over HTTP it is the header Content-Type")
		}
		value, err := plainHeader(values[0])
		if err != nil {
			return 0, invalid(attr, "%v", err)
		}
		size += int64(len(name) + len(value))
		r.Set(name, value)
	}
	if types := h["Content-Type"]; len(types) > 0 {
		r.Set(headerContentType, types[0])
	}
	return size, nil
}

// plainHeader takes away the double quotes that older versions of the binding asked for, with the backslashes between them (HTTP
// binding 1.0.2, 3.1.3.2; RFC 7230, 3.2.6). Percent-encoding stays, and so does UTF-8 that was not encoded, as the Go SDK sends it.
func plainHeader(s string) (string, error) {
	if !strings.Contains(s, `"`) {
		return s, nil
	}
	b, inside := make([]byte, 0, len(s)+2), false
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			inside = !inside
			continue
		}
		if inside && s[i] == '\\' && i+1 < len(s) {
			i++
		}
		if s[i] == '"' {
			b = append(b, "%22"...)
		} else {
			b = append(b, s[i])
		}
	}
	if inside {
		return "", errors.New("a double quote is not closed: write it as %22 if it belongs to the value")
	}
	return string(b), nil
}
