package pgstore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
	"github.com/edupulse-live/pulse/storetest"
)

// The events of one Append stand next to each other, in its order, however many others append.
func TestUnitsStayTogether(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "8")
	origin := originOf(t, s)
	var mu sync.Mutex
	units := map[uuid.UUID][]pulse.Record{} // by the id of their first event
	var writers sync.WaitGroup
	for i := range 6 {
		writers.Go(func() {
			for n := range 8 {
				unit := lessons(origin, 20*(n+1))
				var err error
				if i%2 == 0 {
					err = s.Append(t.Context(), unit)
				} else {
					tx, beginning := pool.Begin(t.Context())
					if beginning != nil {
						t.Error(beginning)
						return
					}
					err = errors.Join(pgstore.Tx(tx).Append(t.Context(), unit), tx.Commit(t.Context()))
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				units[unit[0].ID] = unit
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	for envs := readAll(t, s); len(envs) > 0; {
		unit := units[envs[0].ID]
		if len(unit) == 0 {
			t.Fatalf("the event at position %d is the first of no unit", envs[0].Position)
		}
		for i := range unit {
			if envs[i].ID != unit[i].ID {
				t.Fatalf("event %d of a unit is not at position %d, after the one before it", i, envs[i].Position)
			}
		}
		envs = envs[len(unit):]
	}
}

// More events than get ids at once are one unit all the same.
func TestAUnitOfVeryManyIsOne(t *testing.T) {
	s := openStore(t, newDatabase(t))
	recs := lessons(originOf(t, s), 2*4096+10)
	bad := slices.Clone(recs)
	bad[len(bad)-1].Data = []byte("no JSON")
	if err := s.Append(t.Context(), bad); !errors.Is(err, pulse.ErrInvalid) {
		t.Fatalf("a payload that is no JSON: error is %v, want an ErrInvalid", err)
	}
	if head := info(t, s).Head; head != 0 {
		t.Fatalf("%d events of a refused unit are stored", head)
	}
	appendTo(t, s, recs...)
	appendTo(t, s, recs...)
	envs := readAll(t, s)
	if len(envs) != len(recs) {
		t.Fatalf("%d events, want %d", len(envs), len(recs))
	}
	for i := range envs {
		if envs[i].ID != recs[i].ID {
			t.Fatalf("another event stands at position %d", envs[i].Position)
		}
	}
}

// A unit that could not be sent, or only while its ids are new, is refused before anything is.
func TestAUnitOfTooManyBytesIsRefused(t *testing.T) {
	s := openStore(t, newDatabase(t))
	recs := lessons(originOf(t, s), 10)
	size := 0
	for i := range recs {
		size += recs[i].Size()
	}
	pgstore.LimitUnits(s, size-1)
	parts := "emit them in 2 parts"
	wantError(t, s.Append(t.Context(), recs), pulse.ErrTooLarge, "10 events", parts)
	wantError(t, s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error { return tx.Append(ctx, recs) }), pulse.ErrTooLarge, parts)
	if head := info(t, s).Head; head != 0 {
		t.Fatalf("%d events of a refused unit are stored", head)
	}
	appendTo(t, s, recs[:5]...)
	appendTo(t, s, recs[5:]...)
	pgstore.LimitUnits(s, size)
	appendTo(t, s, recs...)
	if head := info(t, s).Head; head != 10 {
		t.Fatalf("%d events are stored, want 10", head)
	}
}

// So is one in a transaction of the user's, before it would have to be kept or sent.
func TestAUnitOfTooManyBytesInDoIsRefused(t *testing.T) {
	dsn := newDatabase(t)
	s := openStore(t, dsn)
	rec := storetest.Record(originOf(t, s), func(r *pulse.Record) { r.IDNew, r.Data = true, []byte(`"`+strings.Repeat("x", 400<<10)+`"`) })
	pool := openPool(t, dsn, "1")
	wantError(t, pgstore.AppendInDo(t.Context(), pool, slices.Repeat([]pulse.Record{rec}, 800)), pulse.ErrTooLarge, "800 events", "emit them in 2 parts")
	if err := pgstore.AppendInDo(t.Context(), pool, []pulse.Record{rec}); err != nil || info(t, s).Head != 1 {
		t.Fatalf("the head is %d after the unit and one event: %v", info(t, s).Head, err)
	}
}

// A unit as large as it may be can be sent, whatever is in it.
func TestTheLargestUnitFitsIntoAMessage(t *testing.T) {
	const message = 1<<30 - 2 // PostgreSQL's limit
	quotes := strings.Repeat(`"`, 100)
	for name, change := range map[string]func(r *pulse.Record){
		"small":       func(r *pulse.Record) {},
		"quotes":      func(r *pulse.Record) { r.Data = []byte(`["` + strings.Repeat(`","`, 10_000) + `"]`) },
		"backslashes": func(r *pulse.Record) { r.Data = []byte(`"` + strings.Repeat(`\`, 10_000) + `"`) },
		"attributes": func(r *pulse.Record) {
			r.Key, r.Correlation, r.Trace, r.Actor, r.Causation = quotes, quotes, quotes, uuid.New(), uuid.New()
			r.Extensions = []byte(`{"a":"` + strings.Repeat(`\`, 100) + `"}`)
		},
	} {
		recs := []pulse.Record{storetest.Record("log/1", change), storetest.Record("log/1", change)}
		text, size := len(pgstore.Text(recs)), recs[0].Size()+recs[1].Size()
		if most := float64(text) / float64(size) * pgstore.MostUnitBytes; most > message-1<<20 {
			t.Errorf("%s: the text of a unit is up to %.0f bytes long", name, most)
		}
	}
}

// Who stores an id that an open transaction is storing waits for it, but not for ever.
func TestAnIdInAnOpenTransaction(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "3")
	rec := storetest.Record(originOf(t, s))
	for _, c := range []struct {
		name   string
		commit bool
	}{{"committed", true}, {"rolled back", false}} {
		t.Run(c.name, func(t *testing.T) {
			rec.ID = uuid.Must(uuid.NewV7())
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(context.Background())
			appendTo(t, pgstore.Tx(tx), rec)
			appended := make(chan error, 1)
			go func() { appended <- s.Append(t.Context(), []pulse.Record{rec}) }()
			waiting := func() bool {
				return number(t, pool, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%append_one(%' AND datname = current_database()") > 0
			}
			eventually(t, "the append waits for the transaction", waiting)
			if c.commit {
				err = tx.Commit(t.Context())
			} else {
				err = tx.Rollback(t.Context())
			}
			if err := errors.Join(err, <-appended); err != nil {
				t.Fatal(err)
			}
			if envs := readAll(t, s); envs[len(envs)-1].ID != rec.ID {
				t.Fatal("the event is not there")
			}
		})
	}
	t.Run("left open", func(t *testing.T) {
		before := info(t, s).Head
		rec.ID = uuid.Must(uuid.NewV7())
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(context.Background())
		appendTo(t, pgstore.Tx(tx), rec)
		wantError(t, s.Append(t.Context(), []pulse.Record{rec}), pulse.ErrBusy, "another transaction that has not ended")
		appendTo(t, s, lessons(originOf(t, s), 2)...)
		if head := info(t, s).Head; head != before+2 {
			t.Fatalf("the head went from %d to %d, want 2 more", before, head)
		}
	})
}

// A commit is durable also where the database's setting says that commits need not wait.
func TestCommitsAreSynchronousWhateverTheDatabaseSays(t *testing.T) {
	dsn := newDatabase(t)
	pool := openPool(t, dsn, "2")
	run(t, pool, "ALTER ROLE pulse IN DATABASE "+pool.Config().ConnConfig.Database+" SET synchronous_commit = off")
	s := openStore(t, dsn)
	run(t, pool, `CREATE TABLE said (what text)`)
	run(t, pool, `CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO said SELECT tg_table_name || ' ' || current_setting('synchronous_commit'); RETURN NULL; END $$`)
	for _, table := range []string{"events", "ticks"} {
		run(t, pool, "CREATE TRIGGER tell AFTER INSERT ON pulse."+table+" EXECUTE FUNCTION tell()")
	}
	rec := storetest.Record(originOf(t, s))
	appendTo(t, s, rec)      // one statement
	appendTo(t, s, rec, rec) // the lane of repeated ids
	info(t, s)
	rows, err := pool.Query(t.Context(), "SELECT DISTINCT what FROM said ORDER BY what")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var said []string
	for rows.Next() {
		var what string
		if err := rows.Scan(&what); err != nil {
			t.Fatal(err)
		}
		said = append(said, what)
	}
	if !slices.Equal(said, []string{"events on", "ticks on"}) {
		t.Fatalf("the settings at inserts were %q", said)
	}
}

// Nobody may change or delete events; a purge may take parts away.
func TestEventsStayAsTheyAre(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	appendTo(t, s, lessons(originOf(t, s), 3)...)
	info(t, s)
	for statement, allowed := range map[string]bool{
		"DELETE FROM pulse.events": false,
		"TRUNCATE pulse.events":    false,
		"UPDATE pulse.events SET name = 'x.y' WHERE id = (SELECT min(id) FROM pulse.events)":                                                 false,
		"UPDATE pulse.events SET data = '{}', purged_by = gen_random_uuid()":                                                                 false,
		"UPDATE pulse.events SET data = NULL, fact_salt = NULL":                                                                              false,
		"UPDATE pulse.events SET data = NULL, purged_by = gen_random_uuid()":                                                                 false,
		"UPDATE pulse.events SET actor_id = NULL, link_salt = NULL, purged_by = gen_random_uuid()":                                           false,
		"UPDATE pulse.events SET data = NULL, fact_salt = NULL, purged_by = gen_random_uuid() WHERE id = (SELECT max(id) FROM pulse.events)": true,
		"UPDATE pulse.events SET link_salt = NULL, actor_id = NULL, key = NULL, correlation_id = NULL, causation_id = NULL, trace = NULL, purged_by = gen_random_uuid() WHERE id = (SELECT min(id) FROM pulse.events)": true,
	} {
		_, err := pool.Exec(t.Context(), statement)
		if (err == nil) != allowed {
			t.Errorf("%s: %v", statement, err)
		}
	}
	if envs := readAll(t, s); len(envs) != 3 || envs[2].Data != nil || envs[0].Key != "" {
		t.Fatalf("after purges of parts the log reads as %+v", envs)
	}
	run(t, pool, `UPDATE pulse.events SET data = NULL, fact_salt = NULL, link_salt = NULL, actor_id = NULL, key = NULL, correlation_id = NULL, causation_id = NULL,
		trace = NULL, purged_by = gen_random_uuid() WHERE id = (SELECT id FROM pulse.events ORDER BY id LIMIT 1 OFFSET 1)`)
	page, err := s.Read(t.Context(), pulse.Query{})
	if err != nil || len(page.Envelopes) != 2 || page.Next != 3 {
		t.Fatalf("a husk is not skipped: %d events, next %d, %v", len(page.Envelopes), page.Next, err)
	}
}

// What a page may hold is bounded by bytes, not only by events.
func TestPagesOfLargeEvents(t *testing.T) {
	s := openStore(t, newDatabase(t))
	origin := originOf(t, s)
	large := make([]byte, 400<<10)
	for i := range large {
		large[i] = 'a'
	}
	data := append(append([]byte{'"'}, large...), '"')
	for range 30 {
		appendTo(t, s, storetest.Record(origin, func(r *pulse.Record) { r.Data = data }))
	}
	info(t, s)
	pages := 0
	for q := (pulse.Query{}); q.After < 30; pages++ {
		page, err := s.Read(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(page.Envelopes); n == 0 || n > 11 || page.Next != q.After+pulse.Position(n) {
			t.Fatalf("a page of %d events of 400 KiB, next %d after %d", n, page.Next, q.After)
		}
		q.After = page.Next
	}
	appendTo(t, s, lessons(origin, 3000)...)
	if got := len(readAll(t, s)); got != 3030 {
		t.Fatalf("%d events, want 3030", got)
	}
}

// A call that is cancelled while the server works leaves open what happened, and says so.
func TestCancelledWhileWaiting(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	rec := storetest.Record(originOf(t, s))
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	run(t, tx, "LOCK TABLE pulse.events IN SHARE MODE") // keeps everybody from inserting
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantError(t, s.Append(ctx, []pulse.Record{rec}), pulse.ErrUnknown, "under the same id")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, rec)
	if got := len(readAll(t, s)); got != 1 {
		t.Fatalf("%d events, want 1", got)
	}
}

// An id that an open transaction is storing holds up its own caller only: not those who emit new events, nor for long those who repeat others.
func TestABlockedIdHoldsUpItsCallerOnly(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "3")
	bus := openBus(t, s)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	blocked := uuid.New()
	if _, err := bus.In(pgstore.Tx(tx)).Emit(t.Context(), lesson(), pulse.ID(blocked)); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := bus.Emit(t.Context(), lesson(), pulse.ID(blocked))
		answered <- err
	}()
	eventually(t, "the emit waits for the transaction", func() bool {
		return number(t, pool, "SELECT count(*) FROM pg_locks WHERE NOT granted") > 0
	})
	var others sync.WaitGroup
	for i := range 64 {
		others.Go(func() {
			var opts []pulse.EmitOption
			if i%2 == 0 {
				opts = append(opts, pulse.ID(uuid.New()))
			}
			if _, err := bus.Emit(t.Context(), lesson(), opts...); err != nil {
				t.Error(err)
			}
		})
	}
	for range 20 {
		if _, err := bus.Emit(t.Context(), lesson()); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-answered:
		t.Fatalf("the blocked emit was answered before twenty others: %v", err)
	default:
	}
	others.Wait()
	wantError(t, <-answered, pulse.ErrBusy)
	if head := info(t, s).Head; head != 84 {
		t.Fatalf("the head is %d, want 84", head)
	}
}
