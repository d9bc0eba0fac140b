package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/health"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
)

// teach is a program that emits lessons, each in a transaction with a row in the table lessons, until it is killed. Every fifth it rolls back.
func teach() int {
	err := teachLessons(context.Background(), os.Getenv("PULSE_STORE"))
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func teachLessons(ctx context.Context, dsn string) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := pgstore.OpenPool(ctx, pool, nil)
	if err != nil {
		return err
	}
	bus, err := pulse.New(store, nil)
	if err != nil {
		return err
	}
	undecided := errors.New("no such lesson after all")
	for n := 1; ; n++ {
		err := pgstore.Do(ctx, pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
			var id int64
			if err := tx.QueryRow(ctx, "INSERT INTO lessons DEFAULT VALUES RETURNING id").Scan(&id); err != nil {
				return err
			}
			_, err := e.Emit(ctx, pulse.Raw{Name: "lesson.published", Key: fmt.Sprint("lesson-", id), Data: []byte(`{}`)})
			if err == nil && n%5 == 0 {
				err = undecided
			}
			return err
		})
		if err != nil && !errors.Is(err, undecided) {
			return err
		}
	}
}

// startTeaching runs the program.
func startTeaching(t *testing.T, url string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := t.TempDir() + "/teach"
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), link)
	cmd.Env = append(os.Environ(), "PULSE_STORE="+url)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// G1, G3, G4: one process emits in its transactions, another publishes what is in the log. Either is killed again and again: what was
// committed is published, all of it and nothing else.
func TestEmitHereServeThere(t *testing.T) {
	url, broker := pgtest.URL(t, postgres.Database(t)), natsServer(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "CREATE TABLE lessons (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	s := &school{dir: t.TempDir()}
	serve := func() *server { return s.serve(t, "--store", url, "--broker", broker) }
	teacher, relay := startTeaching(t, url), serve()
	for round := range 3 {
		before := lessons(t, pool)
		awaitLessons(t, pool, before+50)
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond) // a kill comes whenever it comes
		if round != 1 {
			kill(relay.Cmd)
			relay = serve()
		}
		if round != 0 {
			kill(teacher)
			teacher = startTeaching(t, url)
		}
	}
	awaitLessons(t, pool, lessons(t, pool)+50)
	kill(teacher)
	relay.await(t, "the last event", func(code int, d health.DestinationReport) bool {
		s.count = lessons(t, pool)
		return code == 200 && d.Lag == 0 && int(d.Cursor) == s.count
	})
	checkComplete(t, published(t, broker, ""), s.count)
	checkLessons(t, pool)
}

func lessons(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM lessons").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func awaitLessons(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	for deadline := time.Now().Add(pgtest.Patience); lessons(t, pool) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there are %d lessons, not %d", lessons(t, pool), n)
		}
	}
}

// checkLessons checks that the log has the lessons of the table, each once.
func checkLessons(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	rows, err := pool.Query(t.Context(), "SELECT 'lesson-' || id FROM lessons ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	rows, err = pool.Query(t.Context(), "SELECT e.key FROM pulse.events e JOIN pulse.positions p ON p.event = e.id ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	slices.Sort(want)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d events in the log for %d lessons: %v", len(got), len(want), err)
	}
}

// A relay outlives the database: it goes on when that is back.
func TestServeWaitsForTheDatabase(t *testing.T) {
	server, broker := pgtest.New(t), natsServer(t)
	url := pgtest.URL(t, server.DSN())
	s := &school{dir: t.TempDir()}
	emit := func(n int) {
		t.Helper()
		for range n {
			if code, _, stderr := s.pulse(t, "emit", "--store", url, "lesson.published", "-d", "1"); code != exitOK {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			s.count++
		}
	}
	emit(2)
	relay := s.serve(t, "--store", url, "--broker", broker)
	relay.awaitPublished(t, s)
	if err := server.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	relay.await(t, "that it is not well", func(code int, _ health.DestinationReport) bool { return code == 503 })
	if code, _, stderr := s.pulse(t, "serve", "--store", url, "--listen", "127.0.0.1:0"); code != exitFailure || !strings.Contains(stderr, "cannot be reached: ") {
		t.Errorf("one that starts now ends with %d: %s", code, stderr)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	emit(2)
	relay.awaitPublished(t, s)
	relay.signal(t, syscall.SIGTERM)
	if code := relay.exit(); code != exitOK {
		t.Errorf("exit code %d: %s", code, relay.stderr)
	}
	checkComplete(t, published(t, broker, ""), s.count)
}
