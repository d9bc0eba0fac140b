package pulse

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Errors to branch on with errors.Is. Each is wrapped in a text that says what happened and what to do.
var (
	// ErrInvalid: the event, an option or a configuration was refused before anything was tried.
	ErrInvalid = errors.New("invalid")
	// ErrSerialization: the event could not be turned into strict JSON, or a stored payload not into its type.
	ErrSerialization = errors.New("serialization failed")
	// ErrTooLarge: the encoded event exceeds the store's size limit.
	ErrTooLarge = errors.New("event too large")
	// ErrStore: the store failed; the event is not stored.
	ErrStore = errors.New("store failed")
	// ErrBroker: a broker failed. Emit never returns it.
	ErrBroker = errors.New("broker failed")
	// ErrUnknown: whether the event was stored is not known (connection lost in COMMIT, caller cancelled
	// after hand-off). Emitting the same id again is safe.
	ErrUnknown = errors.New("outcome unknown")
	// ErrConflict: the id is taken by an event that says something else.
	ErrConflict = errors.New("event id already used")
	// ErrBusy: another transaction that has not ended is storing the same id, and the store does not wait any longer. The event is
	// not stored; emitting it again is safe.
	ErrBusy = errors.New("busy with another transaction")
	// ErrClosed: the bus, the store or the transaction is closed.
	ErrClosed = errors.New("closed")
	// ErrFenced: another instance took over the lease, or the subscription was changed meanwhile.
	ErrFenced = errors.New("fenced: another instance took over")
	// ErrHeld: another instance holds the lease.
	ErrHeld = errors.New("lease held by another instance")
	// ErrNotFound: no such subscription, delivery or event.
	ErrNotFound = errors.New("not found")
	// ErrDiverged: a reader's cursor does not match the log: the log was restored, replaced or cut.
	ErrDiverged = errors.New("cursor and log diverged")
)

// ConflictError tells which id was already taken. It is an ErrConflict.
type ConflictError struct {
	ID       uuid.UUID
	Position Position // of the event that has the id; 0 while it has none
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("event id %s already belongs to a different event at position %d: emit under a new id, or with the same content", e.ID, e.Position)
}

// Is makes a ConflictError an ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }
