package pgstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse"
)

// Reconcile makes a log usable that was restored or copied into another cluster, where the transaction ids in it mean nothing: Info refuses to
// sequence it until then. It begins a new epoch, gives the events that had no position yet their positions, in the order in which they were
// emitted, and returns how many there were. It waits for transactions that have appended. An Append waits for it up to three seconds, one of
// several events a tenth of that, and then is an ErrBusy; in a transaction of yours it waits as long as your lock_timeout lets it. On a log
// that needs nothing of that it does nothing.
//
// What the restored copy lacks it cannot know: readers and brokers that are ahead of the log find that out by their cursors.
func (s *Store) Reconcile(ctx context.Context) (sequenced int, err error) {
	err = s.write(ctx, "reconcile", func(tx *lazyTx) error {
		var same bool
		var epoch int
		err := tx.QueryRow(ctx, s.schema.sql(`SELECT s.system_identifier = c.system_identifier, s.epoch + 1
			FROM pg_control_system() c, @settings s FOR UPDATE OF s`)).Scan(&same, &epoch)
		if err != nil || same {
			return err
		}
		sequenced, err = s.reconcile(ctx, tx, epoch)
		return err
	})
	if err != nil {
		return 0, err
	}
	return sequenced, nil
}

func (s *Store) reconcile(ctx context.Context, tx pgx.Tx, epoch int) (sequenced int, err error) {
	var tag pgconn.CommandTag
	for _, step := range []string{
		// The lock that this takes is held until the commit: all that was appended is visible to the next steps, and what
		// comes later is of the new epoch.
		fmt.Sprintf("ALTER TABLE @events ALTER COLUMN epoch SET DEFAULT %d", epoch),
		// A copy may have been made of the rows first and of the sequences before.
		"SELECT setval('@event_units', greatest((SELECT last_value FROM @event_units), (SELECT max(id) FROM @events) + " + fmt.Sprint(insertChunk) + "))",
		"SELECT setval('@lease_tokens', greatest((SELECT last_value FROM @lease_tokens), (SELECT max(token) FROM @leases)))",
		"SELECT setval(pg_get_serial_sequence('@progress', 'n'), greatest((SELECT max(n) FROM @progress), 1))",
		fmt.Sprintf("UPDATE @settings SET epoch = %d, xid_epoch = %[1]d, timeline = "+timelineSQL+
			", system_identifier = (SELECT system_identifier FROM pg_control_system())", epoch),
		// Positions that are given anew may be other events' than those that the index was made of, where it was copied later.
		"DELETE FROM @lookup WHERE position > (SELECT coalesce(max(position), 0) FROM @positions)",
		"DELETE FROM @progress WHERE kind = 'index' AND position > (SELECT coalesce(max(position), 0) FROM @positions)",
		`INSERT INTO @positions (position, event)
			SELECT coalesce((SELECT max(position) FROM @positions), 0) + row_number() OVER (ORDER BY e.id), e.id
			FROM @events e WHERE NOT EXISTS (SELECT FROM @positions p WHERE p.event = e.id)`,
	} {
		if tag, err = tx.Exec(ctx, s.schema.sql(step)); err != nil {
			return 0, err
		}
	}
	_, err = tx.Exec(ctx, s.schema.sql(`INSERT INTO @ticks (n, head, snap)
		SELECT (SELECT max(n) + 1 FROM @ticks), coalesce((SELECT max(position) FROM @positions), 0), pg_current_snapshot()`))
	return int(tag.RowsAffected()), err
}

// refuseForeign is the error of a log whose cluster is not the one it was written in.
func refuseForeign() error {
	return fmt.Errorf("%w: the database was restored or copied into another cluster, where the transaction ids in it mean nothing: "+
		"make sure that only one copy is written to, then call Reconcile", pulse.ErrDiverged)
}
