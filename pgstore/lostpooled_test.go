package pgstore_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
)

// A pooler that loses the server while the answer to COMMIT is on its way reports an error of its own (G2): it says nothing of the outcome, and nobody is told
// that nothing was stored. Emit finds out.
func TestLostBehindAPooler(t *testing.T) {
	direct := newDatabase(t)
	config, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	line := startProxy(t, addressOf(&config.Config))
	proxied := fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s sslmode=disable", line.listener.Addr().(*net.TCPAddr).Port, config.User, config.Database)
	pooled := pgtest.Bouncer(t, proxied)(proxied)
	s := openStore(t, direct)
	bus, pool := openBus(t, s), openPool(t, pooled, "2")
	stored := func(id uuid.UUID) bool {
		return slices.ContainsFunc(readAll(t, s), func(e pulse.Envelope) bool { return e.ID == id })
	}
	emit := func(_ pgx.Tx, e pulse.Emitter) (uuid.UUID, error) { return e.Emit(t.Context(), lesson()) }
	for name, fn := range map[string]func(tx pgx.Tx, e pulse.Emitter) (uuid.UUID, error){
		"an event": emit,
		"a statement and an event": func(tx pgx.Tx, e pulse.Emitter) (uuid.UUID, error) {
			run(t, tx, "SELECT 1")
			return emit(tx, e)
		},
		"an event and a statement": func(tx pgx.Tx, e pulse.Emitter) (uuid.UUID, error) {
			id, err := emit(tx, e)
			run(t, tx, "SELECT 1")
			return id, err
		},
		"Tx": func(tx pgx.Tx, _ pulse.Emitter) (uuid.UUID, error) {
			return bus.In(pgstore.Tx(tx)).Emit(t.Context(), lesson())
		},
	} {
		t.Run(name, func(t *testing.T) {
			number(t, pool, "SELECT 1") // the pooler has a connection
			var id uuid.UUID
			err := pgstore.Do(t.Context(), pool, bus, func(tx pgx.Tx, e pulse.Emitter) (err error) {
				id, err = fn(tx, e)
				line.armed.Store(true)
				return err
			})
			if !stored(id) {
				t.Fatalf("it was not stored: %v", err)
			}
			wantError(t, err, pulse.ErrUnknown)
		})
	}
	other := openBus(t, openStore(t, pooled))
	for range 2 {
		number(t, pool, "SELECT 1")
		line.armed.Store(true)
		id, err := other.Emit(t.Context(), lesson())
		if !stored(id) || err != nil && !errors.Is(err, pulse.ErrUnknown) {
			t.Errorf("stored: %t, %v", stored(id), err)
		}
	}
}
