package pulse

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Store is the port to the durable log, the one thing a Bus cannot do without. A store that also
// implements Transactor, Leases, Subscriptions and Deliveries can keep subscriptions.
type Store interface {
	// Append stores recs as one unit, durable when it returns nil. It gives each event RecordedAt by the store's clock. A store that knows
	// the positions by then sets Position and RecordedAt of recs, those of what is new, so that it need not be read for what was
	// just stored; Position stays 0 otherwise. It does not retry, keeps nothing of recs, and may run concurrently. A record whose id is stored
	// already and that Repeats what is stored is no error and changes nothing; one that says something else
	// fails the unit with a ConflictError. A record of another Origin fails it with ErrInvalid, one over MaxBytes with
	// ErrTooLarge. When another transaction is just storing one of the ids it waits for its end, and may give up with ErrBusy. When the outcome is not known the error is an ErrUnknown, after Close an ErrClosed; every other error means nothing was stored.
	Append(ctx context.Context, recs []Record) error

	// Read returns the envelopes that q selects, in order of position, and where the next Read goes on.
	// It sees everything appended before it was called, except events still waiting for a position.
	// The caller owns the page.
	Read(ctx context.Context, q Query) (Page, error)

	// Info describes the log as it is now. It also gives committed events their positions, in stores where that is
	// a step of its own: after it returns, all events whose Append returned before the call are at or below Head.
	Info(ctx context.Context) (Info, error)
}

// Info describes a log.
type Info struct {
	Origin   string   // name of the log, given when it was created; part of every digest
	Epoch    int      // counts restores and failovers
	Head     Position // the newest position; 0 when empty
	MaxBytes int      // size limit of one event, as Envelope.Size counts

	// Newest are the last events up to Head, without a gap, if the store had them at hand; they save readers a Read. They are the caller's.
	Newest []Envelope
}

// Query selects envelopes of a log. The zero Query selects all. Conditions are joined by "and".
type Query struct {
	Name        string    // event name or pattern ("lesson.*", "lesson.>"); "" for all
	Names       []string  // further names or patterns: an event of any of them (and of Name, when given) is selected
	Key         string    // ordering key; "" for all
	Actor       uuid.UUID // uuid.Nil for all
	Correlation string    // "" for all
	Since       time.Time // occurred at or after; zero for no bound
	Until       time.Time // occurred before; zero for no bound
	After       Position  // only positions greater than this
	Through     Position  // only positions up to and including this; 0 for no bound
	Limit       int       // envelopes in one page at most; 0 lets the store choose
}

// Page is what one Read returns.
type Page struct {
	Envelopes []Envelope
	// Next is the After of the next Read: every selected envelope up to it is in this page or an earlier one. It grows while
	// there is more to look at, and equals the query's After when there is nothing beyond it yet.
	Next Position
}

// Parallel is the ability of a store whose large Appends are faster side by side than one after the other.
type Parallel interface {
	// ParallelAppends is the number of batches of emits that a bus keeps in flight at most, from 1. It does not change. Small
	// batches do not leave side by side.
	ParallelAppends() int
}

// Hinter is the ability of a store that several processes use to tell the others that something was emitted, or is about to be. Hints
// may be lost, late and too many: they save waiting, and nothing depends on them.
type Hinter interface {
	// Hint gives the others a hint. It returns at once and may join several into one.
	Hint()
	// Listen calls heard for each hint of others until ctx ends or it can hear no more; then it returns why.
	Listen(ctx context.Context, heard func()) error
}

// Expecter is the ability of a store to give Info.Newest without reading what it saw on its way into the log.
type Expecter interface {
	// Expect tells it that recs were appended in a transaction, which may commit or not. They stay the caller's.
	Expect(recs []Record)
}

// Appender appends to a log: a Store, or a Tx inside a transaction.
type Appender interface {
	Append(ctx context.Context, recs []Record) error
}

// Transactor is the ability of a store to run a function in one of its transactions.
type Transactor interface {
	// Transact begins a transaction, runs fn and commits if fn returns nil; it rolls back on an error and on a
	// panic. It returns fn's error as it is, and otherwise errors as Append does. The Tx is dead afterwards: its methods return ErrClosed.
	Transact(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error
}

// Tx is a transaction of a store. It is used by one goroutine.
type Tx interface {
	// Append is Store.Append as part of the transaction. Of records whose ids are new (IDNew) a store may find out only at the commit
	// that one cannot be stored; they stay as they are until then.
	Append(ctx context.Context, recs []Record) error

	// Mark enters deliveries into the inbox of the lease's subscription and generation. It returns those that were
	// there already, or lie at or below the cursor and have no delivery row: their effect exists and must not happen
	// again. ErrFenced when the lease is no longer the current one, also at the commit when it was lost in between.
	Mark(ctx context.Context, lease Lease, positions []Position) (seen []Position, err error)

	// Unwrap returns the adapter's own transaction, a *sql.Tx for example.
	Unwrap() any
}

// Lease is the right to be the one active instance of a subscription.
type Lease struct {
	Name       string
	Holder     string // what a Bus names itself: its machine, process and a random part, with / between them
	Token      int64  // grows with each change of holder; fences the writes of former holders
	Generation int    // of the subscription when the lease was taken; writes of an older generation are fenced too
	Revision   int64  // of the subscription when the lease was taken or last renewed: grown, the instance reloads
	Unclean    bool   // the former holder did not Release: its last deliveries may have been interrupted
}

// Leases lets one instance at a time be active for a name. Time is the store's, not the caller's.
type Leases interface {
	// Acquire takes or renews the lease of a registered subscription for ttl. While another holder's is not expired: ErrHeld;
	// without a registration: ErrNotFound. A token is never given twice for a name, not even after a Drop. An expired
	// lease that nobody took is still current.
	// Renewing keeps Token, Generation and Unclean as they were, brings Revision up to date, and is ErrFenced when the lease was lost.
	// Pass the zero Lease but for Name and Holder to take, the lease itself to renew.
	Acquire(ctx context.Context, lease Lease, ttl time.Duration) (Lease, error)
	// Release gives the lease back cleanly. Releasing a lost lease does nothing.
	Release(ctx context.Context, lease Lease) error
}

// Subscriptions keeps what is known of each subscription.
type Subscriptions interface {
	// Register creates the subscription with its cursor before r.Start, or returns what is stored when it exists: of an
	// existing one only the source is changed. A new one that starts beyond the next event of the log is an ErrInvalid.
	Register(ctx context.Context, r Registration) (SubscriptionState, error)
	// States returns all subscriptions by name.
	States(ctx context.Context) ([]SubscriptionState, error)
	// Control changes a subscription. ErrNotFound when there is none; ErrInvalid for a replay from beyond the next event;
	// ErrFenced when it was changed since c was decided on, see Control.Seen.
	Control(ctx context.Context, name string, c Control) error
}

// Registration is what a subscription is registered with.
type Registration struct {
	Name   string
	Start  Position // the first position to be handled; Now means after the present head
	Source string   // the destination whose broker feeds it, "" for the log
}

// SubscriptionState is what the store keeps of one subscription, and counts of its deliveries.
type SubscriptionState struct {
	Name        string
	Source      string    // the destination whose broker feeds it, "" for the log
	Generation  int       // from 1; Replay starts a new one
	Cursor      Cursor    // all up to here is handled, or has a delivery row
	Revision    int64     // grows with each Control and Settle: the active instance learns it by its lease and reloads
	PausedUntil time.Time // zero: not paused. Forever: until resumed by hand
	PauseReason string
	Holder      string // of the current lease, "" when none

	Head    Position // of the log, for lag
	Retries int      // deliveries that will be tried: status retry or running, or waiting with none before them in their lane
	Waiting int      // deliveries behind another one of their lane
	Blocked int      // lanes with a delivery that was tried and holds up the others
	Dead    int      // dead letters
}

// Lag is the number of positions the subscription's cursor is behind the log. Negative when the cursor is
// ahead of the log, which is never normal.
func (s *SubscriptionState) Lag() int64 { return int64(s.Head - s.Cursor.Position) }

// Control is a change to a subscription. Exactly one of Pause, Resume, Replay and Drop is set.
type Control struct {
	Pause  *Pause  // stop handling
	Resume bool    // end a pause
	Replay *Replay // start a new generation
	Drop   bool    // remove the subscription and all it left: cursor, inbox, deliveries

	// Seen is the Revision the subscription had when the change was decided on: should it have another one now, nothing
	// changes and the error is an ErrFenced. Nil: it does not matter.
	Seen *int64
}

// Pause stops a subscription until a time, Forever or until resumed.
type Pause struct {
	Until  time.Time
	Reason string
}

// Replay starts a new generation of a subscription: its deliveries are removed, its cursor set before From, and
// handlers really run again.
type Replay struct {
	From Position // first position to handle again; Beginning for all
}

// Deliveries keeps what changes about deliveries, and the progress of the subscription. The log stays append-only.
type Deliveries interface {
	// Advance writes p as one unit. It survives a crash of the process when it returns; after a crash of the
	// machine an older state may come back, never a mix. ErrFenced when the lease is no longer the current one. Rows that were
	// dropped go when the cursor has passed them.
	Advance(ctx context.Context, lease Lease, p Progress) error
	// List returns deliveries in order of position.
	List(ctx context.Context, q DeliveryQuery) ([]DeliveryState, error)
	// Settle changes the dead letters q selects and returns how many. It grows the subscription's Revision.
	Settle(ctx context.Context, q DeliveryQuery, a Settlement) (int, error)
}

// Progress is one step of a subscription.
type Progress struct {
	Cursor Cursor          // the new cursor; Position 0 leaves it
	Put    []DeliveryState // rows to insert or replace, by position
	Remove []Position      // rows to remove
}

// DeliveryStatus says what will happen to a delivery that has a row.
type DeliveryStatus string

// The statuses of a delivery row.
const (
	StatusRetry   DeliveryStatus = "retry"   // will be tried at Due
	StatusRunning DeliveryStatus = "running" // was handed to the handler: written first where a crash must be noticed
	StatusWaiting DeliveryStatus = "waiting" // behind another delivery of its key, not tried yet
	StatusDead    DeliveryStatus = "dead"    // a dead letter: gave up
	StatusDropped DeliveryStatus = "dropped" // was a dead letter, ahead of the cursor: not to be handled when the cursor comes to it
)

// DeliveryState is a row: one delivery that is not simply handled. It refers to the log, it does not copy the event.
type DeliveryState struct {
	Subscription string
	Position     Position
	Status       DeliveryStatus
	Lane         string    // key it holds up or waits for; "" when it blocks nobody
	Name         string    // of the event, for people and filters
	Key          string    // of the event, for people and filters
	Attempt      int       // attempts made
	Due          time.Time // when to try next
	Error        string    // of the last attempt
	Stack        string    // of the last panic, "" when it was none
	FailedAt     time.Time // of the last attempt
}

// DeliveryQuery selects delivery rows.
type DeliveryQuery struct {
	Subscription string           // "" for all
	Positions    []Position       // nil for all
	Statuses     []DeliveryStatus // nil for all
	Name         string           // event name or pattern; "" for all
	After        Position         // only positions greater than this
	Blocking     bool             // only rows that have a Lane
	Limit        int              // 0 for no limit
}

// Indexer is the ability of a store to fill an index of the log behind it, off the way of Emit. The bus calls it when idle.
type Indexer interface {
	// Index adds up to limit further events and reports whether there are more.
	Index(ctx context.Context, limit int) (more bool, err error)
}

// Settlement is what a person decides about dead letters.
type Settlement string

// The settlements.
const (
	SettleRetry Settlement = "retry" // try again now, attempts counted anew, keeping its place in its key
	SettleSkip  Settlement = "skip"  // let its key go on without it; the dead letter stays as a record
	SettleDrop  Settlement = "drop"  // let its key go on and remove the dead letter: at once, or ahead of the cursor as StatusDropped when that has passed it
)

// Where a subscription starts, besides a position. Now: with what is emitted after its registration.
const (
	Now       Position = -1
	Beginning Position = 1
)

// Forever is the end of a pause that only Resume ends.
var Forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
