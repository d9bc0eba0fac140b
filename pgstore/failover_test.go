package pgstore_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
)

// A standby that lacks the last events and ticks of its primary is promoted (G4, G14). It gives the numbers of these ticks and the positions of these events
// again. A process that lived through it knows ticks and events that are gone, and goes by them no more: every event of the log gets its
// position and is handled.
func TestAPromotedStandbyThatLackedSomething(t *testing.T) {
	for _, lost := range []int{1, 6} { // events
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			primary := pgtest.New(t)
			config, err := pgx.ParseConfig(primary.DSN())
			if err != nil {
				t.Fatal(err)
			}
			line := startProxy(t, addressOf(&config.Config))
			port := line.listener.Addr().(*net.TCPAddr).Port
			survivor := openStore(t, fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s sslmode=disable", port, config.User, config.Database))
			handled := watch(t, survivor)
			origin := originOf(t, survivor)
			appendTo(t, survivor, lessons(origin, 10)...)
			info(t, survivor)

			standby, err := primary.Standby()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = standby.Remove() })
			pool := openPool(t, standby.DSN(), "2")
			eventually(t, "the standby has all", func() bool { return number(t, pool, "SELECT count(*) FROM pulse.positions") == 10 })
			run(t, pool, "ALTER SYSTEM SET primary_conninfo = ''")
			run(t, pool, "SELECT pg_reload_conf()")
			eventually(t, "the standby falls behind", func() bool { return number(t, pool, "SELECT count(*) FROM pg_stat_wal_receiver") == 0 })
			for range lost {
				appendTo(t, survivor, lessons(origin, 1)...)
			}
			info(t, survivor)
			if err := primary.Signal(syscall.SIGQUIT); err != nil {
				t.Fatal(err)
			}
			run(t, pool, "SELECT pg_promote(true, 30)")
			promoted, err := pgx.ParseConfig(standby.DSN())
			if err != nil {
				t.Fatal(err)
			}
			other := openStore(t, standby.DSN())
			appendTo(t, other, lessons(origin, 1)...)
			info(t, other)
			for range 8 { // between two looks at the log
				appendTo(t, other, lessons(origin, 1)...)
			}
			line.server.Store(addressOf(&promoted.Config))
			line.cut()
			eventually(t, "the survivor reaches the new primary", func() bool { _, err := survivor.Info(t.Context()); return err == nil })
			for range 8 {
				appendTo(t, survivor, lessons(origin, 1)...)
				info(t, survivor)
			}
			if n := number(t, pool, "SELECT count(*) FROM pulse.events e WHERE NOT EXISTS (SELECT FROM pulse.positions p WHERE p.event = e.id)"); n > 0 {
				t.Errorf("%d events never get a position", n)
			}
			for _, env := range readAll(t, other) {
				eventually(t, fmt.Sprintf("event %d is handled", env.Position), func() bool { return handled(env.ID) })
			}
		})
	}
}

// watch runs a subscription on a store until the test ends, and returns what tells whether it has handled an event.
func watch(t *testing.T, s pulse.Store) func(id uuid.UUID) bool {
	t.Helper()
	bus := openBus(t, s)
	var mu sync.Mutex
	ids := map[uuid.UUID]bool{}
	err := bus.Subscribe("watcher", pulse.Start(pulse.Beginning), pulse.OnDelivery(">", func(_ context.Context, d *pulse.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		ids[d.ID] = true
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- bus.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return func(id uuid.UUID) bool {
		mu.Lock()
		defer mu.Unlock()
		return ids[id]
	}
}
