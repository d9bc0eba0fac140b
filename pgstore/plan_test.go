package pgstore_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

// The cost of a tick, and of reading the newest events, depends on what is new, not on the length of the log, and not on what the planner
// believes about it or believed when the connection was young. A transaction that stays open is in the snapshot all the time.
func TestATickLooksAtWhatIsNewOnly(t *testing.T) {
	rows := atLeast(t, "PULSE_PG_ROWS", 200_000) / 2 // twice
	if testing.Short() {
		rows = 20_000
	}
	dsn := newDatabase(t)
	s, elsewhere, pool := openStore(t, dsn), openStore(t, dsn), openPool(t, dsn, "4")
	origin := originOf(t, s)
	run(t, pool, "ALTER TABLE pulse.events SET (autovacuum_enabled = false)")
	old := explain(t, s)
	appendTo(t, elsewhere, lessons(origin, 3)...) // which s does not have at hand
	old.check(t, info(t, s).Head)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	appendTo(t, pgstore.Tx(tx), lessons(origin, 1)...)
	for _, state := range []string{"planned while empty", "never analyzed", "analyzed long ago", "analyzed"} {
		t.Run(state, func(t *testing.T) {
			n, by := rows, old
			switch state {
			case "planned while empty":
				n = 2000 // each looked at would be noticed, and who does takes long
			case "analyzed":
				run(t, pool, "ANALYZE pulse.events")
				n = 10
			}
			if state != "planned while empty" {
				by = explain(t, s)
			}
			fill(t, pool, n)
			info(t, s)
			appendTo(t, elsewhere, lessons(origin, 3)...)
			by.check(t, info(t, s).Head)
			if state == "never analyzed" {
				run(t, pool, "ANALYZE pulse.events")
			}
		})
	}
}

// explainer is a connection that tells plans.
type explainer struct{ *pgstore.Explainer }

func explain(t *testing.T, s *pgstore.Store) explainer {
	t.Helper()
	x, err := pgstore.Explain(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close(context.Background()) })
	return explainer{x}
}

// check checks the plans of a tick and of reading the last events of a log that ends at head.
func (x explainer) check(t *testing.T, head pulse.Position) {
	t.Helper()
	plan, err := x.Tick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkPlan(t, plan, "events_epoch_xid", "events_epoch_xid", "events_pkey")
	if plan, err = x.Near(t.Context(), int64(head)-3, int64(head)); err != nil {
		t.Fatal(err)
	}
	checkPlan(t, plan, "events_pkey")
}

// fill adds n rows to the log, without what Append does for each.
func fill(t *testing.T, pool interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, n int,
) {
	t.Helper()
	run(t, pool, `INSERT INTO pulse.events (id, occurred_at, event_id, version, format, name, source, fact_salt, link_salt, digests, commitment, data)
		SELECT id, now(), lpad(to_hex(id), 32, '0')::uuid, 1, 1, 'lesson.published', '/', '', '', '', '', '{}'
		FROM (SELECT nextval('pulse.event_units') AS id FROM generate_series(1, $1::int4)) ids`, n)
}

var scans = regexp.MustCompile(`(?m)(Index Scan|Index Only Scan|Seq Scan|Bitmap Heap Scan) using? ?(\S*) ?on events e`)

// checkPlan checks that the events are looked at by these indexes, and no rows are that are not wanted.
func checkPlan(t *testing.T, plan string, indexes ...string) {
	t.Helper()
	var found []string
	for _, scan := range scans.FindAllStringSubmatch(plan, -1) {
		found = append(found, scan[2])
	}
	if !slices.Equal(found, indexes) {
		t.Errorf("the events are looked at by %q, want %q", found, indexes)
	}
	if strings.Contains(plan, "JIT") || strings.Contains(plan, "Gather") {
		t.Error("the plan is compiled, or carried out by several processes: to begin that takes longer than all of it")
	}
	if regexp.MustCompile(`Rows Removed by (Filter|Index Recheck|Join Filter): \d{3,}`).MatchString(plan) {
		t.Error("rows that are not new are looked at")
	}
	if t.Failed() {
		t.Log(plan)
	}
}
