package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edupulse-live/pulse"
)

// synchronous is how much a commit waits for. Commits are found after a crash of the machine in order up to some point: one
// that did not wait is lost only if all later ones were not waited for either.
type synchronous int

const (
	normal synchronous = 1 // survives the process
	full   synchronous = 2 // survives the machine
)

// write runs fn in a write transaction. When ctx ends before the commit has begun nothing is stored.
func (s *Store) write(ctx context.Context, op string, level synchronous, fn func(tx *sql.Tx) error) error {
	if err := s.refuseNested(ctx); err != nil {
		return fail(op, err)
	}
	if err := s.enter(ctx); err != nil {
		return fail(op, err)
	}
	defer s.leave()
	tx, end, err := s.begin(ctx, level)
	if err != nil {
		return fail(op, err)
	}
	defer end()
	if err := fn(tx); err != nil {
		return fail(op, err)
	}
	return s.commit(ctx, op, tx)
}

// begin waits for the writer's connection and for other processes, as long as ctx allows, and begins a transaction, which
// itself does not depend on ctx. end rolls it back unless it was committed, and gives the connection back.
func (s *Store) begin(ctx context.Context, level synchronous) (tx *sql.Tx, end func(), err error) {
	conn, err := s.connect(ctx, level)
	if err != nil {
		return nil, nil, err
	}
	err = awaitLock(ctx, func() error {
		tx, err = conn.BeginTx(context.WithoutCancel(ctx), nil)
		return err
	})
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	s.count(1)
	s.began = s.now()
	return tx, func() {
		undone := tx.Rollback() == nil
		if s.count(0) {
			_ = s.retire(conn)
		} else if undone {
			_ = s.prolong(conn) // should another process be faster, nothing is lost: the next renewal prolongs, or is fenced
		}
		_ = conn.Close()
		s.count(-1)
	}, nil
}

// connect waits for the writer's connection and makes its commits synchronous as wanted.
func (s *Store) connect(ctx context.Context, level synchronous) (*sql.Conn, error) {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if s.level == level {
		return conn, nil
	}
	if _, err := conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf("PRAGMA synchronous = %d", level)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.level = level
	return conn, nil
}

// awaitLock repeats step while another process holds the lock, as long as ctx allows. It is used instead of SQLite's own
// waiting, which sleeps ten times longer and cannot be cancelled without giving up the connection.
func awaitLock(ctx context.Context, step func() error) error {
	const longest = 10 * time.Millisecond
	var deadline time.Time
	for pause := 500 * time.Microsecond; ; pause = min(2*pause, longest) {
		err := step()
		if err == nil || !isBusy(err) {
			return err
		}
		if now := time.Now(); deadline.IsZero() {
			deadline = now.Add(busyTimeout)
		} else if now.After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// commit commits unless ctx has ended; once it has begun it does not depend on ctx any more.
func (s *Store) commit(ctx context.Context, op string, tx *sql.Tx) error {
	if err := ctx.Err(); err != nil {
		return fail(op, err)
	}
	if err := s.prolong(tx); err != nil {
		return fail(op, err)
	}
	if err := tx.Commit(); err != nil {
		return failCommit(op, err)
	}
	return nil
}

// insideKey is the key under which the context of a function given to Transact holds its *txn.
type insideKey struct{}

// refuseNested refuses to wait for the transaction that the caller itself is in.
func (s *Store) refuseNested(ctx context.Context) error {
	t, ok := ctx.Value(insideKey{}).(*txn)
	if ok && t.store == s && !t.over.Load() {
		return fmt.Errorf("%w: SQLite has one writer, and the transaction of this context is it: write through its Tx", pulse.ErrInvalid)
	}
	return nil
}

// exec runs a statement in tx, the prepared one if there is one.
func (s *Store) exec(tx *sql.Tx, query string, args ...any) (rows int64, err error) {
	var res sql.Result
	if st := s.prepared[query]; st != nil {
		res, err = tx.Stmt(st).Exec(args...)
	} else {
		res, err = tx.Exec(query, args...)
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// queryRow asks for one row in tx.
func (s *Store) queryRow(tx *sql.Tx, query string, args ...any) *sql.Row {
	if st := s.prepared[query]; st != nil {
		return tx.Stmt(st).QueryRow(args...)
	}
	return tx.QueryRow(query, args...)
}

// txn is a transaction given to a function.
type txn struct {
	store *Store
	tx    *sql.Tx
	mu    sync.Mutex // held by its methods, which use what belongs to who holds the writer's connection
	over  atomic.Bool
}

// Transact runs fn in a transaction; see pulse.Transactor. All other writers of the file wait meanwhile, but no longer than
// until ctx ends: then it is rolled back, even if fn does not return. Writing through the store with the context that fn
// gets is refused with ErrInvalid; reading is not, and does not see what the transaction wrote.
func (s *Store) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	const op = "transact"
	if err := s.refuseNested(ctx); err != nil {
		return fail(op, err)
	}
	if err := s.enter(ctx); err != nil {
		return fail(op, err)
	}
	tx, end, err := s.begin(ctx, full)
	s.leave()
	if err != nil {
		return fail(op, err)
	}
	t := &txn{store: s, tx: tx}
	leave := sync.OnceFunc(func() { t.close(); end() })
	defer leave()
	stop := context.AfterFunc(ctx, leave)
	defer stop()
	if err := fn(context.WithValue(ctx, insideKey{}, t), t); err != nil {
		return err
	}
	if !stop() {
		return fail(op, ctx.Err())
	}
	if err := s.enter(ctx); err != nil {
		return fail(op, err)
	}
	defer s.leave()
	return s.commit(ctx, op, tx)
}

// Unwrap returns the *sql.Tx. Leave committing it to Transact.
func (t *txn) Unwrap() any { return t.tx }

// close ends the transaction for its methods, after one that runs.
func (t *txn) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over.Store(true)
}

// enter begins a call of a method of the transaction; leave ends it.
func (t *txn) enter(ctx context.Context) error {
	t.mu.Lock()
	err := t.store.enter(ctx)
	if err == nil && t.over.Load() {
		t.store.leave()
		err = fmt.Errorf("%w: the transaction is over: use it inside the function it was given to only, and before its context ends", pulse.ErrClosed)
	}
	if err != nil {
		t.mu.Unlock()
	}
	return err
}

func (t *txn) leave() {
	t.store.leave()
	t.mu.Unlock()
}

// Append is Store.Append as part of the transaction. After an error the transaction goes on without recs, unless SQLite has undone all of
// it, as it may when the disk is full or fails: then it is over.
func (t *txn) Append(ctx context.Context, recs []pulse.Record) error {
	if err := t.enter(ctx); err != nil {
		return fail("append", err)
	}
	defer t.leave()
	if err := t.store.unit(t.tx).appendPart(recs); err != nil {
		return fail("append", err)
	}
	return nil
}

// Mark enters deliveries into the inbox; see pulse.Tx.
func (t *txn) Mark(ctx context.Context, lease pulse.Lease, positions []pulse.Position) (seen []pulse.Position, err error) {
	if err := t.enter(ctx); err != nil {
		return nil, fail("mark", err)
	}
	defer t.leave()
	if seen, err = t.store.mark(t.tx, lease, positions); err != nil {
		endUndone(t.tx)
		return nil, fail("mark", err)
	}
	return seen, nil
}
