package app

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// What the doctor thinks of as a long transaction, and as near to the wraparound of transaction ids, of which a cluster has 2^31.
const (
	longTransaction = 5 * time.Minute
	allXIDs         = 1<<31 - 1
	warnXIDs        = 500_000_000
	failXIDs        = 100_000_000
)

// postgresDoctor looks at the server under a log.
type postgresDoctor struct {
	*doctor
	spec StoreSpec
	conn *pgx.Conn
	long time.Duration // a transaction that is open for longer is told of
}

// postgres looks at the server, and at the tables with its own eyes, before the store opens: one that does not open needs it most. It
// reports whether the store is worth opening.
func (d *doctor) postgres(ctx context.Context, spec StoreSpec, long time.Duration) (open bool) {
	pending, err := PlanMigrations(ctx, spec)
	if err != nil && ctx.Err() == nil {
		d.found("store", Fail, "%v", err)
	}
	if err != nil || d.err != nil {
		return false
	}
	err = withConnection(ctx, spec, func(conn *pgx.Conn) error {
		p := &postgresDoctor{d, spec, conn, long}
		checks := []func(context.Context) error{p.server, p.durability, p.vacuum, p.wraparound, p.transactions, p.prepared, p.slots, p.standbys}
		if len(pending) == 0 {
			checks = append(checks, p.rights, p.triggers, p.epoch)
		}
		for _, check := range checks {
			if err := check(ctx); err != nil || d.err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		d.found("server", Fail, "%v", explainOpen(spec, err, "look at the server"))
	}
	if len(pending) > 0 && pending[0].Version > 1 {
		d.found("store", Fail, "the tables in schema %s are of version %d: run pulse migrate", spec.Schema(), pending[0].Version-1)
		return false
	}
	return d.err == nil
}

func (p *postgresDoctor) server(ctx context.Context) error {
	var version, encoding string
	var size int64
	var standby, readOnly bool
	err := p.conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_encoding'), pg_database_size(current_database()),
		pg_is_in_recovery(), current_setting('transaction_read_only')::bool`).Scan(&version, &encoding, &size, &standby, &readOnly)
	switch {
	case err != nil:
		return err
	case standby:
		p.found("server", Fail, "PostgreSQL %s is a standby, where nothing can be emitted: name the primary, or both with target_session_attrs=read-write", version)
	case readOnly:
		p.found("server", Fail, "transactions are read-only here: set default_transaction_read_only = off for this role and database")
	default:
		p.found("server", OK, "PostgreSQL %s, %s, the database has %s", version, encoding, showBytes(uint64(size)))
	}
	return nil
}

// durability is about settings under which a power loss takes what was acknowledged.
func (p *postgresDoctor) durability(ctx context.Context) error {
	var fsync, pages bool
	var commit string
	err := p.conn.QueryRow(ctx, `SELECT current_setting('fsync')::bool, current_setting('full_page_writes')::bool, current_setting('synchronous_commit')`).
		Scan(&fsync, &pages, &commit)
	if err != nil {
		return err
	}
	if fsync && pages && commit != "off" {
		p.found("durability", OK, "what is committed survives a power loss")
	}
	if !fsync {
		p.found("durability", Warn, "fsync is off: a power loss may destroy the whole cluster, set fsync = on and restart")
	}
	if !pages {
		p.found("durability", Warn, "full_page_writes is off: a power loss may tear pages, set it on unless the disk cannot tear them")
	}
	if commit == "off" {
		p.found("durability", Warn, "synchronous_commit is off for this role: Emit turns it on, but what is emitted in a transaction of yours may be lost, set it on")
	}
	return nil
}

func (p *postgresDoctor) vacuum(ctx context.Context) error {
	var autovacuum, counts bool
	if err := p.conn.QueryRow(ctx, `SELECT current_setting('autovacuum')::bool, current_setting('track_counts')::bool`).Scan(&autovacuum, &counts); err != nil {
		return err
	}
	if !autovacuum || !counts {
		p.found("autovacuum", Warn, "autovacuum or track_counts is off: tables grow and reading becomes slow, set both on")
		return nil
	}
	p.found("autovacuum", OK, "it runs")
	return nil
}

// wraparound is that of the whole cluster: any database stops all.
func (p *postgresDoctor) wraparound(ctx context.Context) error {
	var database string
	var age int64
	err := p.conn.QueryRow(ctx, `SELECT datname, greatest(age(datfrozenxid), mxid_age(datminmxid))::bigint FROM pg_database ORDER BY 2 DESC LIMIT 1`).Scan(&database, &age)
	if err != nil {
		return err
	}
	left := allXIDs - age
	verdict := verdictOnXIDs(left)
	if verdict != OK {
		p.found("wraparound", verdict, "%d million transactions are left before the cluster stops, for the sake of database %s: run VACUUM FREEZE there, and end what holds it up: "+
			"long transactions, prepared ones, replication slots", left/1e6, database)
		return nil
	}
	p.found("wraparound", OK, "%d million transactions are left", left/1e6)
	return nil
}

// verdictOnXIDs judges how many transactions are left.
func verdictOnXIDs(left int64) Verdict {
	switch {
	case left < failXIDs:
		return Fail
	case left < warnXIDs:
		return Warn
	}
	return OK
}

// transactions that are open keep what they may still see from being vacuumed. For giving positions they do not matter.
func (p *postgresDoctor) transactions(ctx context.Context) error {
	var all bool
	if err := p.conn.QueryRow(ctx, `SELECT pg_has_role('pg_read_all_stats', 'USAGE')`).Scan(&all); err != nil {
		return err
	}
	rows, err := p.conn.Query(ctx, `SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(state, ''), extract(epoch FROM now() - xact_start)::bigint
		FROM pg_stat_activity WHERE xact_start < now() - make_interval(secs => $1::float8) AND pid <> pg_backend_pid() AND backend_type = 'client backend'
		AND datname = current_database() ORDER BY xact_start LIMIT 3`, p.long.Seconds())
	if err != nil {
		return err
	}
	found := false
	var pid, seconds int64
	var user, name, state string
	_, err = pgx.ForEachRow(rows, []any{&pid, &user, &name, &state, &seconds}, func() error {
		found = true
		p.found("transactions", Warn, "process %d (user %s, application %q, %s) has had a transaction open for %s, and nothing that it may still see is vacuumed: "+
			"end it, by SELECT pg_terminate_backend(%d), or set idle_in_transaction_session_timeout", pid, user, name, state, time.Duration(seconds)*time.Second, pid)
		return nil
	})
	switch {
	case err != nil || found:
	case all:
		p.found("transactions", OK, "none has been open for %s", p.long)
	default:
		p.found("transactions", OK, "none of this role has been open for %s; to see others, GRANT pg_read_all_stats to it", p.long)
	}
	return err
}

func (p *postgresDoctor) prepared(ctx context.Context) error {
	rows, err := p.conn.Query(ctx, `SELECT gid, owner::text, extract(epoch FROM now() - prepared)::bigint FROM pg_prepared_xacts
		WHERE database = current_database() AND prepared < now() - make_interval(secs => $1::float8) ORDER BY prepared LIMIT 3`, p.long.Seconds())
	if err != nil {
		return err
	}
	var gid, owner string
	var seconds int64
	tag, err := pgx.ForEachRow(rows, []any{&gid, &owner, &seconds}, func() error {
		p.found("prepared", Warn, "the prepared transaction %q of %s has waited for %s: COMMIT PREPARED or ROLLBACK PREPARED it; until then its locks are held and its events not in the log",
			gid, owner, time.Duration(seconds)*time.Second)
		return nil
	})
	if err == nil && tag.RowsAffected() == 0 {
		p.found("prepared", OK, "no prepared transaction waits")
	}
	return err
}

// slots that nobody reads keep the log of the server, until its disk is full.
func (p *postgresDoctor) slots(ctx context.Context) error {
	rows, err := p.conn.Query(ctx, `SELECT slot_name::text, coalesce(wal_status, ''), coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
		ELSE pg_current_wal_lsn() END, restart_lsn), 0)::bigint FROM pg_replication_slots WHERE NOT active ORDER BY slot_name`)
	if err != nil {
		return err
	}
	var slot, status string
	var kept int64
	tag, err := pgx.ForEachRow(rows, []any{&slot, &status, &kept}, func() error {
		p.found("replication", Warn, "nobody reads the replication slot %s (%s), which keeps %s on the disk: start its reader, or SELECT pg_drop_replication_slot('%s')",
			slot, status, showBytes(uint64(max(0, kept))), slot)
		return nil
	})
	if err == nil && tag.RowsAffected() == 0 {
		p.found("replication", OK, "no slot is without a reader")
	}
	return err
}

// standbys that commits wait for, and that are not there.
func (p *postgresDoctor) standbys(ctx context.Context) error {
	var names, commit string
	var sees bool
	var synchronous int
	err := p.conn.QueryRow(ctx, `SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit'), pg_has_role('pg_read_all_stats', 'USAGE'),
		(SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))`).Scan(&names, &commit, &sees, &synchronous)
	if err == nil && names != "" && sees && synchronous == 0 {
		p.found("standbys", Fail, "commits wait for one of synchronous_standby_names (%s), and none is connected: start it, or empty that setting and reload", names)
	}
	return err
}
