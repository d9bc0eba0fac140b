package pgstore

import (
	"fmt"
	"strings"

	"github.com/edupulse-live/pulse"
)

// grantsSQL is what an application needs. Rows of events can be added and read, not changed; all that purges and reconciles is for the
// owner of the tables, who would lose that by these grants: what takes rights away refuses it. It is one statement, as psql commits each: applications
// that run have their rights all the time.
const grantsSQL = `DO $pulse$
BEGIN
    IF (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '@events'::regclass) = %[3]s THEN
        RAISE EXCEPTION 'the role %% owns the tables of the log, and would lose rights: grant them to the role that applications connect as', %[3]s;
    END IF;
    REVOKE ALL ON ALL TABLES IN SCHEMA "%[1]s" FROM %[2]s;
    GRANT USAGE ON SCHEMA "%[1]s" TO %[2]s;
    GRANT SELECT, INSERT ON @events, @positions TO %[2]s;
    GRANT SELECT, INSERT, DELETE ON @ticks, @progress, @lookup, @inbox TO %[2]s;
    GRANT SELECT, INSERT, UPDATE, DELETE ON @subscriptions, @leases, @deliveries TO %[2]s;
    GRANT SELECT, UPDATE (epoch, timeline) ON @settings TO %[2]s;
    GRANT USAGE ON SEQUENCE @event_units, @lease_tokens TO %[2]s;
    GRANT EXECUTE ON FUNCTION @refuse, @first_id, @append_one, @append_all, @tick, @near TO %[2]s;
END
$pulse$;
`

// Grants returns the SQL by which the owner of a log's tables lets a role work with them: emit, read, and run subscriptions. The role
// may not change or delete an event, and not migrate. Rights that it had on these tables before are taken back; the owner's are not, for whom the SQL
// fails. An empty schema is the default.
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
	identifier := `"` + strings.ReplaceAll(role, `"`, `""`) + `"`
	literal := "'" + strings.ReplaceAll(role, "'", "''") + "'"
	return fmt.Sprintf(strings.ReplaceAll(grantsSQL, "@", `"%[1]s".`), schema, identifier, literal), nil
}
