package pgstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
	"github.com/edupulse-live/pulse/storetest"
)

// G5, G12: writers with locks, rollbacks, savepoints and transactions that stay open; four sequencers; a reader beside them.
func TestSequencerMissesAndInvertsNothing(t *testing.T) {
	sequence(t, 14, atLeast(t, "PULSE_PG_EVENTS", 800)/14)
}

// atLeast is a number that a variable of the environment can make greater than CI has time for.
func atLeast(t testing.TB, variable string, n int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return n
	}
	more, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s is %q, want a number", variable, text)
	}
	return max(n, more)
}

func sequence(t *testing.T, writers, changes int) {
	dsn := newDatabase(t)
	s := &sequenced{
		T: t, pool: openPool(t, dsn, "20"), seed: rand.Uint64(), rare: max(40, changes*writers/100),
	}
	for i := range s.stores {
		s.stores[i] = openStore(t, dsn)
	}
	s.origin = originOf(t, s.stores[0])
	t.Logf("seed %d", s.seed)
	run(t, s.pool, "CREATE TABLE lessons (key int PRIMARY KEY, revision int NOT NULL)")
	run(t, s.pool, "INSERT INTO lessons SELECT key, 0 FROM generate_series(1, $1::int4) AS key", sequencedKeys)

	written := make(chan struct{})
	var writing, others sync.WaitGroup
	for i := range writers {
		writing.Go(func() { s.write(rand.New(rand.NewPCG(s.seed, uint64(i))), changes) })
	}
	for i := range s.stores {
		others.Go(func() { s.tick(i, written) })
	}
	others.Go(func() { s.follow(written) })
	writing.Wait()
	close(written)
	others.Wait()
	s.check()
}

const sequencedKeys = 6

type sequenced struct {
	*testing.T
	stores [4]*pgstore.Store
	pool   *pgxpool.Pool
	origin string
	seed   uint64
	rare   int // one of so many transactions stays open for long, and the 20th

	revised, long, rolledBack, savepoints atomic.Int64
	seen                                  []uuid.UUID // owned by follow until it has returned
}

// revision is what an event tells: the how manieth of its key it is.
type revision struct {
	Key int `json:"key"`
	N   int `json:"n"`
}

var errRollback = errors.New("the caller wants to roll back")

// write changes lessons and emits what it did, under the lock of the lesson's row.
func (s *sequenced) write(r *rand.Rand, changes int) {
	for range changes {
		err := pgx.BeginFunc(s.Context(), s.pool, func(tx pgx.Tx) error { return s.change(tx, r) })
		if err != nil && !errors.Is(err, errRollback) {
			s.Errorf("write: %v", err)
			return
		}
	}
}

func (s *sequenced) change(tx pgx.Tx, r *rand.Rand) error {
	ctx := s.Context()
	if r.IntN(3) == 0 { // the transaction gets its id long before it emits
		if _, err := tx.Exec(ctx, "SELECT pg_current_xact_id()"); err != nil {
			return err
		}
		time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
	}
	if err := s.revise(tx, r, 1+r.IntN(sequencedKeys)); err != nil {
		return err
	}
	switch {
	case s.revised.Add(1) == 20 || r.IntN(s.rare) == 0:
		s.long.Add(1)
		time.Sleep(300 * time.Millisecond)
	case r.IntN(10) == 0:
		s.rolledBack.Add(1)
		return errRollback
	}
	return nil
}

// revise makes one revision of a lesson, or two, or makes one in a savepoint that is rolled back.
func (s *sequenced) revise(tx pgx.Tx, r *rand.Rand, key int) error {
	ctx := s.Context()
	emit := func(tx pgx.Tx) error {
		e := revision{Key: key}
		if err := tx.QueryRow(ctx, "UPDATE lessons SET revision = revision + 1 WHERE key = $1 RETURNING revision", key).Scan(&e.N); err != nil {
			return err
		}
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return pgstore.Tx(tx).Append(ctx, []pulse.Record{storetest.Record(s.origin, func(r *pulse.Record) {
			r.Key, r.Data = fmt.Sprint(key), data
		})})
	}
	if err := emit(tx); err != nil {
		return err
	}
	switch r.IntN(5) {
	case 0:
		s.savepoints.Add(1)
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return errors.Join(emit(tx), errRollback) })
		if !errors.Is(err, errRollback) || strings.Contains(err.Error(), "pgstore") {
			return fmt.Errorf("savepoint: %w", err)
		}
	case 1:
		return pgx.BeginFunc(ctx, tx, emit)
	}
	return nil
}

// tick sequences until all is written.
func (s *sequenced) tick(store int, written <-chan struct{}) {
	for head := pulse.Position(0); ; {
		i, err := s.stores[store].Info(s.Context())
		if err != nil {
			s.Errorf("info: %v", err)
			return
		}
		if i.Head < head {
			s.Errorf("the head went from %d to %d", head, i.Head)
		}
		head = i.Head
		select {
		case <-written:
			return
		default:
		}
	}
}

// follow reads behind the head; what it has seen must stay.
func (s *sequenced) follow(written <-chan struct{}) {
	for {
		page, err := s.stores[1].Read(s.Context(), pulse.Query{After: pulse.Position(len(s.seen)), Limit: 50})
		if err != nil {
			s.Errorf("read: %v", err)
			return
		}
		for _, env := range page.Envelopes {
			if env.Position != pulse.Position(len(s.seen)+1) {
				s.Errorf("position %d follows %d", env.Position, len(s.seen))
				return
			}
			s.seen = append(s.seen, env.ID)
		}
		select {
		case <-written:
			return
		default:
		}
	}
}

