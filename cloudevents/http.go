package cloudevents

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/edupulse-live/pulse"
)

// Mode is how an event travels in a message with headers (HTTP binding 1.0.2, 1.3; NATS binding 1.0.2, 1.3).
type Mode int

// The modes.
const (
	Binary     Mode = iota // attributes are headers that begin with "ce-", the body is the data byte for byte
	Structured             // the body is the event in the JSON format, as Marshal writes it
)

// SetRequest makes r carry env: it sets the body, its length, the content type and, in binary mode, the ce- headers; those of an
// event that r carried before are removed. The body can be sent again after a redirect. It keeps env.Data until the request is sent. The
// errors are those of Marshal; r is as it was then.
func SetRequest(r *http.Request, env pulse.Envelope, mode Mode) error {
	headers, body, err := Encode(&env, mode)
	if err != nil {
		return err
	}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	setHeaders(r.Header, headers)
	r.ContentLength = int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, err = r.GetBody()
	return err
}

// WriteResponse answers with env and the status 200. With one of the errors of SetRequest nothing was written; other errors are those of
// writing the body.
func WriteResponse(w http.ResponseWriter, env pulse.Envelope, mode Mode) error {
	headers, body, err := Encode(&env, mode)
	if err != nil {
		return err
	}
	setHeaders(w.Header(), headers)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err = w.Write(body)
	return err
}

// Encode returns the headers and the body of a message that carries env, over HTTP or NATS. In binary mode the body is env.Data. The errors
// are those of Marshal.
func Encode(env *pulse.Envelope, mode Mode) (headers []Header, body []byte, err error) {
	switch mode {
	case Binary:
		if headers, err = AppendHeaders(nil, env); err != nil {
			return nil, nil, err
		}
		if err := pulse.CheckJSON(env.Data); err != nil {
			return nil, nil, fmt.Errorf("cloudevents: data: %w", err)
		}
		return headers, env.Data, nil
	case Structured:
		body, err = Marshal(*env)
		return []Header{{headerContentType, ContentType}}, body, err
	}
	return nil, nil, fmt.Errorf("cloudevents: %w: there is no mode %d: use Binary or Structured", pulse.ErrInvalid, mode)
}

// setHeaders replaces the event that h has.
func setHeaders(h http.Header, headers []Header) {
	for name := range h {
		if isAttribute(name) {
			delete(h, name)
		}
	}
	for _, one := range headers {
		h.Set(one.Name, one.Value)
	}
}
