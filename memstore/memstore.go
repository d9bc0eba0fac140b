// Package memstore keeps a log in memory. It is the reference adapter: the simplest store that keeps the whole contract
// of pulse.Store and of the optional ports beside it, against which the other stores are compared. It serves tests, simulations and
// first programs; nothing in it survives the process.
//
// It starts no goroutine, does no input or output, and knows the time only by its clock, so that it runs under
// testing/synctest. Every write can be made to fail before or after it was done, see Hook.
package memstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// Options of a Store. The zero value works.
type Options struct {
	Origin        string           // name of the log; "pulse/mem" when empty
	MaxEventBytes int              // size limit of one event, as Envelope.Size counts; 512 KiB when 0
	Clock         func() time.Time // the store's clock; time.Now when nil
	Hook          Hook             // called around each write; none when nil

	// LateSequencing leaves appended events without a position until the next Info, as in stores
	// where that is a step of its own. Positions still follow the order of the commits.
	LateSequencing bool
}

// Store is a log in memory. Its methods may be called concurrently.
type Store struct {
	opts Options // constant, with the defaults filled in

	mu        sync.Mutex // guards all below; not held while a hook, the clock or a caller's function runs
	closed    bool
	epoch     int
	log       []*pulse.Record             // log[i] has the position i+1
	waiting   []*pulse.Record             // committed, in order, without a position yet
	byID      map[uuid.UUID]*pulse.Record // log and waiting
	subs      map[string]*subscription    // by name
	lastToken int64                       // of all leases ever taken: a token never comes twice, even after a Drop
	claims    map[claim]*Tx               // what open transactions are about to write
}

// A Store has every ability that a store can have.
var (
	_ pulse.Store         = (*Store)(nil)
	_ pulse.Transactor    = (*Store)(nil)
	_ pulse.Leases        = (*Store)(nil)
	_ pulse.Subscriptions = (*Store)(nil)
	_ pulse.Deliveries    = (*Store)(nil)
	_ pulse.Tx            = (*Tx)(nil)
)

// New returns an empty store. A nil opts means the defaults.
func New(opts *Options) *Store {
	s := &Store{
		epoch:  1,
		byID:   make(map[uuid.UUID]*pulse.Record),
		subs:   make(map[string]*subscription),
		claims: make(map[claim]*Tx),
	}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Origin == "" {
		s.opts.Origin = "pulse/mem"
	}
	if s.opts.MaxEventBytes == 0 {
		s.opts.MaxEventBytes = 512 << 10
	}
	if s.opts.Clock == nil {
		s.opts.Clock = time.Now
	}
	return s
}

// Close makes every later call return ErrClosed. Transactions that are open cannot commit any more.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// Info describes the log, after giving positions to the events that wait for one.
func (s *Store) Info(ctx context.Context) (pulse.Info, error) {
	if err := s.enter(ctx, "info"); err != nil {
		return pulse.Info{}, err
	}
	defer s.mu.Unlock()
	s.sequence()
	return pulse.Info{Origin: s.opts.Origin, Epoch: s.epoch, Head: s.head(), MaxBytes: s.opts.MaxEventBytes}, nil
}

// enter locks the store for an operation, unless the caller has gone or the store is closed.
func (s *Store) enter(ctx context.Context, op string) error {
	s.mu.Lock()
	err := s.usable(ctx, op)
	if err != nil {
		s.mu.Unlock()
	}
	return err
}

// usable is nil while the store is open and ctx lives. The caller holds s.mu.
func (s *Store) usable(ctx context.Context, op string) error {
	if s.closed {
		return fmt.Errorf("memstore: %s: %w: open a store that lives as long as its bus", op, pulse.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memstore: %s: nothing was done: %w: %w", op, pulse.ErrStore, err)
	}
	return nil
}

// head is the newest position. The caller holds s.mu.
func (s *Store) head() pulse.Position { return pulse.Position(len(s.log)) }

// sequence gives the waiting events their positions, in the order of their commits. The caller holds s.mu.
func (s *Store) sequence() {
	for _, rec := range s.waiting {
		s.log = append(s.log, rec)
		rec.Position = s.head()
	}
	s.waiting = nil
}

// now is the store's time as it is kept: UTC, whole microseconds.
func (s *Store) now() time.Time { return keep(s.opts.Clock()) }

// keep is a time as stores keep it: UTC, whole microseconds, without a monotonic reading.
func keep(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
