package pgstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

// The inbox is emptied in a time that does not depend on how many deliveries are left, nor on what the planner believes about the tables or
// believed when the connection was young.
func TestPruningLooksAtSuperfluousEntriesOnly(t *testing.T) {
	dsn := newDatabase(t)
	settings, prune := pgstore.PruneInboxSQL(openStore(t, dsn))
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	script(t, conn,
		"ALTER TABLE pulse.inbox SET (autovacuum_enabled = false)", "ALTER TABLE pulse.deliveries SET (autovacuum_enabled = false)",
		"INSERT INTO pulse.progress (kind, name, position, epoch) VALUES ('subscription', 'mailer', 1000000, 1)",
		"SET plan_cache_mode = force_generic_plan", "PREPARE prune (text, int4, int8) AS "+prune)
	plan := []string{"DISCARD PLANS", "BEGIN", settings, "EXPLAIN EXECUTE prune ('mailer', 1, 5000)", "COMMIT"}
	analyze := []string{"VACUUM ANALYZE pulse.inbox", "VACUUM ANALYZE pulse.deliveries"}
	none := []string{"TRUNCATE pulse.inbox", "TRUNCATE pulse.deliveries"}
	many := []string{`INSERT INTO pulse.deliveries (subscription, position, attempt, status, lane, name, key, error, stack)
		SELECT 'mailer', n, 1, 'dead', '', '', '', '', '' FROM generate_series(1, 300000) n`}
	for _, c := range []struct {
		name   string
		steps  [][]string
		needed int64
	}{
		{"none, never analyzed", [][]string{plan}, 0},
		{"many, planned while there were none", [][]string{many}, 100},
		{"many, never analyzed", [][]string{plan}, 100},
		{"many, analyzed", [][]string{analyze, plan}, 100},
		{"none, analyzed while there were many", [][]string{none, plan}, 0},
		{"many, analyzed and planned while there were none", [][]string{none, analyze, plan, many}, 100},
		{"many, analyzed while there were none", [][]string{plan}, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range c.steps {
				script(t, conn, step...)
			}
			script(t, conn, "INSERT INTO pulse.inbox SELECT 'mailer', 1, n FROM generate_series(299901, 306000) n ON CONFLICT DO NOTHING")
			text := script(t, conn, "EXPLAIN EXECUTE prune ('mailer', 1, 5000)")
			if !strings.Contains(text, "Tid Scan") || !strings.Contains(text, "using inbox_pkey on inbox i") ||
				!strings.Contains(text, `Index Cond: ((subscription = i.subscription) AND ("position" >= i."position"))`) || strings.Contains(text, "Loop") || strings.Contains(text, "Sort") {
				t.Fatalf("the plan is\n%s", text)
			}
			for _, left := range []int64{1100, c.needed, c.needed} { // the first 100 have a delivery, where there are any
				script(t, conn, "EXECUTE prune ('mailer', 1, 5000)")
				if n := number(t, conn, "SELECT count(*) FROM pulse.inbox"); n != left {
					t.Errorf("%d entries are left, want %d", n, left)
				}
			}
		})
	}
}

// script carries out statements, each by itself, and returns what the last one answers.
func script(t *testing.T, conn *pgx.Conn, statements ...string) (answer string) {
	t.Helper()
	for _, statement := range statements {
		results, err := conn.PgConn().Exec(t.Context(), statement).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		answer = ""
		for _, row := range results[0].Rows {
			answer += string(row[0]) + "\n"
		}
	}
	return answer
}

// What is superfluous is taken away for each subscription, also when several advance by turns.
func TestPruningOfSubscriptionsByTurns(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	var leases []pulse.Lease
	for _, name := range []string{"mailer", "search"} {
		if _, err := s.Register(t.Context(), pulse.Registration{Name: name, Start: pulse.Beginning}); err != nil {
			t.Fatal(err)
		}
		leases = append(leases, acquire(t, s, pulse.Lease{Name: name, Holder: "one"}, time.Hour))
	}
	for p := pulse.Position(1); p <= 100; p++ {
		for _, lease := range leases {
			if err := handle(t, s, lease, p, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, lease := range leases {
		cursors := number(t, pool, "SELECT count(*) FROM pulse.progress WHERE name = $1", lease.Name)
		entries := number(t, pool, "SELECT count(*) FROM pulse.inbox WHERE subscription = $1", lease.Name)
		if cursors > 33 || entries > 33 {
			t.Errorf("of subscription %s %d cursors and %d inbox entries are left", lease.Name, cursors, entries)
		}
	}
}

// However large the batches are, the inbox does not grow without end; what a process leaves behind goes with the first save of the next one.
func TestPruningKeepsUpWithBatches(t *testing.T) {
	const batch = 2000
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	lease := subscribed(t, s, time.Hour)
	last, most := pulse.Position(0), int64(0)
	for range 80 {
		if err := handle(t, s, lease, last+1, last+batch); err != nil {
			t.Fatal(err)
		}
		last += batch
		most = max(most, number(t, pool, "SELECT count(*) FROM pulse.inbox"))
	}
	if left := number(t, pool, "SELECT count(*) FROM pulse.inbox"); left > 34*batch || most > 34*batch {
		t.Errorf("of %d deliveries %d are left in the inbox, and were %d", last, left, most)
	}
	other := openStore(t, dsn)
	for left := int64(1); left > 0; {
		before := number(t, pool, "SELECT count(*) FROM pulse.inbox")
		if err := other.Advance(t.Context(), lease, pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: last}}); err != nil {
			t.Fatal(err)
		}
		if left = number(t, pool, "SELECT count(*) FROM pulse.inbox"); left != max(0, before-pgstore.PruneEntries) {
			t.Fatalf("an Advance left %d of %d inbox entries, want one that takes away %d", left, before, pgstore.PruneEntries)
		}
	}
}

// handle enters deliveries into the inbox and lets the cursor pass them.
func handle(t *testing.T, s *pgstore.Store, lease pulse.Lease, first, last pulse.Position) error {
	t.Helper()
	var positions []pulse.Position
	for p := first; p <= last; p++ {
		positions = append(positions, p)
	}
	err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		_, err := tx.Mark(ctx, lease, positions)
		return err
	})
	return errors.Join(err, s.Advance(t.Context(), lease, pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: last}}))
}
