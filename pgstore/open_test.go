package pgstore_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/membroker"
	"github.com/edupulse-live/pulse/pgstore"
)

// Any number of processes may start at once: the tables are made once, and all have one log.
func TestOpenedByManyAtOnce(t *testing.T) {
	dsn := newDatabase(t)
	var mu sync.Mutex
	origins := map[string]int{}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			s, err := pgstore.Open(t.Context(), dsn, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			i, err := s.Info(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			origins[i.Origin]++
			mu.Unlock()
		})
	}
	group.Wait()
	if len(origins) != 1 {
		t.Fatalf("the stores have the logs %v", origins)
	}
}

// Several logs in one database have nothing to do with each other.
func TestSchemasAreApart(t *testing.T) {
	dsn := newDatabase(t)
	one, other := openWith(t, dsn, &pgstore.Options{Schema: "one", Origin: "log/1", MaxEventBytes: 2000}), openWith(t, dsn, &pgstore.Options{Schema: "other"})
	appendTo(t, one, lessons("log/1", 3)...)
	if i := info(t, one); i.Head != 3 || i.Origin != "log/1" || i.MaxBytes != 2000 {
		t.Fatalf("the one log is %+v", i)
	}
	if i := info(t, other); i.Head != 0 || i.Origin == "log/1" || i.MaxBytes != 512<<10 {
		t.Fatalf("the other log is %+v", i)
	}
	pool := openPool(t, dsn, "2")
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	appendTo(t, pgstore.Schema("one").Tx(tx), lessons("log/1", 1)...)
	if err := tx.Commit(t.Context()); err != nil || info(t, one).Head != 4 || info(t, other).Head != 0 {
		t.Fatalf("the heads are %d and %d: %v", info(t, one).Head, info(t, other).Head, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dsn := newDatabase(t)
	openWith(t, dsn, &pgstore.Options{Origin: "school"})
	pool := openPool(t, dsn, "2")
	run(t, pool, "CREATE SCHEMA newer")
	run(t, pool, "CREATE TABLE newer.settings AS SELECT * FROM pulse.settings")
	run(t, pool, "UPDATE newer.settings SET schema_version = 99")
	run(t, pool, "CREATE ROLE guest LOGIN")
	t.Cleanup(func() { pgtest.Exec(t, dsn, "DROP ROLE guest") })
	for _, c := range []struct {
		name string
		dsn  string
		opts *pgstore.Options
		want error
		says string
	}{
		{"no DSN", "://", nil, pulse.ErrInvalid, ""},
		{"one connection", dsn + " pool_max_conns=1", nil, pulse.ErrInvalid, "set pool_max_conns to 4 or more"},
		{"another name", dsn, &pgstore.Options{Origin: "college"}, pulse.ErrInvalid, `"school"`},
		{"a newer version", dsn, &pgstore.Options{Schema: "newer"}, pulse.ErrInvalid, "upgrade"},
		{"a schema to be quoted", dsn, &pgstore.Options{Schema: "My Schema"}, pulse.ErrInvalid, "lower-case"},
		{"a name with a zero byte", dsn, &pgstore.Options{Schema: "mine", Origin: "a\x00b"}, pulse.ErrInvalid, "without zero bytes"},
		{"a name that is not UTF-8", dsn, &pgstore.Options{Schema: "mine", Origin: "a\xffb"}, pulse.ErrInvalid, "give a name in UTF-8"},
		{"events too large to be sent", dsn, &pgstore.Options{Schema: "mine", MaxEventBytes: 1 << 40}, pulse.ErrInvalid, "from 1 to 267386880, or 0 for 524288"},
		{"events of less than nothing", dsn, &pgstore.Options{Schema: "mine", MaxEventBytes: -1}, pulse.ErrInvalid, "from 1 to 267386880"},
		{"no rights", onRole(dsn, "guest"), &pgstore.Options{Schema: "mine"}, pulse.ErrInvalid, "what Grants returns"},
		{"no database", pgtest.OnDatabase(t, dsn, "nowhere"), nil, pulse.ErrInvalid, "nowhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := pgstore.Open(t.Context(), c.dsn, c.opts)
			if err == nil {
				_ = s.Close()
			}
			wantError(t, err, c.want, c.says)
		})
	}
	_, err := pgstore.Migrations(&pgstore.Options{Origin: "a\x00b"})
	wantError(t, err, pulse.ErrInvalid, "without zero bytes")
	same := openWith(t, dsn, &pgstore.Options{Origin: "school", MaxEventBytes: 17})
	if i := info(t, same); i.MaxBytes != 512<<10 {
		t.Fatalf("an existing log took another size limit: %+v", i)
	}
}

// onRole is dsn as another role: what comes later in a DSN counts.
func onRole(dsn, role string) string { return dsn + " user=" + role }

// A pool of the user's stays the user's; its functions and the store's may use all of it without waiting for each other.
func TestOpenPool(t *testing.T) {
	pool := openPool(t, newDatabase(t), "4")
	s, err := pgstore.OpenPool(t.Context(), pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	origin := originOf(t, s)
	var group sync.WaitGroup
	for range 12 {
		group.Go(func() {
			err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
				return errors.Join(tx.Append(ctx, lessons(origin, 1)), s.Append(ctx, lessons(origin, 1)))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if head := info(t, s).Head; head != 24 {
		t.Fatalf("the head is %d, want 24", head)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, pool, "SELECT 1")
}

// Two connections are enough for all that goes on at once: a handler that emits in its transaction and beside it, another one, a relay, and many who emit.
func TestTwoConnections(t *testing.T) {
	const callers, each = 64, 3
	dsn := newDatabase(t)
	bus, pool := openBus(t, openStore(t, dsn+" pool_max_conns=2")), openPool(t, dsn, "1")
	all, reached := make(chan struct{}), atomic.Int64{}
	err := errors.Join(
		bus.Publish("school", membroker.New(nil).Publisher("school")),
		bus.Subscribe("mailer", pulse.Start(pulse.Beginning), pgstore.OnTx(func(ctx context.Context, tx pgx.Tx, e published) error {
			_, statement := tx.Exec(ctx, "SELECT $1::int", e.N)
			_, inside := bus.Emit(ctx, pulse.Raw{Name: "mail.sent", Data: []byte("{}")})
			_, beside := bus.Emit(t.Context(), pulse.Raw{Name: "mail.tried", Data: []byte("{}")})
			return errors.Join(statement, inside, beside)
		})),
		bus.Subscribe("counter", pulse.Start(pulse.Beginning), pulse.OnDelivery("mail.sent", func(context.Context, *pulse.Delivery) error {
			if reached.Add(1) == callers*each+1 {
				close(all)
			}
			return nil
		})),
	)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- bus.Run(ctx) }()
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for n := range each {
				if _, err := bus.Emit(t.Context(), published{n}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if err := pgstore.Do(t.Context(), pool, bus, func(_ pgx.Tx, e pulse.Emitter) error { _, err := e.Emit(t.Context(), published{}); return err }); err != nil {
		t.Error(err)
	}
	group.Wait()
	select {
	case <-all:
	case <-time.After(patience):
		t.Errorf("%d of %d events went all the way", reached.Load(), callers*each+1)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// A database may have any default isolation.
func TestAnyDefaultIsolation(t *testing.T) {
	for _, level := range []string{"repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			dsn := newDatabase(t)
			pool := openPool(t, dsn, "2")
			run(t, pool, "ALTER DATABASE "+pool.Config().ConnConfig.Database+" SET default_transaction_isolation = '"+level+"'")
			var stores [3]*pgstore.Store
			for i := range stores {
				stores[i] = openStore(t, dsn)
			}
			origin := originOf(t, stores[0])
			var group sync.WaitGroup
			for _, s := range stores {
				group.Go(func() {
					for range 20 {
						recs := lessons(origin, 2)
						if err := s.Append(t.Context(), recs); err != nil {
							t.Error(err)
						}
						if err := s.Append(t.Context(), recs); err != nil {
							t.Error(err)
						}
						if _, err := s.Info(t.Context()); err != nil {
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
			if n := len(readAll(t, stores[0])); n != 120 {
				t.Fatalf("%d events, want 120", n)
			}
		})
	}
}

// The index finds what a look at the whole log finds, also of a log longer than one Read looks at.
func TestIndexOfALongLog(t *testing.T) {
	s := openStore(t, newDatabase(t))
	origin := originOf(t, s)
	const n, every = 12_000, 3000
	recs := lessons(origin, n)
	for i := range recs {
		if recs[i].Key = uuid.NewString(); i%every == 0 {
			recs[i].Key = "rare"
		}
	}
	appendTo(t, s, recs...)
	info(t, s)
	find := func() (envs []pulse.Envelope, reads int) {
		for q := (pulse.Query{Key: "rare"}); ; reads++ {
			page, err := s.Read(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if page.Next == q.After {
				return envs, reads
			}
			envs, q.After = append(envs, page.Envelopes...), page.Next
		}
	}
	check := func(what string, most int) {
		t.Helper()
		envs, reads := find()
		if len(envs) != n/every || reads > most {
			t.Fatalf("%s: %d events by %d reads, want %d by %d at most", what, len(envs), reads, n/every, most)
		}
	}
	check("without an index", 2)
	for more, err := true, error(nil); more; {
		if more, err = s.Index(t.Context(), 5000); err != nil {
			t.Fatal(err)
		}
	}
	check("with an index", 1)
	if err := s.DropIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("without an index again", 2)
}
