package pulse

import (
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// maxVersion is what a CloudEvents integer holds.
const maxVersion = 1<<31 - 1

// maxExtensions limits extensions, in bytes of JSON. They travel as headers, of which NATS takes 64 KiB in a message; as headers
// they take up to three times as much.
const maxExtensions = 16 << 10

// Attributes that are extensions only when they are another's.
const (
	attrCausation   = "causationid"
	attrContentType = "datacontenttype"
)

// ownAttributes have their place in the envelope, or in its headers; they cannot be extensions as well.
func ownAttributes() []string {
	return []string{
		"id", "source", "specversion", "type", "time", "subject", "data", "cetyped",
		"actor", "correlationid", "position", "dataversion", "commitment", "recordedat", "traceparent",
	}
}

// normalExtensions checks that extensions can travel as attributes of a CloudEvent: a flat object of lower-case letters and
// digits with strings, booleans and integers of 32 bits (CloudEvents 1.0.2, "Type System"). It returns them as every format of
// CloudEvents gives them back, so that an event which comes home repeats what is stored: sorted by name, without white
// space, with no more escapes than needed; nil when there are none.
func normalExtensions(extensions json.RawMessage) (json.RawMessage, error) {
	if len(extensions) == 0 {
		return nil, nil
	}
	if len(extensions) > maxExtensions {
		return nil, fmt.Errorf("%w: extensions of %d bytes: use at most %d, and the payload for more", ErrInvalid, len(extensions), maxExtensions)
	}
	if err := checkJSON(extensions); err != nil {
		return nil, fmt.Errorf("extensions: %w", err)
	}
	var attributes map[string]json.RawMessage
	if err := json.Unmarshal(extensions, &attributes); err != nil || attributes == nil {
		return nil, fmt.Errorf("%w: extensions must be one JSON object of CloudEvents attributes", ErrInvalid)
	}
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return nil, fmt.Errorf("%w: extension %s: names are of the letters a to z and digits", ErrInvalid, clip(name))
		}
		if slices.Contains(ownAttributes(), name) {
			return nil, fmt.Errorf("%w: extension %q: it has a place in the envelope: use the option for it", ErrInvalid, name)
		}
		value, err := normalAttribute(name, attributes[name])
		if err != nil {
			return nil, err
		}
		b = append(append(append(append(b, `,"`...), name...), `":`...), value...)
	}
	if len(b) == 0 {
		return nil, nil
	}
	b[0] = '{'
	return append(b, '}'), nil
}

// hasAttribute tells whether normal extensions have an attribute.
func hasAttribute(extensions json.RawMessage, name string) bool {
	if extensions == nil {
		return false
	}
	var attributes map[string]json.RawMessage
	return json.Unmarshal(extensions, &attributes) == nil && attributes[name] != nil
}

// normalAttribute checks the value of one extension and writes it the shortest way.
func normalAttribute(name string, value json.RawMessage) ([]byte, error) {
	var text string
	switch v := string(value); {
	case v[0] == '"':
		if err := json.Unmarshal(value, &text); err != nil {
			return nil, fmt.Errorf("%w: extension %q: %w", ErrInvalid, name, err)
		}
		if err := validateText("extension "+strconv.Quote(name), text, maxExtensions); err != nil {
			return nil, err
		}
		value = quoteText(text)
	case v == "true" || v == "false":
	default:
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%w: extension %q is %.40s: values are strings, booleans and integers of 32 bits", ErrInvalid, name, value)
		}
		value = strconv.AppendInt(nil, n, 10) // -0 is 0
	}
	switch name {
	case attrCausation:
		if text == "" || isID(text) {
			return nil, fmt.Errorf("%w: extension %q is for ids of other systems: give the id of an event by CausedBy", ErrInvalid, name)
		}
	case attrContentType:
		if why := contentTypeFault(text); why != "" {
			return nil, fmt.Errorf("%w: extension %q: %s", ErrInvalid, name, why)
		}
	}
	return value, nil
}

// isID tells whether s is the text of an event's id: of others only the text is kept.
func isID(s string) bool {
	const size = 36
	id, err := uuid.Parse(s)
	return err == nil && len(s) == size && id != uuid.Nil && s == id.String()
}

// contentTypeFault says why a media type cannot be the content type of a payload, "" when it can: it is JSON in UTF-8, but not the
// kind that goes without saying, a header can have it as it stands, and it is not that of an event as a whole.
func contentTypeFault(mediaType string) string {
	base, params, err := mime.ParseMediaType(mediaType)
	charset := strings.ToLower(params["charset"])
	switch {
	case mediaType == "application/json":
		return "application/json is what payloads are: leave it out"
	case err != nil || strings.TrimSpace(mediaType) != mediaType || !strings.HasSuffix(base, "/json") && !strings.HasSuffix(base, "+json"):
		return fmt.Sprintf("%.60q is not JSON, and payloads are: wrap the content in a JSON string", mediaType)
	case strings.ContainsFunc(mediaType, func(r rune) bool { return r < ' ' || r > '~' }):
		return fmt.Sprintf("%.60q is not ASCII", mediaType)
	case strings.HasPrefix(base, "application/cloudevents"):
		return fmt.Sprintf("%.60q is how a whole event is sent: use another kind of JSON", mediaType)
	case charset != "" && charset != "utf-8" && charset != "us-ascii":
		return fmt.Sprintf("the charset is %.40q: payloads are UTF-8", charset)
	}
	return ""
}

// quoteText is text without control characters as a JSON string.
func quoteText(text string) []byte {
	b := make([]byte, 0, len(text)+2)
	b = append(b, '"')
	for i := range len(text) {
		if text[i] == '"' || text[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, text[i])
	}
	return append(b, '"')
}
