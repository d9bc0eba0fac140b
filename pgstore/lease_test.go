package pgstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

// subscribed registers a subscription from the beginning and takes its lease.
func subscribed(t *testing.T, s *pgstore.Store, ttl time.Duration) pulse.Lease {
	t.Helper()
	if _, err := s.Register(t.Context(), pulse.Registration{Name: "mailer", Start: pulse.Beginning}); err != nil {
		t.Fatal(err)
	}
	return acquire(t, s, pulse.Lease{Name: "mailer", Holder: "one"}, ttl)
}

func acquire(t *testing.T, s *pgstore.Store, lease pulse.Lease, ttl time.Duration) pulse.Lease {
	t.Helper()
	got, err := s.Acquire(t.Context(), lease, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// G6, G7: a handler's transaction that was overtaken does not commit, and holds nobody up while it is open.
func TestALeaseLostInATransaction(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, s *pgstore.Store){
		"taken over": func(t *testing.T, s *pgstore.Store) {
			acquire(t, s, pulse.Lease{Name: "mailer", Holder: "two"}, time.Hour)
		},
		"replayed": func(t *testing.T, s *pgstore.Store) {
			if err := s.Control(t.Context(), "mailer", pulse.Control{Replay: &pulse.Replay{From: pulse.Beginning}}); err != nil {
				t.Fatal(err)
			}
		},
		"dropped": func(t *testing.T, s *pgstore.Store) {
			if err := s.Control(t.Context(), "mailer", pulse.Control{Drop: true}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, newDatabase(t))
			lease := subscribed(t, s, time.Microsecond)
			origin := originOf(t, s)
			err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
				if _, err := tx.Mark(ctx, lease, []pulse.Position{1}); err != nil {
					return err
				}
				change(t, s)
				return tx.Append(ctx, lessons(origin, 1))
			})
			wantError(t, err, pulse.ErrFenced)
			if head := info(t, s).Head; head != 0 {
				t.Fatal("the effect of the overtaken handler exists")
			}
		})
	}
}

// Renewing is not held up by handlers' transactions, and a lease that expired without being taken is still good.
func TestRenewingBesideATransaction(t *testing.T) {
	s := openStore(t, newDatabase(t))
	lease := subscribed(t, s, time.Microsecond)
	err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		if _, err := tx.Mark(ctx, lease, []pulse.Position{1}); err != nil {
			return err
		}
		acquire(t, s, lease, time.Hour)
		return s.Advance(ctx, lease, pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: 1}})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Who takes over waits for a transaction that has been fenced already, as it is about to commit.
func TestTakingOverWaitsForACommit(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "3")
	lease := subscribed(t, s, time.Microsecond)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	run(t, tx, pgstore.FenceSQL(s), lease.Name, lease.Holder, lease.Token, lease.Generation)
	taken := make(chan error, 1)
	go func() {
		_, err := s.Acquire(t.Context(), pulse.Lease{Name: "mailer", Holder: "two"}, time.Hour)
		taken <- err
	}()
	eventually(t, "the other instance waits", func() bool { return number(t, pool, "SELECT count(*) FROM pg_locks WHERE NOT granted") > 0 })
	acquire(t, s, lease, time.Hour) // renewing does not
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantError(t, <-taken, pulse.ErrHeld) // it was renewed meanwhile
}

// What is superfluous is taken away: old cursors, and inbox entries below the cursor that have no row.
func TestProgressAndInboxAreBounded(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	lease := subscribed(t, s, time.Hour)
	const last = 200
	for p := pulse.Position(1); p <= last; p++ {
		err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
			_, err := tx.Mark(ctx, lease, []pulse.Position{p})
			return err
		})
		progress := pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: p}}
		if p == 7 { // the effect exists, and so does a row that says it will be tried
			progress.Put = []pulse.DeliveryState{{Subscription: "mailer", Position: p, Status: pulse.StatusRetry, Name: "x.y"}}
		}
		if err := errors.Join(err, s.Advance(t.Context(), lease, progress)); err != nil {
			t.Fatal(err)
		}
	}
	if n := number(t, pool, "SELECT count(*) FROM pulse.progress"); n > 40 {
		t.Errorf("%d cursors are left", n)
	}
	if n := number(t, pool, "SELECT count(*) FROM pulse.inbox"); n > 40 {
		t.Errorf("%d inbox entries are left", n)
	}
	err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		seen, err := tx.Mark(ctx, lease, []pulse.Position{3, 7, last})
		if err == nil && len(seen) != 3 {
			t.Errorf("of 3 handled deliveries %v are known", seen)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if states, err := s.States(t.Context()); err != nil || states[0].Cursor.Position != last || states[0].Retries != 1 {
		t.Fatalf("the subscription is %+v: %v", states, err)
	}
}

// A transaction that the user begins at SERIALIZABLE emits like any other.
func TestTxAtAnyIsolation(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "3")
	origin := originOf(t, s)
	for i, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		if err != nil {
			t.Fatal(err)
		}
		number(t, tx, "SELECT count(*) FROM pulse.events") // its snapshot is from here
		appendTo(t, s, lessons(origin, 1)...)
		appendTo(t, pgstore.Tx(tx), lessons(origin, 2)...)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(readAll(t, s)); n != 3*(i+1) {
			t.Fatalf("%d events at %s, want %d", n, level, 3*(i+1))
		}
	}
}

// A handler's transaction brings BEGIN with the delivery, and what is emitted and the check of the lease go with COMMIT.
func TestTransactCostsFewRoundTrips(t *testing.T) {
	pool, sent := countedPool(t, newDatabase(t))
	s := openOn(t, pool)
	lease, origin := subscribed(t, s, time.Hour), originOf(t, s)
	handle := func(p pulse.Position) int64 {
		before := sent.Load()
		err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
			if _, err := tx.Mark(ctx, lease, []pulse.Position{p}); err != nil {
				return err
			}
			var n int
			if err := tx.Unwrap().(pgx.Tx).QueryRow(ctx, "SELECT $1::int", 1).Scan(&n); err != nil {
				return err
			}
			recs := lessons(origin, 1)
			recs[0].IDNew = true
			return tx.Append(ctx, recs)
		})
		if err != nil {
			t.Fatal(err)
		}
		return sent.Load() - before
	}
	handle(1) // the connection gets to know the statements
	if n := handle(2); n != 3 {
		t.Errorf("sent by %d writes, want 3", n)
	}
}
