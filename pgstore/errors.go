package pgstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse"
)

// Errors of PostgreSQL that decide what happens next.
const (
	uniqueViolation      = "23505"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"

	// What the server says of a named statement that is not what it was, before it carries it out.
	unknownStatement = "26000"
	statementExists  = "42P05"
	planChanged      = "0A000"

	insufficientPrivilege = "42501"

	// These end a connection between two statements, so nothing was committed by what comes after them.
	idleInTransaction = "25P03"
	idleSession       = "57P05"

	// Raised by refuse.
	codeFenced   = "PU001"
	codeOrigin   = "PU002"
	codeTooLarge = "PU003"
	codeEncoding = "PU005"
)

// failure says what could not be done.
type failure struct {
	op  string
	err error
}

// Error is one line, also of an error of the driver, which has a line for each address it tried, with TLS and without.
func (f *failure) Error() string {
	var lines []string
	for line := range strings.Lines(f.err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return "pgstore: " + f.op + ": " + strings.ReplaceAll(strings.Join(lines, "; "), ":; ", ": ")
}

func (f *failure) Unwrap() error { return f.err }

// fail says what op could not do, as one of pulse's errors. Nothing was stored, unless err says so itself.
func fail(op string, err error) error {
	var pg *pgconn.PgError
	var said *failure
	switch {
	case errors.As(err, &said) && said.op == op:
		return err
	case ours(err):
	case errors.As(err, &pg):
		err = fmt.Errorf("%w: %s: %w", kindOf(pg), explain(pg), err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: nothing was done: %w", pulse.ErrStore, err)
	case errors.Is(err, pgx.ErrTxClosed), errors.Is(err, sql.ErrTxDone), errors.Is(err, sql.ErrConnDone):
		err = fmt.Errorf("%w: the transaction is over: emit before you commit or roll back: %w", pulse.ErrClosed, err)
	case errors.Is(err, pgx.ErrTxCommitRollback):
		err = fmt.Errorf("%w: a statement of the transaction had failed, so it was rolled back: %w", pulse.ErrStore, err)
	default:
		err = fmt.Errorf("%w: the server cannot be reached: %w", pulse.ErrStore, err)
	}
	return &failure{op, err}
}

// failSent is fail for an error of something that commits by itself, and may have reached the server.
func failSent(op string, err error) error {
	if !lost(err) {
		return fail(op, err)
	}
	return &failure{op, fmt.Errorf("%w: the connection was lost or the wait ended before the server answered; do it again under the same id: %w",
		pulse.ErrUnknown, err)}
}

// lost reports whether err leaves open if the server committed. An error that the server itself reported does not, unless it ended the
// connection with it, or a pooler says that it did.
func lost(err error) bool {
	var pg *pgconn.PgError
	var early *beforeCommit
	var connecting *pgconn.ConnectError
	var preparing pgx.ErrPreprocessingBatch
	switch {
	case err == nil, ours(err), errors.As(err, &early), errors.As(err, &connecting), errors.As(err, &preparing), errors.Is(err, errNoConnection):
		return false
	case errors.As(err, &pg):
		severity := cmp.Or(pg.SeverityUnlocalized, pg.Severity) // poolers give the second alone
		ended := severity == "FATAL" || severity == "PANIC" || strings.HasPrefix(pg.Code, "08")
		return ended && pg.Code != idleInTransaction && pg.Code != idleSession || pg.Code == "40003"
	}
	return !errors.Is(err, pgx.ErrTxClosed) && !errors.Is(err, pgx.ErrTxCommitRollback)
}

// notCommitted marks an error from before anything that commits was sent: whatever it is, nothing was stored. pgconn.SafeToRetry would say
// so too, but it says it as well of a connection that was lost while the answer to COMMIT was awaited.
func notCommitted(err error) error {
	if ours(err) {
		return err
	}
	return &beforeCommit{err}
}

// beforeCommit is an error from before COMMIT.
type beforeCommit struct{ error }

func (e *beforeCommit) Unwrap() error { return e.error }

// sendable returns an error when nothing can be sent on conn any more.
func sendable(ctx context.Context, conn *pgx.Conn) error {
	if err := ctx.Err(); err != nil {
		return notCommitted(err)
	}
	if conn.IsClosed() {
		return notCommitted(errNoConnection)
	}
	if conn.PgConn().IsBusy() {
		return errRowsOpen
	}
	return nil
}

// errRowsOpen is what pgx calls a busy connection.
var errRowsOpen = fmt.Errorf("%w: rows of a query are open in this transaction: read them to the end, or close them, before anything else is sent", pulse.ErrInvalid)

// errNoConnection marks an error from before there was a connection to send anything on.
var errNoConnection = errors.New("no connection")

// ours tells an error that says already which of pulse's errors it is.
func ours(err error) bool {
	for _, target := range []error{
		pulse.ErrInvalid, pulse.ErrTooLarge, pulse.ErrStore, pulse.ErrUnknown, pulse.ErrConflict, pulse.ErrSerialization,
		pulse.ErrBusy, pulse.ErrClosed, pulse.ErrFenced, pulse.ErrHeld, pulse.ErrNotFound, pulse.ErrDiverged,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// hasCode reports whether the server answered with one of the codes.
func hasCode(err error, codes ...string) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	for _, code := range codes {
		if pg.Code == code {
			return true
		}
	}
	return false
}

// kindOf is the error of pulse for an error of the server.
func kindOf(pg *pgconn.PgError) error {
	switch pg.Code {
	case codeFenced:
		return pulse.ErrFenced
	case codeOrigin, codeEncoding, "22021", "22P05", "22P02", "22P03", insufficientPrivilege, "3D000", "28000", "28P01":
		return pulse.ErrInvalid
	case codeTooLarge, "54000":
		return pulse.ErrTooLarge
	case lockNotAvailable:
		return pulse.ErrBusy
	}
	return pulse.ErrStore
}

// explainEncoding says what to do about connections with a client encoding that is not the one texts are sent in.
func explainEncoding(encoding string) string {
	return "the connection has the client encoding " + encoding + ", in which the server would take texts for others: set client_encoding to UTF8, " +
		"in the DSN or for the role"
}

// explain says in one sentence what an error of the server means and what to do.
func explain(pg *pgconn.PgError) string {
	switch pg.Code {
	case codeFenced:
		return "the lease is not the current one: stop, and take it again"
	case codeOrigin:
		return "the event was made for another log than " + pg.Message + ": make its digests with the origin that Info gives"
	case codeTooLarge:
		return "the event is larger than the limit of this log, " + pg.Message + " bytes"
	case codeEncoding:
		return explainEncoding(pg.Message)
	case lockNotAvailable:
		return "another transaction that has not ended holds what this one needs, perhaps the same event id: end it, then try again"
	case "25P02":
		return "an earlier statement of the transaction had failed: roll it back"
	case "25006", "55000":
		return "the server is read-only, a standby perhaps: use the primary"
	case "42P01", "3F000", "42883":
		return "the tables are not there: open a store on this database and schema first"
	case unknownStatement, statementExists:
		return "a pooler seems to stand between that gives each transaction another connection: put default_query_exec_mode=exec into the DSN"
	case insufficientPrivilege:
		return "this role may not do that: let the owner of the tables grant it what Grants returns"
	case "3D000":
		return "the database is not there: create it with ENCODING 'UTF8', or name another one"
	case "28000", "28P01":
		return "the server does not let this role in: look at user and password in the DSN, and at pg_hba.conf"
	case "53100":
		return "disk full: nothing was stored; free some space and try again"
	case "53300":
		return "too many connections: lower the pools' sizes or use a pooler"
	case "22021", "22P05", "22P02", "22P03":
		return "a value is not what PostgreSQL takes: UTF-8 without zero bytes, and valid JSON"
	case uniqueViolation:
		switch pg.ConstraintName {
		case "events_event_id":
			return "the id is stored already: emit it outside a batch, which compares"
		case "events_pkey":
			return "the sequences are behind the rows, as after a logical copy: run pulse reconcile"
		}
	}
	return "PostgreSQL refused"
}
