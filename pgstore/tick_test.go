package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
	"github.com/edupulse-live/pulse/storetest"
)

// G14: a promoted standby goes on where the primary stopped, as a new epoch, also with what had no position yet.
func TestAPromotedStandby(t *testing.T) {
	primary := pgtest.New(t)
	s := openStore(t, primary.DSN())
	recs := lessons(originOf(t, s), 30)
	appendTo(t, s, recs[:10]...)
	info(t, s)
	standby, err := primary.Standby()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Remove(); err != nil {
			t.Error(err)
		}
	})
	appendTo(t, s, recs[10:20]...)
	pool := openPool(t, standby.DSN(), "2")
	eventually(t, "the standby has all", func() bool { return number(t, pool, "SELECT count(*) FROM pulse.events") == 20 })
	b := openStore(t, standby.DSN())
	_, err = b.Info(t.Context())
	wantError(t, err, pulse.ErrStore, "use the primary")
	wantError(t, b.Append(t.Context(), recs[20:21]), pulse.ErrStore, "use the primary")

	if err := primary.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	run(t, pool, "SELECT pg_promote(true, 30)")
	if i := info(t, b); i.Epoch != 2 || i.Head != 20 {
		t.Fatalf("after the promotion the log is %+v", i)
	}
	appendTo(t, b, recs[20:]...)
	for i, env := range readAll(t, b) {
		if env.ID != recs[i].ID {
			t.Fatalf("another event stands at position %d", env.Position)
		}
	}
	if i := info(t, b); i.Epoch != 2 || i.Head != 30 {
		t.Fatalf("the log is %+v", i)
	}
}

// Transactions that are in progress for long, five hundred at a time, hold up nobody, and their events come when they commit.
func TestFiveHundredOpenTransactions(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "4")
	const n = 500
	if number(t, pool, "SELECT current_setting('max_prepared_transactions')::int8") < n {
		t.Skip("not applicable: the server has no room for prepared transactions")
	}
	late := lessons(originOf(t, s), n)
	others := lessons(originOf(t, s), 30)
	name := func(i int) string { return fmt.Sprintf("%s_%d", pool.Config().ConnConfig.Database, i) }
	for i := range late {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		appendTo(t, pgstore.Tx(tx), late[i])
		run(t, tx, "PREPARE TRANSACTION '"+name(i)+"'")
		_ = tx.Rollback(t.Context())
	}
	order := rand.Perm(n)
	t.Cleanup(func() { // a database with prepared transactions cannot be dropped
		for _, i := range order {
			pgtest.Exec(t, dsn, "ROLLBACK PREPARED '"+name(i)+"'")
		}
	})
	for i := range others {
		appendTo(t, s, others[i])
		if head := info(t, s).Head; head != pulse.Position(i+1) {
			t.Fatalf("the head is %d after %d appends beside %d open transactions", head, i+1, n)
		}
	}
	for k := 0; len(order) > 0; k++ {
		run(t, pool, "COMMIT PREPARED '"+name(order[0])+"'")
		order = order[1:]
		if head := info(t, s).Head; head != pulse.Position(len(others)+k+1) {
			t.Fatalf("the head is %d after %d of them have committed", head, k+1)
		}
	}
	if envs := readAll(t, s); len(envs) != n+len(others) {
		t.Fatalf("%d events, want %d", len(envs), n+len(others))
	}
}

