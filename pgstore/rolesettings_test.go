package pgstore_test

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
	"github.com/edupulse-live/pulse/storetest"
)

// foreignRole is a role for whom encodings and formats are set that are not those of pgx.
func foreignRole(t *testing.T, dsn string) string {
	t.Helper()
	role := newRole(t, dsn)
	for _, setting := range []string{"client_encoding = LATIN1", "DateStyle = 'German, DMY'", "TimeZone = 'Asia/Kathmandu'", "bytea_output = escape"} {
		pgtest.Exec(t, dsn, "ALTER ROLE "+role+" SET "+setting)
	}
	grant(t, dsn, pgstore.DefaultSchema, role)
	return role
}

// What is set for a role changes neither what is stored nor what is read.
func TestSettingsOfARole(t *testing.T) {
	dsn := newDatabase(t)
	role := foreignRole(t, dsn)
	plain := openStore(t, dsn)
	origin := originOf(t, plain)
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			s := openStore(t, onRole(dsn, role)+" default_query_exec_mode="+mode)
			rec := storetest.Record(origin, func(r *pulse.Record) { r.Key, r.Data = "żółw", []byte(`{"school":"é学校"}`) })
			appendTo(t, s, rec)
			wantLast(t, plain, []pulse.Record{rec})
			wantLast(t, s, []pulse.Record{rec})
			head := info(t, s).Head
			state, err := s.Register(t.Context(), pulse.Registration{Name: mode, Start: pulse.Now})
			if err != nil || state.Cursor.Position != head || state.Cursor.Commitment != rec.Commitment {
				t.Errorf("registered at %+v, want behind event %d: %v", state.Cursor, head, err)
			}
			lease, err := s.Acquire(t.Context(), pulse.Lease{Name: mode, Holder: "one"}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Acquire(t.Context(), pulse.Lease{Name: mode, Holder: "other"}, time.Minute)
			wantError(t, err, pulse.ErrHeld)
			put := pulse.DeliveryState{
				Subscription: mode, Position: head, Status: pulse.StatusRetry, Attempt: 1, Name: rec.Name, Key: rec.Key,
				Due: time.Date(2030, 2, 3, 4, 5, 6, 7000, time.UTC), FailedAt: time.Date(2029, 12, 11, 10, 9, 8, 0, time.UTC),
			}
			if err := s.Advance(t.Context(), lease, pulse.Progress{Put: []pulse.DeliveryState{put}}); err != nil {
				t.Fatal(err)
			}
			if got, err := s.List(t.Context(), pulse.DeliveryQuery{Subscription: mode}); err != nil || len(got) != 1 || got[0] != put {
				t.Errorf("deliveries are %+v, want %+v: %v", got, put, err)
			}
		})
	}
}

// On a connection of the user's that has another encoding the server would store other characters than those of the event: it stores nothing.
func TestConnectionsInAnotherEncodingAreRefused(t *testing.T) {
	dsn := newDatabase(t)
	role := foreignRole(t, dsn)
	s := openStore(t, dsn)
	bus, ctx := openBus(t, s), t.Context()
	pool := openPool(t, onRole(dsn, role), "2")
	db, err := sql.Open("pgx", onRole(dsn, role))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, way := range map[string]func() error{
		"Tx": func() error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { _, err := bus.In(pgstore.Tx(tx)).Emit(ctx, lesson()); return err })
		},
		"Do": func() error {
			return pgstore.Do(ctx, pool, bus, func(_ pgx.Tx, e pulse.Emitter) error { _, err := e.Emit(ctx, lesson()); return err })
		},
		"SQLTx": func() error {
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			_, err = bus.In(pgstore.SQLTx(tx)).EmitAll(ctx, []pulse.Event{lesson(), lesson()})
			_ = tx.Rollback()
			return err
		},
		"OpenPool": func() error { _, err := pgstore.OpenPool(ctx, pool, nil); return err },
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, way(), pulse.ErrInvalid, "client encoding LATIN1", "set client_encoding to UTF8")
		})
	}
	t.Run("Queue", func(t *testing.T) {
		batch := &pgx.Batch{}
		_, err := pgstore.Queue(ctx, batch, bus, lesson())
		if err := errors.Join(err, pool.SendBatch(ctx, batch).Close()); err == nil {
			t.Error("the batch succeeded")
		}
	})
	if head := info(t, s).Head; head != 0 {
		t.Errorf("%d events are stored", head)
	}
}