// check compares the log with the table: each key has all its revisions, in order.
func (s *sequenced) check() {
	envs := readAll(s, s.stores[0])
	revisions := map[int]int{}
	for i, env := range envs {
		if i < len(s.seen) && s.seen[i] != env.ID {
			s.Fatalf("the reader saw another event at position %d", env.Position)
		}
		var e revision
		if err := json.Unmarshal(env.Data, &e); err != nil {
			s.Fatal(err)
		}
		if revisions[e.Key]++; e.N != revisions[e.Key] {
			s.Fatalf("at position %d revision %d of lesson %d stands where %d should be", env.Position, e.N, e.Key, revisions[e.Key])
		}
	}
	for key := range sequencedKeys {
		if stored := number(s, s.pool, "SELECT revision FROM lessons WHERE key = $1", key+1); stored != int64(revisions[key+1]) {
			s.Errorf("lesson %d has %d revisions and the log %d", key+1, stored, revisions[key+1])
		}
	}
	late := number(s, s.pool, `SELECT count(*) FROM (SELECT event, max(event) OVER (ORDER BY position) AS before FROM pulse.positions) p WHERE event < before`)
	ticks := number(s, s.pool, "SELECT max(n) FROM pulse.ticks")
	s.Logf("%d events, %d of which overtaken, in %d ticks; %d long transactions, %d rolled back, %d savepoints; the reader had %d",
		len(envs), late, ticks, s.long.Load(), s.rolledBack.Load(), s.savepoints.Load(), len(s.seen))
	if len(envs) < 150 || late == 0 || ticks < 20 || s.long.Load() == 0 || s.rolledBack.Load() == 0 || s.savepoints.Load() == 0 || len(s.seen) == 0 {
		s.Error("the test did too little to prove anything")
	}
}

// A transaction that stays open holds nobody up, and its event comes when it commits.
func TestALongTransactionHoldsNobodyUp(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "3")
	origin := originOf(t, s)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	late := storetest.Record(origin)
	appendTo(t, pgstore.Tx(tx), late)
	want := lessons(origin, 40)
	for i := range want {
		appendTo(t, s, want[i])
		if head := info(t, s).Head; head != pulse.Position(i+1) {
			t.Fatalf("the head is %d after %d appends beside an open transaction", head, i+1)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, env := range readAll(t, s) {
		if env.ID != append(want, late)[i].ID {
			t.Fatalf("another event stands at position %d", env.Position)
		}
	}
	if head := info(t, s).Head; head != 41 {
		t.Fatalf("the head is %d, want 41", head)
	}
}

// A prepared transaction is in progress until it is committed, by whatever connection.
func TestATwoPhaseCommitIsSequenced(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	if number(t, pool, "SELECT current_setting('max_prepared_transactions')::int8") == 0 {
		t.Skip("not applicable: the server has no prepared transactions")
	}
	rec := storetest.Record(originOf(t, s))
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, pgstore.Tx(tx), rec)
	run(t, tx, "PREPARE TRANSACTION 'pulse_test'")
	_ = tx.Rollback(t.Context())
	appendTo(t, s, lessons(originOf(t, s), 3)...)
	if head := info(t, s).Head; head != 3 {
		t.Fatalf("the head is %d beside a prepared transaction, want 3", head)
	}
	run(t, pool, "COMMIT PREPARED 'pulse_test'")
	if envs := readAll(t, s); len(envs) != 4 || envs[3].ID != rec.ID {
		t.Fatalf("%d events, want 4 and the prepared one last", len(envs))
	}
}

// An idle log costs reads only: no tick, no transaction id.
func TestAnIdleLogWritesNothing(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	appendTo(t, s, lessons(originOf(t, s), 3)...)
	info(t, s)
	ticks := number(t, pool, "SELECT count(*) FROM pulse.ticks")
	for range 50 {
		info(t, s)
	}
	if after := number(t, pool, "SELECT count(*) FROM pulse.ticks"); after != ticks {
		t.Fatalf("%d ticks became %d although nothing was emitted", ticks, after)
	}
}

// Ticks do not pile up.
func TestOldTicksAreTakenAway(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: a thousand ticks take a while under the race detector")
	}
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	origin := originOf(t, s)
	for range 1100 {
		appendTo(t, s, storetest.Record(origin))
		info(t, s)
	}
	last, count := number(t, pool, "SELECT max(n) FROM pulse.ticks"), number(t, pool, "SELECT count(*) FROM pulse.ticks")
	if last != 1100 || count > 800 || count < 256 {
		t.Fatalf("%d ticks are left of %d", count, last)
	}
	if len(readAll(t, s)) != 1100 {
		t.Fatal("events are missing")
	}
}

// A promoted standby writes another timeline: a new epoch, and the log goes on.
func TestANewTimelineIsANewEpoch(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	appendTo(t, s, lessons(originOf(t, s), 2)...)
	if epoch := info(t, s).Epoch; epoch != 1 {
		t.Fatalf("a new log has epoch %d", epoch)
	}
	run(t, pool, "UPDATE pulse.settings SET timeline = '0000AAAA'")
	appendTo(t, s, lessons(originOf(t, s), 2)...)
	if i := info(t, s); i.Epoch != 2 || i.Head != 4 {
		t.Fatalf("on a new timeline the log is %+v", i)
	}
	if i := info(t, s); i.Epoch != 2 {
		t.Fatalf("the epoch grew again: %+v", i)
	}
}
