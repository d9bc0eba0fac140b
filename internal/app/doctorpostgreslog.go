package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// neededRights are those without which something does not work: table or sequence, and privileges, as Grants gives them.
const neededRights = `('events', 'SELECT'), ('events', 'INSERT'), ('positions', 'SELECT'), ('positions', 'INSERT'), ('ticks', 'SELECT'), ('ticks', 'INSERT'), ('ticks', 'DELETE'),
	('settings', 'SELECT'), ('progress', 'SELECT'), ('progress', 'INSERT'), ('progress', 'DELETE'), ('lookup', 'SELECT'), ('lookup', 'INSERT'), ('lookup', 'DELETE'), ('inbox', 'SELECT'),
	('inbox', 'INSERT'), ('inbox', 'DELETE'), ('subscriptions', 'SELECT'), ('subscriptions', 'INSERT'), ('subscriptions', 'UPDATE'), ('subscriptions', 'DELETE'),
	('leases', 'SELECT'), ('leases', 'INSERT'), ('leases', 'UPDATE'), ('leases', 'DELETE'), ('deliveries', 'SELECT'), ('deliveries', 'INSERT'), ('deliveries', 'UPDATE'), ('deliveries', 'DELETE')`

func (p *postgresDoctor) rights(ctx context.Context) error {
	var user, missing string
	var owner bool
	schema := string(p.spec.Schema())
	err := p.conn.QueryRow(ctx, `SELECT current_user::text, pg_has_role(nspowner, 'USAGE'), array_to_string(ARRAY(
			SELECT privilege || ' on ' || name FROM (VALUES `+neededRights+`) AS r (name, privilege) WHERE NOT has_table_privilege(format('%I.%I', nspname, name), privilege)
			UNION ALL
			SELECT 'USAGE on sequence ' || name FROM (VALUES ('event_units'), ('lease_tokens')) AS s (name) WHERE NOT has_sequence_privilege(format('%I.%I', nspname, name), 'USAGE')
			UNION ALL
			SELECT 'UPDATE on settings (' || name || ')' FROM (VALUES ('epoch'), ('timeline')) AS c (name)
			WHERE NOT has_column_privilege(format('%I.settings', nspname), name, 'UPDATE')
			UNION ALL
			SELECT 'EXECUTE on function ' || proname FROM pg_proc p WHERE pronamespace = n.oid
			AND proname IN ('refuse', 'first_id', 'append_one', 'append_all', 'tick', 'near') AND NOT has_function_privilege(p.oid, 'EXECUTE')
			ORDER BY 1
		), ', ') FROM pg_namespace n WHERE nspname = $1::text`, schema).Scan(&user, &owner, &missing)
	switch {
	case err != nil:
		return err
	case missing != "":
		p.found("rights", Fail, "the user %s lacks %s: run the SQL that pulse migrate --grants %[1]s prints, as the owner of the tables", user, missing)
	case owner:
		p.found("rights", OK, "the user %s owns the schema %s: it may also migrate and reconcile, which applications need not", user, schema)
	default:
		p.found("rights", OK, "the user %s has what an application needs in schema %s", user, schema)
	}
	return nil
}

// triggers keep events as they are.
func (p *postgresDoctor) triggers(ctx context.Context) error {
	var missing []string
	var role string
	err := p.conn.QueryRow(ctx, `SELECT current_setting('session_replication_role'), ARRAY(SELECT name FROM (VALUES ('events_frozen'), ('events_stay')) AS r (name) WHERE NOT EXISTS (
		SELECT FROM pg_trigger WHERE tgrelid = $1::text::regclass AND tgname = name AND tgenabled IN ('O', 'A')))`, p.spec.table("events")).Scan(&role, &missing)
	switch {
	case err != nil:
		return err
	case len(missing) > 0:
		p.found("triggers", Fail, "the trigger %s on events is gone or disabled, so that events can be changed: enable it, or make it again by the SQL that pulse migrate --print prints",
			strings.Join(missing, " and "))
	case role != "origin":
		p.found("triggers", Fail, "session_replication_role is %s, under which events can be changed: set it to origin for this role", role)
	default:
		p.found("triggers", OK, "events can be neither changed nor deleted")
	}
	return nil
}

// epoch looks whether the log is in the cluster it was written in, and what waits for a position.
func (p *postgresDoctor) epoch(ctx context.Context) error {
	var epoch int
	var foreign, promoted bool
	err := p.conn.QueryRow(ctx, p.sql(`SELECT s.epoch, s.system_identifier <> c.system_identifier, NOT pg_is_in_recovery() AND s.timeline <>
		CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END FROM @settings s, pg_control_system() c`)).
		Scan(&epoch, &foreign, &promoted)
	switch {
	case err != nil:
		return err
	case foreign:
		var waiting int64
		if err := p.conn.QueryRow(ctx, p.sql(`SELECT (SELECT count(*) FROM @events) - (SELECT count(*) FROM @positions)`)).Scan(&waiting); err != nil {
			return err
		}
		p.found("epoch", Fail, "the log was restored or copied from another cluster, and %s for a position: see that only one copy is in use, then run pulse reconcile", waits(waiting))
		return nil
	case promoted:
		p.found("epoch", OK, "epoch %d; the server was promoted since, the next who reads the log begins epoch %d", epoch, epoch+1)
	default:
		p.found("epoch", OK, "epoch %d, in the cluster that the log was written in", epoch)
	}
	return p.waiting(ctx)
}

// waiting counts what was committed since somebody last gave positions: whoever reads the log does.
func (p *postgresDoctor) waiting(ctx context.Context) error {
	var n, seconds int64
	err := p.conn.QueryRow(ctx, p.sql(`WITH last AS (SELECT snap FROM @ticks ORDER BY n DESC LIMIT 1), fresh AS (
			SELECT recorded_at FROM @events e WHERE e.epoch = (SELECT xid_epoch FROM @settings) AND e.xid >= (SELECT pg_snapshot_xmax(snap) FROM last)
			UNION ALL
			SELECT recorded_at FROM @events e WHERE e.epoch = (SELECT xid_epoch FROM @settings) AND e.xid IN (SELECT pg_snapshot_xip(snap) FROM last)
		) SELECT count(*), coalesce(extract(epoch FROM now() - min(recorded_at)), 0)::bigint FROM fresh`)).Scan(&n, &seconds)
	switch {
	case err != nil:
		return err
	case n > 0 && time.Duration(seconds)*time.Second >= p.long:
		p.found("positions", Warn, "%s for a position, the oldest for %s: nothing has read the log meanwhile; run pulse serve, or the application that subscribes",
			waits(n), time.Duration(seconds)*time.Second)
	default:
		p.found("positions", OK, "%s for one", waits(n))
	}
	return nil
}

func waits(n int64) string {
	if n == 1 {
		return "1 event waits"
	}
	return fmt.Sprintf("%d events wait", n)
}

// sql is a statement with @ replaced by the schema.
func (p *postgresDoctor) sql(statement string) string {
	return strings.ReplaceAll(statement, "@", pgx.Identifier{string(p.spec.Schema())}.Sanitize()+".")
}
