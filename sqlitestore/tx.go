package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edupulse-live/pulse"
)

// Tx returns an Appender that appends in a transaction of yours on the store's file, begun on your own connection: what is emitted through
// bus.In(sqlitestore.Tx(tx)) exists if and only if tx commits. Afterwards call bus.Wake, or use Do, which does all of it.
//
// Begin the transaction with BEGIN IMMEDIATE, by _txlock=immediate in the DSN of modernc.org/sqlite and mattn/go-sqlite3. One that
// begins by reading may find the file locked when it wants to emit, and can then only be rolled back. It is as durable as
// your connection's PRAGMA synchronous makes it; a store uses FULL. The Appender is used by one goroutine.
func Tx(tx *sql.Tx) pulse.Appender { return &userTx{tx: tx} }

type userTx struct {
	tx   *sql.Tx
	unit *unit // nil until the database is known to be a store
}

// Append is Store.Append as part of the transaction. After an error, unless it is about a lock, the transaction can go on without recs. It
// is over, and rolled back, when SQLite has undone all of it, as it may when the disk is full or fails.
func (u *userTx) Append(ctx context.Context, recs []pulse.Record) error {
	const op = "append in your transaction"
	if err := ctx.Err(); err != nil {
		return fail(op, err)
	}
	if err := u.append(recs); err != nil {
		if isBusy(err) {
			err = fmt.Errorf("%w: another connection is writing, and this transaction did not begin as a writer: "+
				"begin it with BEGIN IMMEDIATE (_txlock=immediate in the DSN) or use sqlitestore.Do: %w", pulse.ErrStore, err)
			return fmt.Errorf("sqlitestore: %s: %w", op, err)
		}
		return fail(op, err)
	}
	return nil
}

func (u *userTx) append(recs []pulse.Record) error {
	if u.unit == nil {
		known, err := identifyTx(u.tx)
		if err != nil {
			return err
		}
		u.unit = known
	}
	u.unit.now, u.unit.inserted = time.Now(), 0
	return u.unit.appendPart(recs)
}

// identifyTx finds out which store tx belongs to.
func identifyTx(tx *sql.Tx) (*unit, error) {
	var id identity
	var epoch int
	u := &unit{tx: tx, args: newArgs()}
	err := tx.QueryRow(`SELECT a.application_id, u.user_version,
		(SELECT value FROM settings WHERE name = 'origin'),
		(SELECT value FROM settings WHERE name = 'epoch'),
		(SELECT value FROM settings WHERE name = 'max_event_bytes')
		FROM pragma_application_id AS a, pragma_user_version AS u`).Scan(&id.application, &id.schema, &u.origin, &epoch, &u.limit)
	switch {
	case errors.Is(err, sql.ErrTxDone), err != nil && isBusy(err):
		return nil, err
	case err != nil && !strings.Contains(err.Error(), "settings"):
		return nil, fmt.Errorf("%w: this transaction is not on a Pulse store: %w", pulse.ErrInvalid, err)
	case err != nil, id.application != applicationID:
		return nil, fmt.Errorf("%w: this transaction is on another database than a Pulse store: begin it on the file given to sqlitestore.Open", pulse.ErrInvalid)
	case id.schema != latestSchema:
		return nil, fmt.Errorf("%w: the store has schema %d, this pulse knows %d: use one version everywhere", pulse.ErrInvalid, id.schema, latestSchema)
	}
	u.sql = newInserts(epoch)
	u.exec = func(query string, args ...any) (int64, error) {
		res, err := tx.Exec(query, args...)
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	}
	return u, nil
}