// Whatever somebody leaves open in the cluster, events of others are handled meanwhile.
func TestNothingLeftOpenHoldsUpOthers(t *testing.T) {
	elsewhere := newDatabase(t)
	for _, c := range []struct{ name, isolation, statement string }{
		{"a transaction that has emitted", "", ""},
		{"a snapshot", "REPEATABLE READ", "SELECT count(*) FROM pulse.events"},
		{"a transaction of another database", "", "SELECT pg_current_xact_id()"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dsn := newDatabase(t)
			s := openStore(t, dsn)
			bus := openBus(t, s)
			handled := make(chan struct{}, 100)
			err := bus.Subscribe("hearer", pulse.OnDelivery(">", func(context.Context, *pulse.Delivery) error { handled <- struct{}{}; return nil }))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			var group sync.WaitGroup
			group.Go(func() {
				if err := bus.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			defer group.Wait()
			defer stop()
			if c.name == "a transaction of another database" {
				dsn = elsewhere
			}
			tx, err := openPool(t, dsn, "1").BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.TxIsoLevel(c.isolation)})
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(context.Background())
			if c.statement == "" {
				appendTo(t, pgstore.Tx(tx), storetest.Record(originOf(t, s)))
			} else {
				run(t, tx, c.statement)
			}
			slowest := time.Duration(0)
			for range 40 {
				began := time.Now()
				if _, err := bus.Emit(t.Context(), oneLesson()); err != nil {
					t.Fatal(err)
				}
				select {
				case <-handled:
				case <-time.After(patience):
					t.Fatal("an event is not handled while the other is open")
				}
				slowest = max(slowest, time.Since(began))
			}
			t.Logf("the slowest of 40 took %s", slowest)
		})
	}
}

// Neither emitting nor sequencing leaves dead rows, however many.
func TestNoDeadRows(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	run(t, pool, "CREATE EXTENSION pgstattuple")
	bus := openBus(t, s)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for range 75 {
				if _, err := bus.Emit(t.Context(), oneLesson()); err != nil {
					t.Error(err)
				}
				if _, err := s.Info(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for table, want := range map[string]int64{"events": 1500, "positions": 1500} {
		live := number(t, pool, "SELECT tuple_count FROM pgstattuple('pulse."+table+"')")
		if dead := number(t, pool, "SELECT dead_tuple_count FROM pgstattuple('pulse."+table+"')"); live != want || dead != 0 {
			t.Errorf("%s has %d rows, want %d, and %d dead ones", table, live, want, dead)
		}
	}
	if head := info(t, s).Head; head != 1500 {
		t.Errorf("the head is %d", head)
	}
}

const tickingVariable = "PULSE_TEST_TICK"

// The process that TestAStoppedSequencer stops.
func TestSequencerProcess(t *testing.T) {
	dsn := os.Getenv(tickingVariable)
	if dsn == "" {
		t.Skip("not applicable: it is a helper of TestAStoppedSequencer")
	}
	s := openStore(t, dsn)
	for {
		info(t, s)
	}
}

// G6: a process that is stopped in the middle of a tick holds up nobody, and spoils nothing when it goes on.
func TestAStoppedSequencer(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	origin := originOf(t, s)
	other := exec.Command(os.Args[0], "-test.run=^TestSequencerProcess$")
	other.Env = append(os.Environ(), tickingVariable+"="+dsn)
	other.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := other.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		_ = other.Wait()
	}()
	ticks := func() int64 { return number(t, pool, "SELECT max(n) FROM pulse.ticks") }
	var emitted pulse.Position
	emit := func() {
		emitted++
		appendTo(t, s, storetest.Record(origin))
	}
	theirs := 0
	for round := range 25 {
		before := ticks()
		emit()
		eventually(t, "the other process ticks", func() bool { return ticks() > before })
		theirs++
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond) // anywhere in a tick
		signal(t, other.Process, syscall.SIGSTOP)
		for range 5 {
			emit()
			if head := info(t, s).Head; head != emitted {
				t.Fatalf("round %d: the head is %d beside a stopped process, want %d", round, head, emitted)
			}
		}
		signal(t, other.Process, syscall.SIGCONT)
	}
	if n := len(readAll(t, s)); n != int(emitted) || theirs == 0 {
		t.Fatalf("%d events, want %d", n, emitted)
	}
}

func signal(t *testing.T, p *os.Process, sig os.Signal) {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
}
