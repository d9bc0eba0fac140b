package cloudevents

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/edupulse-live/pulse"
)

// extension is an attribute that goes into Extensions, with its value as it stands in the JSON; nil where it was null.
type extension struct{ name, value []byte }

// keep checks that an attribute may be kept in Extensions: it has no place in the envelope, and a value that CloudEvents has.
func keep(name, value []byte) (extension, error) {
	if err := checkName(name); err != nil {
		return extension{}, err
	}
	attr := string(name)
	text, err := checkValue(attr, value)
	if err != nil {
		return extension{}, err
	}
	switch attr {
	case attrSpecVersion, attrID, attrSource, attrType, attrSubject, attrTime, attrActor, attrCorrelation, attrPosition,
		attrVersion, attrRecordedAt, attrTrace, attrCommitment, memberData:
		return extension{}, invalid(attr, "it belongs in the envelope's own field, not in its extensions")
	case attrTyped:
		return extension{}, invalid(attr, "the name is taken: in headers it tells which extensions are no strings")
	case attrCausation:
		if _, ours := parseUUID(text); ours || len(text) == 0 {
			return extension{}, invalid(attr, "a UUID belongs in the envelope's own field, not in its extensions")
		}
	case attrDataContentType:
		if err := checkContentType(string(text)); err != nil {
			return extension{}, err
		}
	}
	return extension{name, value}, nil
}

// checkValue checks that value is one of an attribute: string, boolean, or integer of 32 bits (JSON format 1.0.2, 2.2). It
// returns what a string says.
func checkValue(attr string, value []byte) (text []byte, err error) {
	switch c := value[0]; {
	case c == '"':
		if text, err = unquote(value); err == nil {
			err = checkText(text)
		}
		if err != nil {
			return nil, invalid(attr, "%v", err)
		}
		return text, nil
	case c == '-' || c >= '0' && c <= '9':
		if _, err := strconv.ParseInt(string(value), 10, 32); err == nil && pulse.CheckJSON(value) == nil {
			return nil, nil
		}
	case string(value) == "true" || string(value) == "false":
		return nil, nil
	}
	return nil, invalid(attr, "%.40q is no string, boolean or integer of 32 bits: other types are not for attributes", value)
}

// checkContentType checks that mediaType is JSON in UTF-8, another kind than the one Pulse writes by itself, and one that a
// header says without encoding and a reader of headers does not take for an event in structured mode. Emit has the same rules.
func checkContentType(mediaType string) error {
	if mediaType == jsonContent {
		return invalid(attrDataContentType, "%s is written anyway: leave it out of the extensions", jsonContent)
	}
	if err := checkPrintable(mediaType); err != nil {
		return invalid(attrDataContentType, "%v", err)
	}
	base, params, err := mime.ParseMediaType(mediaType)
	switch charset := params["charset"]; {
	case err != nil || strings.TrimSpace(mediaType) != mediaType || !strings.HasSuffix(base, "/json") && !strings.HasSuffix(base, "+json"):
		return invalid(attrDataContentType, "%.60q is not JSON, and payloads are: wrap the content in a JSON string", mediaType)
	case strings.HasPrefix(base, "application/cloudevents"):
		return invalid(attrDataContentType, "%.60q is how a whole event is sent: use another kind of JSON", mediaType)
	case !isUTF8(charset):
		return invalid(attrDataContentType, "the charset is %.40q: payloads are UTF-8", charset)
	}
	return nil
}

// isUTF8 tells whether text in a charset is UTF-8; "" is what JSON has when nothing is said.
func isUTF8(charset string) bool {
	return charset == "" || strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "us-ascii")
}

// checkPrintable checks that s is printable ASCII, which is all that is the same for everybody in a header.
func checkPrintable(s string) error {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return fmt.Errorf("byte %#02x is not printable ASCII, which is all that a header has", s[i])
		}
	}
	return nil
}

// sortExtensions sorts by name and refuses a name that is there twice.
func sortExtensions(all []extension) ([]extension, error) {
	slices.SortFunc(all, func(a, b extension) int { return bytes.Compare(a.name, b.name) })
	for i := 1; i < len(all); i++ {
		if bytes.Equal(all[i-1].name, all[i].name) {
			return nil, twice(all[i].name)
		}
	}
	return all, nil
}

func twice(name []byte) error {
	return fmt.Errorf("cloudevents: %w: attribute %.40q is there twice: keep one", pulse.ErrInvalid, name)
}

// splitExtensions reads the object of Extensions, sorted by name.
func splitExtensions(object []byte) ([]extension, error) {
	var all []extension
	m := members{data: object}
	for m.next() {
		e, err := keep(m.name, m.value)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	if m.err != nil {
		return nil, m.err
	}
	return sortExtensions(all)
}

// joinExtensions makes the object of Extensions, nil when there are none.
func joinExtensions(all []extension) (json.RawMessage, error) {
	all, err := sortExtensions(all)
	if err != nil {
		return nil, err
	}
	b := []byte{'{'}
	for _, e := range all {
		if e.value == nil {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, e.name...)
		b = append(b, `":`...)
		b = append(b, e.value...)
	}
	if len(b) == 1 {
		return nil, nil
	}
	return append(b, '}'), nil
}
