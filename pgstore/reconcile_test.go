package pgstore_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
)

// G14: a log that was dumped and restored elsewhere says so, and goes on after Reconcile with nothing lost.
func TestReconcileAfterARestore(t *testing.T) {
	dsn := newDatabase(t)
	old := openStore(t, dsn)
	origin := originOf(t, old)
	recs := lessons(origin, 60)
	appendTo(t, old, recs[:40]...)
	info(t, old)
	appendTo(t, old, recs[40:50]...)
	if n, err := old.Reconcile(t.Context()); n != 0 || err != nil || info(t, old).Epoch != 1 {
		t.Fatalf("a log in its own cluster was reconciled: %d, %v", n, err)
	}
	other, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.Remove(); err != nil {
			t.Error(err)
		}
	})
	appendTo(t, old, recs[50:55]...) // have no position yet when the dump is made
	before := openPool(t, dsn, "1")  // the xids of the new cluster are to be lower than those in the dump
	run(t, before, "DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
	appendTo(t, old, recs[55])
	restore(t, other, dsn)

	s := openStore(t, other.DSN())
	_, err = s.Info(t.Context())
	wantError(t, err, pulse.ErrDiverged, "Reconcile")
	appendTo(t, s, recs[56:58]...) // is not lost, but has to wait
	pool := openPool(t, other.DSN(), "2")
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run(t, tx, "SELECT pg_current_xact_id()") // begins before, appends after
	defer tx.Rollback(context.Background())
	if n, err := s.Reconcile(t.Context()); n != 8 || err != nil {
		t.Fatalf("%d events got a position, want 8: %v", n, err)
	}
	appendTo(t, s, recs[58])
	info(t, s)
	appendTo(t, pgstore.Tx(tx), recs[59])
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if number(t, pool, "SELECT max(xid::text::int8) FROM pulse.events WHERE epoch = 1") <= number(t, pool, "SELECT max(xid::text::int8) FROM pulse.events WHERE epoch = 2") {
		t.Fatal("the xids of the new cluster are not the lower ones: this tests nothing")
	}
	for i, env := range readAll(t, s) {
		if env.ID != recs[i].ID {
			t.Fatalf("another event stands at position %d", env.Position)
		}
	}
	if i := info(t, s); i.Head != 60 || i.Epoch != 2 || i.Origin != origin {
		t.Fatalf("the restored log is %+v", i)
	}
	if _, err := s.Reconcile(t.Context()); err != nil || info(t, s).Epoch != 2 {
		t.Fatalf("a second Reconcile did something: %v", err)
	}
}

// G14: a log that logical replication has copied, without the sequences and behind the rows of one another, says so, and goes on after Reconcile.
func TestReconcileALogicalCopy(t *testing.T) {
	from, to := pgtest.New(t, "wal_level=logical"), pgtest.New(t)
	old := openStore(t, from.DSN())
	recs := lessons(originOf(t, old), 120)
	appendTo(t, old, recs[:40]...)
	info(t, old)
	source, copied := openPool(t, from.DSN(), "1"), openPool(t, to.DSN(), "2")
	restore(t, to, from.DSN(), "--schema-only")
	_, err := pgstore.Open(t.Context(), to.DSN(), nil)
	wantError(t, err, pulse.ErrInvalid, "has no settings")
	run(t, source, "CREATE PUBLICATION log FOR ALL TABLES")
	run(t, copied, fmt.Sprintf("CREATE SUBSCRIPTION log CONNECTION '%s' PUBLICATION log", from.DSN()))
	for i := 40; i < 100; i += 10 { // while the copy is made and follows
		appendTo(t, old, recs[i:i+10]...)
		if i < 80 {
			info(t, old)
		}
	}
	eventually(t, "the copy has all events", func() bool {
		return number(t, copied, "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'") == 0 &&
			number(t, copied, "SELECT count(*) FROM pulse.events") == 100 && number(t, copied, "SELECT count(*) FROM pulse.positions") == 80
	})
	run(t, copied, "DROP SUBSCRIPTION log")

	s := openStore(t, to.DSN())
	_, err = s.Info(t.Context())
	wantError(t, err, pulse.ErrDiverged, "Reconcile")
	if n, err := s.Reconcile(t.Context()); n != 20 || err != nil {
		t.Fatalf("%d events got a position, want 20: %v", n, err)
	}
	for i := 100; i < len(recs); i += 5 {
		appendTo(t, s, recs[i:i+5]...)
	}
	if i := info(t, s); i.Head != pulse.Position(len(recs)) || i.Epoch != 2 {
		t.Fatalf("the copied log is %+v", i)
	}
	for i, env := range readAll(t, s) {
		if env.ID != recs[i].ID {
			t.Fatalf("another event stands at position %d", env.Position)
		}
	}
	if i := info(t, old); i.Head != 100 || i.Epoch != 1 {
		t.Fatalf("the log that was copied is %+v", i)
	}
}

// An index that was copied later than the positions hides no events: what it says of positions that Reconcile gives anew counts no longer.
func TestReconcileBelowTheIndex(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "1")
	recs := lessons(originOf(t, s), 6)
	for i := range recs {
		recs[i].Key = fmt.Sprint("lesson-", i)
		if err := recs[i].Commit(); err != nil {
			t.Fatal(err)
		}
	}
	appendTo(t, s, recs[:4]...)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	appendTo(t, pgstore.Tx(tx), recs[4]) // before the next one, and in the log after it
	appendTo(t, s, recs[5])
	info(t, s)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	info(t, s)
	if _, err := s.Index(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	run(t, pool, "DELETE FROM pulse.positions WHERE position > 4") // were not copied yet
	run(t, pool, "UPDATE pulse.settings SET system_identifier = 1")
	if n, err := s.Reconcile(t.Context()); n != 2 || err != nil {
		t.Fatalf("%d events got a position, want 2: %v", n, err)
	}
	for range 2 { // without the index, and with it
		for i := range recs {
			var got []pulse.Envelope
			for env, err := range openBus(t, s).Log(t.Context(), pulse.Query{Key: recs[i].Key}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, env)
			}
			if len(got) != 1 || got[0].ID != recs[i].ID {
				t.Errorf("of the key %s there are %d events", recs[i].Key, len(got))
			}
		}
		if _, err := s.Index(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// Appends beside Reconcile do not wait for ever.
func TestAppendsBesideReconcile(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "1")
	origin := originOf(t, s)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	run(t, tx, "ALTER TABLE pulse.events ALTER COLUMN epoch SET DEFAULT 1") // the lock that Reconcile holds
	one, several := lessons(origin, 1), lessons(origin, 2)
	for _, recs := range [][]pulse.Record{several, one} {
		begin := time.Now()
		wantError(t, s.Append(t.Context(), recs), pulse.ErrBusy)
		if took := time.Since(begin); took < 300*time.Millisecond || len(recs) == 1 && took < 3*time.Second {
			t.Errorf("%d events waited %s only", len(recs), took)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, append(one, several...)...)
}

// restore copies the database of dsn into the server's own.
func restore(t *testing.T, to *pgtest.Server, dsn string, options ...string) {
	t.Helper()
	from, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgx.ParseConfig(to.DSN())
	if err != nil {
		t.Fatal(err)
	}
	dump := to.Command("pg_dump", append(options, "-h", from.Host, "-p", pgtest.Port(from), "-U", from.User, from.Database)...)
	sql, err := dump.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	load := to.Command("psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", c.Host, "-p", pgtest.Port(c), "-U", c.User, c.Database)
	load.Stdin = bytes.NewReader(sql)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
}
