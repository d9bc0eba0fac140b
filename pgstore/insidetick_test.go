package pgstore_test

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
)

// G6, G14: a tick that stands still between what it writes ends there, in several ways. It leaves nothing half done: the next tick gives every event
// one position, without a gap.
func TestTickEndsInside(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(t *testing.T, srv *pgtest.Server, backend int64, cancel func())
	}{
		{"its backend is terminated", func(t *testing.T, srv *pgtest.Server, backend int64, _ func()) {
			run(t, openPool(t, srv.DSN(), "1"), "SELECT pg_terminate_backend($1)", backend)
		}},
		{"its backend is killed", func(t *testing.T, _ *pgtest.Server, backend int64, _ func()) {
			if err := syscall.Kill(int(backend), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}},
		{"its client goes away", func(_ *testing.T, _ *pgtest.Server, _ int64, cancel func()) { cancel() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := pgtest.New(t)
			s, pool := openStore(t, srv.DSN()), openPool(t, srv.DSN(), "2")
			origin := originOf(t, s)
			appendTo(t, s, lessons(origin, 3)...)
			info(t, s)
			run(t, pool, `CREATE FUNCTION stand() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$`)
			run(t, pool, "CREATE TRIGGER stand BEFORE INSERT ON pulse.positions FOR EACH ROW WHEN (NEW.position = 6) EXECUTE FUNCTION stand()")
			gate, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			run(t, gate, "SELECT pg_advisory_xact_lock(1)")
			appendTo(t, s, lessons(origin, 5)...)

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ticked := make(chan error, 1)
			go func() {
				_, err := s.Info(ctx)
				ticked <- err
			}()
			const standing = "SELECT coalesce(max(pid), 0)::int8 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
			eventually(t, "a tick stands inside", func() bool { return number(t, pool, standing) > 0 })
			c.end(t, srv, number(t, pool, standing), cancel)
			if err := <-ticked; err == nil {
				t.Fatal("the tick that ended inside was answered")
			}
			_ = gate.Rollback(context.WithoutCancel(t.Context())) // it may have gone down with the server

			var head pulse.Position
			eventually(t, "the next tick", func() bool {
				i, err := s.Info(t.Context())
				if err != nil && !errors.Is(err, pulse.ErrStore) {
					t.Fatal(err)
				}
				head = i.Head
				return err == nil
			})
			if head != 8 {
				t.Fatalf("the head is %d, want 8", head)
			}
			appendTo(t, s, lessons(origin, 1)...)
			if i := info(t, s); i.Head != 9 || i.Epoch != 1 {
				t.Fatalf("the log is %+v after another event", i)
			}
			for i, env := range readAll(t, s) {
				if env.Position != pulse.Position(i+1) {
					t.Fatalf("position %d is that of the event at %d", i+1, env.Position)
				}
			}
		})
	}
}
