package memstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// Tx is a transaction of a Store. What it wrote is seen by others when it has committed. It is used by one goroutine.
type Tx struct {
	store *Store
	done  chan struct{} // closed when the transaction is over

	// guarded by store.mu
	over     bool
	staged   []*pulse.Record
	marks    []mark
	leases   []pulse.Lease // that marks were made under
	claims   []claim
	waitsFor *Tx // whose claim this transaction waits for
}

// claim is something that one open transaction at a time may write: the event with an id, or an inbox entry.
type claim struct {
	id   uuid.UUID
	mark mark
}

// mark is an entry in the inbox of one generation of a subscription.
type mark struct {
	sub        *subscription
	generation int
	position   pulse.Position
}

// Transact runs fn in a transaction; see pulse.Transactor. Transactions run beside each other: one that appends an id or marks a
// delivery that another open one has written waits for its end, as long as ctx allows. If two would wait for
// each other, the one that noticed gets an ErrStore.
func (s *Store) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	if err := s.hook(ctx, TransactBegin); err != nil {
		return err
	}
	tx, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.end()
	if err := fn(ctx, tx); err != nil {
		return err
	}
	if err := s.hook(ctx, TransactBeforeCommit); err != nil {
		return err
	}
	if err := tx.commit(ctx); err != nil {
		return err
	}
	return s.fault(ctx, TransactAfterCommit, pulse.ErrUnknown)
}

// Append is Store.Append as part of the transaction. After an error the transaction goes on without recs.
func (tx *Tx) Append(ctx context.Context, recs []pulse.Record) error {
	if err := tx.enter(ctx, "append"); err != nil {
		return err
	}
	if err := tx.store.hook(ctx, TxAppendBefore); err != nil {
		return err
	}
	if err := tx.stage(ctx, recs); err != nil {
		return err
	}
	return tx.store.hook(ctx, TxAppendAfter)
}

// Mark enters deliveries into the inbox; see pulse.Tx.
func (tx *Tx) Mark(ctx context.Context, lease pulse.Lease, positions []pulse.Position) ([]pulse.Position, error) {
	if err := tx.enter(ctx, "mark"); err != nil {
		return nil, err
	}
	if err := tx.store.hook(ctx, MarkBefore); err != nil {
		return nil, err
	}
	seen, err := tx.mark(ctx, lease, positions)
	if err != nil {
		return nil, err
	}
	return seen, tx.store.hook(ctx, MarkAfter)
}

// Unwrap returns tx itself, a *Tx.
func (tx *Tx) Unwrap() any { return tx }

// mark stages the entries that are not there yet and returns the others.
func (tx *Tx) mark(ctx context.Context, lease pulse.Lease, positions []pulse.Position) (seen []pulse.Position, err error) {
	s := tx.store
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(tx.marks)
	defer func() {
		if err != nil {
			tx.marks = tx.marks[:before]
		}
	}()
	for _, p := range positions {
		sub, err := s.current(lease)
		if err != nil {
			return nil, err
		}
		m := mark{sub, lease.Generation, p}
		if err := tx.claim(ctx, claim{mark: m}); err != nil {
			return nil, err
		}
		if _, err := s.current(lease); err != nil { // the lease may have been lost while waiting
			return nil, err
		}
		if sub.handled(p) || tx.marked(m) {
			seen = append(seen, p)
		} else {
			tx.marks = append(tx.marks, m)
		}
	}
	tx.leases = append(tx.leases, lease)
	return seen, nil
}

func (tx *Tx) marked(m mark) bool {
	for _, other := range tx.marks {
		if other == m {
			return true
		}
	}
	return false
}

// begin opens a transaction. The caller ends it.
func (s *Store) begin(ctx context.Context) (*Tx, error) {
	if err := s.enter(ctx, "begin"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return &Tx{store: s, done: make(chan struct{})}, nil
}

// enter is nil while the transaction can be used.
func (tx *Tx) enter(ctx context.Context, op string) error {
	if err := tx.store.enter(ctx, op); err != nil {
		return err
	}
	defer tx.store.mu.Unlock()
	if tx.over {
		return fmt.Errorf("memstore: %s: the transaction is over: use it inside the function it was given to only: %w", op, pulse.ErrClosed)
	}
	return nil
}

// claim makes c the transaction's own until it ends, after waiting for another one that has it.
// The caller holds store.mu, which is given up while waiting.
func (tx *Tx) claim(ctx context.Context, c claim) error {
	s := tx.store
	for {
		owner := s.claims[c]
		if owner == tx {
			return nil
		}
		if owner == nil {
			s.claims[c] = tx
			tx.claims = append(tx.claims, c)
			return nil
		}
		if err := tx.await(ctx, owner); err != nil {
			return err
		}
	}
}

// await waits for the end of owner. The caller holds store.mu, which is given up meanwhile.
func (tx *Tx) await(ctx context.Context, owner *Tx) error {
	for o := owner; o != nil; o = o.waitsFor {
		if o == tx {
			return fmt.Errorf("memstore: deadlock of two transactions: try again: %w", pulse.ErrStore)
		}
	}
	tx.waitsFor = owner
	tx.store.mu.Unlock()
	select {
	case <-owner.done:
	case <-ctx.Done():
	}
	tx.store.mu.Lock()
	tx.waitsFor = nil
	return tx.store.usable(ctx, "wait for another transaction")
}

// commit makes everything the transaction wrote visible at once, or nothing.
func (tx *Tx) commit(ctx context.Context) error {
	s := tx.store
	now := s.now()
	if err := s.enter(ctx, "commit"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, lease := range tx.leases {
		if _, err := s.current(lease); err != nil {
			return fmt.Errorf("memstore: commit: lost meanwhile: %w", err)
		}
	}
	for _, m := range tx.marks {
		m.sub.inbox[m.position] = true
	}
	for _, rec := range tx.staged {
		rec.RecordedAt = now
		s.byID[rec.ID] = rec
	}
	s.waiting = append(s.waiting, tx.staged...)
	if !s.opts.LateSequencing {
		s.sequence()
	}
	return nil
}

// end closes the transaction; what it did not commit is gone.
func (tx *Tx) end() {
	s := tx.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range tx.claims {
		delete(s.claims, c)
	}
	tx.over = true
	close(tx.done)
}
