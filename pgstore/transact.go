package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
)

// readCommitted is a transaction of the store's own.
func (s Schema) readCommitted(op string) *lazyTx {
	return &lazyTx{schema: s, op: op, opts: pgx.TxOptions{IsoLevel: pgx.ReadCommitted}}
}

// inTx runs fn in a transaction at READ COMMITTED that commits if fn returns nil. Its error leaves open whether that happened only if lost says so.
func (s Schema) inTx(ctx context.Context, pool *pgxpool.Pool, op string, fn func(tx *lazyTx) error) error {
	tx := s.readCommitted(op)
	own, err := tx.on(ctx, pool, func() error { return fn(tx) })
	if own != nil {
		return notCommitted(errors.Join(own, err))
	}
	return err
}

// rollback ends tx although ctx may have ended. What cannot be rolled back goes with its connection.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// relaxSQL lets the commit of the transaction not wait for the disk: it survives the process, and after a crash of the server an older state may
// come back.
const relaxSQL = "SELECT set_config('synchronous_commit', 'off', true)"

// write runs fn in a transaction of the store's own.
func (s *Store) write(ctx context.Context, op string, fn func(tx *lazyTx) error) error {
	if err := s.enter(ctx); err != nil {
		return fail(op, err)
	}
	defer s.leave()
	if err := s.schema.inTx(ctx, s.pool, op, fn); err != nil {
		return failSent(op, err)
	}
	return nil
}

// txn is a transaction given to a function.
type txn struct {
	store *Store
	tx    *lazyTx

	mu     sync.Mutex
	over   bool
	leases map[string]pulse.Lease // those that deliveries were marked under
}

// Transact runs fn in a transaction at READ COMMITTED; see pulse.Transactor. It holds a connection of the pool. Others wait for it only
// where they want to change the same rows; for a connection they wait when as many transactions are open as the pool has connections, less two.
//
// As always in PostgreSQL a statement that fails dooms the transaction: it can only be rolled back, even if fn returns nil.
func (s *Store) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	const op = "transact"
	if err := s.enter(ctx); err != nil {
		return fail(op, err)
	}
	defer s.leave()
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	case <-ctx.Done():
		return fail(op, ctx.Err())
	}
	tx := s.schema.readCommitted(op)
	return tx.outcome(tx.on(ctx, s.pool, func() error {
		t := &txn{store: s, tx: tx, leases: map[string]pulse.Lease{}}
		defer t.close()
		err := fn(ctx, t)
		if err == nil {
			t.checkLeases()
		}
		return err
	}))
}

// checkLeases makes sure, until the commit, that no lease was lost since deliveries were marked under it.
func (t *txn) checkLeases() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, lease := range t.leases {
		t.tx.keep(t.store.sql.fence, fenceArgs(lease)...)
	}
}

// Unwrap returns the pgx.Tx. Leave ending it to Transact.
func (t *txn) Unwrap() any { return t.tx }

func (t *txn) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}

// enter begins a call of a method of the transaction; leave ends it.
func (t *txn) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	if t.over {
		t.mu.Unlock()
		return fmt.Errorf("%w: the transaction is over: use it inside the function it was given to only", pulse.ErrClosed)
	}
	return nil
}

func (t *txn) leave() { t.mu.Unlock() }

// Append is Store.Append as part of the transaction, by one statement unless an id is stored already. After an error that is not about an
// id the transaction is doomed.
func (t *txn) Append(ctx context.Context, recs []pulse.Record) error {
	const op = "append"
	if err := t.enter(ctx); err != nil {
		return fail(op, err)
	}
	defer t.leave()
	if err := t.store.check(recs); err != nil {
		return fail(op, err)
	}
	if err := t.tx.append(ctx, recs); err != nil {
		return fail(op, notCommitted(err))
	}
	return nil
}

// Mark enters deliveries into the inbox; see pulse.Tx.
func (t *txn) Mark(ctx context.Context, lease pulse.Lease, positions []pulse.Position) (seen []pulse.Position, err error) {
	const op = "mark"
	if err := t.enter(ctx); err != nil {
		return nil, fail(op, err)
	}
	defer t.leave()
	if other, ok := t.leases[lease.Name]; ok && other.Token != lease.Token {
		return nil, fail(op, errors.Join(pulse.ErrFenced, errors.New("one transaction marks under two leases of a subscription")))
	}
	if seen, err = t.store.mark(ctx, t.tx, lease, positions); err != nil {
		return nil, fail(op, notCommitted(err))
	}
	t.leases[lease.Name] = lease
	return seen, nil
}
