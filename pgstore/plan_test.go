package pgstore_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse/pgstore"
)

// The cost of a tick depends on what is new, not on the length of the log, and not on what the planner believes about it. A transaction
// that stays open is in the snapshot all the time.
func TestATickLooksAtWhatIsNewOnly(t *testing.T) {
	rows := atLeast(t, "PULSE_PG_ROWS", 200_000) / 2 // twice
	if testing.Short() {
		rows = 20_000
	}
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "4")
	origin := originOf(t, s)
	run(t, pool, "ALTER TABLE pulse.events SET (autovacuum_enabled = false)")
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	appendTo(t, pgstore.Tx(tx), lessons(origin, 1)...)
	for _, state := range []string{"never analyzed", "analyzed long ago", "analyzed"} {
		t.Run(state, func(t *testing.T) {
			n := rows
			if state == "analyzed" {
				run(t, pool, "ANALYZE pulse.events")
				n = 10
			}
			fill(t, pool, n)
			info(t, s)
			appendTo(t, s, lessons(origin, 3)...)
			plan, err := pgstore.ExplainTick(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			checkPlan(t, plan)
			if state == "never analyzed" {
				run(t, pool, "ANALYZE pulse.events")
			}
		})
	}
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

func checkPlan(t *testing.T, plan string) {
	t.Helper()
	found := scans.FindAllStringSubmatch(plan, -1)
	if len(found) != 2 {
		t.Errorf("the events are looked at in %d ways, want 2", len(found))
	}
	for _, scan := range found {
		if scan[2] != "events_epoch_xid" {
			t.Errorf("the plan has %q", scan[0])
		}
	}
	if strings.Contains(plan, "JIT") {
		t.Error("the plan is compiled")
	}
	if strings.Contains(plan, "Rows Removed") && regexp.MustCompile(`Rows Removed by (Filter|Index Recheck): \d{3,}`).MatchString(plan) {
		t.Error("rows that are not new are looked at")
	}
	if t.Failed() {
		t.Log(plan)
	}
}
