package pgstore_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

// What inserts are checked with is part of their plans. When the settings change, also by replication, plans of connections in use change with them.
func TestInsertsFollowTheSettings(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	bus, pool := openBus(t, s), openPool(t, dsn, "1")
	ctx := t.Context()
	ways := map[string]func() error{
		"Emit":    func() error { _, err := bus.Emit(ctx, lesson()); return err },
		"EmitAll": func() error { _, err := bus.EmitAll(ctx, []pulse.Event{lesson(), lesson()}); return err },
		"Do": func() error {
			return pgstore.Do(ctx, pool, bus, func(_ pgx.Tx, e pulse.Emitter) error { _, err := e.Emit(ctx, lesson()); return err })
		},
		"Tx": func() error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				_, err := bus.In(pgstore.Tx(tx)).Emit(ctx, lesson())
				return err
			})
		},
		"Queue": func() error {
			batch := &pgx.Batch{}
			_, err := pgstore.Queue(ctx, batch, bus, lesson())
			return errors.Join(err, pool.SendBatch(ctx, batch).Close())
		},
	}
	expect := func(when, code string) {
		t.Helper()
		for name, way := range ways {
			var refusal *pgconn.PgError
			switch err := way(); {
			case code == "" && err != nil, code != "" && (!errors.As(err, &refusal) || refusal.Code != code):
				t.Errorf("%s, %s: %v, want code %q", when, name, err, code)
			}
		}
	}
	for range 8 { // then each statement has the plan that it keeps
		expect("at first", "")
	}
	run(t, pool, "UPDATE pulse.settings SET max_event_bytes = 100")
	expect("with a lower limit", "PU003")
	run(t, pool, "UPDATE pulse.settings SET max_event_bytes = 100000")
	expect("with the limit back", "")
	run(t, pool, "SET session_replication_role = replica")
	run(t, pool, `UPDATE pulse.settings SET origin = 'pulse/it''s another\one'`)
	run(t, pool, "RESET session_replication_role")
	expect("under another name", "PU002")
}
