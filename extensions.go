package pulse

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxVersion is what a CloudEvents integer holds.
const maxVersion = 1<<31 - 1

// ownAttributes have their place in the envelope; they cannot be extensions as well.
func ownAttributes() []string {
	return []string{
		"id", "source", "specversion", "type", "time", "subject", "data",
		"actor", "correlationid", "position", "dataversion", "commitment", "recordedat", "traceparent",
	}
}

// validateExtensions checks that extensions can travel as attributes of a CloudEvent: a flat object of lower-case
// letters and digits with strings, booleans and integers of 32 bits (CloudEvents 1.0.2, "Type System").
func validateExtensions(extensions json.RawMessage) error {
	if err := checkJSON(extensions); err != nil {
		return fmt.Errorf("extensions: %w", err)
	}
	var attributes map[string]json.RawMessage
	if err := json.Unmarshal(extensions, &attributes); err != nil || attributes == nil {
		return fmt.Errorf("%w: extensions must be one JSON object of CloudEvents attributes", ErrInvalid)
	}
	for name, value := range attributes {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return fmt.Errorf("%w: extension %q: names are of the letters a to z and digits", ErrInvalid, name)
		}
		if slices.Contains(ownAttributes(), name) {
			return fmt.Errorf("%w: extension %q: it has a place in the envelope: use the option for it", ErrInvalid, name)
		}
		if !isAttributeValue(string(value)) {
			return fmt.Errorf("%w: extension %q is %.40s: values are strings, booleans and integers of 32 bits", ErrInvalid, name, value)
		}
	}
	return nil
}

func isAttributeValue(v string) bool {
	_, err := strconv.ParseInt(v, 10, 32)
	return err == nil || v == "true" || v == "false" || strings.HasPrefix(v, `"`)
}
