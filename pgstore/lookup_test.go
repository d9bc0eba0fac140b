package pgstore_test

import (
	"context"
	"sync"
	"testing"

	"github.com/edupulse-live/pulse"
)

// An index that is dropped while it is being filled hides no events: what Index is about to commit goes too.
func TestDropIndexBesideIndex(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "3")
	recs := lessons(originOf(t, s), 40)
	appendTo(t, s, recs...)
	info(t, s)
	if _, err := s.Index(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	// The moment between the last statement of Index and its commit, as long as tx is open.
	run(t, pool, "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$")
	run(t, pool, "CREATE TRIGGER pause AFTER INSERT ON pulse.progress FOR EACH ROW EXECUTE FUNCTION pause()")
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	run(t, tx, "SELECT pg_advisory_xact_lock(1)")
	waiting := func() int64 {
		return number(t, pool, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
	}
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := s.Index(t.Context(), 20); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "Index is about to commit", func() bool { return waiting() == 1 })
	group.Go(func() {
		if err := s.DropIndex(t.Context()); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "DropIndex waits for it", func() bool { return waiting() == 2 })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	if n := number(t, pool, "SELECT count(*) FROM pulse.lookup"); n != 0 {
		t.Errorf("%d entries are left of an index that was dropped", n)
	}
	for more := true; more; {
		if more, err = s.Index(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Read(t.Context(), pulse.Query{Key: recs[0].Key})
	if err != nil || len(page.Envelopes) != len(recs) || page.Next != pulse.Position(len(recs)) {
		t.Errorf("%d of %d events of the key are found, up to position %d: %v", len(page.Envelopes), len(recs), page.Next, err)
	}
}
