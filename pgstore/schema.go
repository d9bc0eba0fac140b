package pgstore

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/edupulse-live/pulse"
)

// Schema is the PostgreSQL schema that the tables of a log are in: a lower-case name.
type Schema string

// DefaultSchema is used when no other is named.
const DefaultSchema Schema = "pulse"

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// check refuses a name that would have to be quoted.
func (s Schema) check() error {
	if !schemaName.MatchString(string(s)) || strings.HasPrefix(string(s), "pg_") {
		return fmt.Errorf("%w: schema %.80q: use lower-case letters, digits and underscores, not beginning with pg_", pulse.ErrInvalid, string(s))
	}
	return nil
}

// sql is a statement with @ replaced by the schema.
func (s Schema) sql(statement string) string {
	return strings.ReplaceAll(statement, "@", `"`+string(s)+`".`)
}
