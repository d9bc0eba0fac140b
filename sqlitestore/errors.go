package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/edupulse-live/pulse"
)

// fail says what op could not do, as one of pulse's errors. Nothing was stored, unless err says so itself.
func fail(op string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("sqlitestore: %s: %w: nothing was done: %w", op, pulse.ErrStore, err)
	case errors.Is(err, sql.ErrTxDone), errors.Is(err, sql.ErrConnDone), isClosedDB(err):
		return fmt.Errorf("sqlitestore: %s: %w: %w", op, pulse.ErrClosed, err)
	}
	if code, ok := codeOf(err); ok {
		return fmt.Errorf("sqlitestore: %s: %w: %s: %w", op, pulse.ErrStore, explain(code), err)
	}
	if ours(err) {
		return fmt.Errorf("sqlitestore: %s: %w", op, err)
	}
	return fmt.Errorf("sqlitestore: %s: %w: %w", op, pulse.ErrStore, err)
}

// ours tells an error that says already which of pulse's errors it is.
func ours(err error) bool {
	for _, target := range []error{
		pulse.ErrInvalid, pulse.ErrTooLarge, pulse.ErrStore, pulse.ErrUnknown, pulse.ErrConflict,
		pulse.ErrClosed, pulse.ErrFenced, pulse.ErrHeld, pulse.ErrNotFound,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// failCommit is fail for an error of COMMIT itself. When the file could not be written or synced, whether the commit is found
// after a restart is not known. With a full disk it is: the mark of the commit is the last thing written.
func failCommit(op string, err error) error {
	if code, ok := codeOf(err); ok && code&0xff == lib.SQLITE_IOERR {
		return fmt.Errorf("sqlitestore: %s: %w: the disk failed in COMMIT; look at it, then emit again under the same id: %w", op, pulse.ErrUnknown, err)
	}
	return fail(op, err)
}

// codeOf returns SQLite's extended result code.
func codeOf(err error) (int, bool) {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code(), true
	}
	return 0, false
}

// explain says in one sentence what a result code means and what to do.
func explain(code int) string {
	switch code {
	case lib.SQLITE_READONLY_DIRECTORY:
		return "the directory is read-only: SQLite needs to create files beside the database"
	case lib.SQLITE_IOERR_SHMSIZE:
		return "the -shm file could not grow, probably because the disk is full: free some space and try again"
	}
	switch code & 0xff {
	case lib.SQLITE_FULL:
		return "disk full: nothing was stored; free some space and try again"
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_PROTOCOL:
		return fmt.Sprintf("another process kept the file locked for more than %s: find out which, and why", busyTimeout)
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return "the file is damaged: keep a copy of it with its -wal file, then restore a backup or try the sqlite3 command .recover"
	case lib.SQLITE_READONLY, lib.SQLITE_PERM:
		return "the file or its directory is read-only: give this process the right to write both"
	case lib.SQLITE_CANTOPEN:
		return "the file or those beside it (-wal, -shm) could not be opened: this process needs to read and write them and the directory"
	case lib.SQLITE_IOERR:
		return "the disk failed: look at the system's log"
	case lib.SQLITE_TOOBIG:
		return "a value is too long for SQLite"
	}
	return "SQLite refused"
}

// isBusy tells that another connection holds the lock, in the words of any SQLite driver: the user's transaction may be of another.
func isBusy(err error) bool {
	if code, ok := codeOf(err); ok {
		return code&0xff == lib.SQLITE_BUSY || code&0xff == lib.SQLITE_LOCKED
	}
	return strings.Contains(err.Error(), "database is locked")
}

// isClosedDB tells the error of a closed sql.DB, which has no name of its own.
func isClosedDB(err error) bool { return err != nil && err.Error() == "sql: database is closed" }
