package pgstore

import (
	"fmt"
	"strings"

	"github.com/edupulse-live/pulse"
)

// grantsSQL is what an application needs. Rows of events can be added and read, not changed; all that purges and reconciles is for the
// owner of the tables.
const grantsSQL = `GRANT USAGE ON SCHEMA "%[1]s" TO %[2]s;
REVOKE ALL ON ALL TABLES IN SCHEMA "%[1]s" FROM %[2]s;
GRANT SELECT, INSERT ON @events, @positions TO %[2]s;
GRANT SELECT, INSERT, DELETE ON @ticks, @progress, @lookup, @inbox TO %[2]s;
GRANT SELECT, INSERT, UPDATE, DELETE ON @subscriptions, @leases, @deliveries TO %[2]s;
GRANT SELECT, UPDATE (epoch, timeline) ON @settings TO %[2]s;
GRANT USAGE ON SEQUENCE @event_units, @lease_tokens TO %[2]s;
GRANT EXECUTE ON FUNCTION @refuse, @first_id, @append_one, @append_all, @tick, @near TO %[2]s;
`

// Grants returns the SQL by which the owner of a log's tables lets a role work with them: emit, read, and run subscriptions. The role
// may not change or delete an event, and not migrate. Rights that it had on these tables before are taken back. An empty schema is the default.
//
// Reconcile is for the owner.
func Grants(schema Schema, role string) (string, error) {
	if schema == "" {
		schema = DefaultSchema
	}
	if err := schema.check(); err != nil {
		return "", fail("grants", err)
	}
	if role == "" || strings.ContainsRune(role, 0) {
		return "", fail("grants", fmt.Errorf("%w: role %q: give the name of the role that the application connects as", pulse.ErrInvalid, role))
	}
	quoted := `"` + strings.ReplaceAll(role, `"`, `""`) + `"`
	return fmt.Sprintf(strings.ReplaceAll(grantsSQL, "@", `"%[1]s".`), schema, quoted), nil
}
