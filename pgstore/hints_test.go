package pgstore_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

// A hint reaches the other stores on the log, and neither the one that gave it nor those on other logs.
func TestHints(t *testing.T) {
	dsn := newDatabase(t)
	stores := []*pgstore.Store{openStore(t, dsn), openStore(t, dsn), openWith(t, dsn, &pgstore.Options{Schema: "other"})}
	pool := openPool(t, dsn, "2")
	var heard [3]atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for i, s := range stores {
		group.Go(func() {
			if err := s.Listen(ctx, func() { heard[i].Add(1) }); !errors.Is(err, context.Canceled) {
				t.Errorf("listen ended: %v", err)
			}
		})
	}
	eventually(t, "three listen", func() bool {
		return number(t, pool, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database() AND state = 'idle'") == 3
	})
	for range 1000 {
		stores[0].Hint()
	}
	eventually(t, "the other store heard", func() bool { return heard[1].Load() > 0 })
	stores[2].Hint()
	stores[1].Hint()
	eventually(t, "the first store heard", func() bool { return heard[0].Load() > 0 })
	stop()
	group.Wait()
	if n := heard[1].Load(); n > 100 {
		t.Errorf("a thousand hints came as %d", n)
	}
	if heard[0].Load() != 1 || heard[2].Load() != 0 {
		t.Errorf("heard %d hints of one, and %d of another log", heard[0].Load(), heard[2].Load())
	}
}

// Where the pool's configuration finds out who to connect as, listening does so too.
func TestListeningConnectsAsThePool(t *testing.T) {
	dsn := newDatabase(t)
	other, look := openStore(t, dsn), openPool(t, dsn, "2")
	config, err := pgxpool.ParseConfig(onRole(dsn, "nobody_at_all"))
	if err != nil {
		t.Fatal(err)
	}
	user := look.Config().ConnConfig.User
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { c.User = user; return nil }
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s, err := pgstore.OpenPool(t.Context(), pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, heard := context.WithCancel(t.Context())
	listened := make(chan error, 1)
	go func() { listened <- s.Listen(ctx, heard) }()
	eventually(t, "a hint was heard", func() bool { other.Hint(); return ctx.Err() != nil || len(listened) > 0 })
	wantError(t, <-listened, context.Canceled)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Who can hear no more says so; and a hint to a server that is gone does no harm.
func TestHintsOverABrokenConnection(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	listening := make(chan error, 1)
	go func() { listening <- s.Listen(t.Context(), func() {}) }()
	eventually(t, "the connection is cut", func() bool {
		return number(t, pool, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()") > 0
	})
	wantError(t, <-listening, pulse.ErrStore, "hints")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Hint()
	wantError(t, s.Listen(t.Context(), func() {}), pulse.ErrClosed)
}

// What another process emits, in a transaction it tells nobody of, is handled long before the log would be looked at anyway.
func TestAnotherProcessHears(t *testing.T) {
	dsn := newDatabase(t)
	bus, emitting, pool := openBus(t, openStore(t, dsn)), openBus(t, openStore(t, dsn)), openPool(t, dsn, "2")
	handled := make(chan struct{}, 1)
	err := bus.Subscribe("hearer", pulse.OnDelivery(">", func(context.Context, *pulse.Delivery) error { handled <- struct{}{}; return nil }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := bus.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer group.Wait()
	defer stop()
	best := time.Hour
	for range 30 {
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := emitting.In(pgstore.Tx(tx)).Emit(t.Context(), oneLesson())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		committed := time.Now()
		<-handled
		best = min(best, time.Since(committed))
	}
	t.Logf("the quickest took %s", best)
	if best > 15*time.Millisecond { // looked at every 20 ms, in step with the emits, all of them would take longer
		t.Errorf("the quickest of 30 took %s", best)
	}
}
