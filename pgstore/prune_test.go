package pgstore_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse/pgstore"
)

// The inbox is emptied in a time that does not depend on what the planner believes about it: nothing, before anybody analyzed it.
func TestPruningNeverLoopsOverTheInbox(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	run(t, pool, "INSERT INTO pulse.progress (kind, name, position, epoch) VALUES ('subscription', 'mailer', 9000, 1)")
	for _, state := range []string{"never analyzed", "analyzed"} {
		t.Run(state, func(t *testing.T) {
			run(t, pool, "INSERT INTO pulse.inbox SELECT 'mailer', 1, n FROM generate_series(1, 10000) n ON CONFLICT DO NOTHING")
			run(t, pool, `INSERT INTO pulse.deliveries (subscription, position, attempt, status, lane, name, key, error, stack)
				SELECT 'mailer', n, 1, 'retry', '', '', '', '', '' FROM generate_series(1, 100) n ON CONFLICT DO NOTHING`)
			if state == "analyzed" {
				run(t, pool, "ANALYZE pulse.inbox, pulse.deliveries")
			}
			rows, err := pool.Query(t.Context(), "EXPLAIN "+pgstore.PruneInboxSQL(s), "mailer", int64(1))
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			plan := strings.Join(lines, "\n")
			if err != nil || !strings.Contains(plan, "Tid Scan") || !strings.Contains(plan, "hashed SubPlan") || strings.Contains(plan, "Loop") {
				t.Errorf("%v\n%s", err, plan)
			}
			for _, want := range []int64{5000, 3900, 0} { // of those up to 9000 the first 100 are needed
				tag, err := pool.Exec(t.Context(), pgstore.PruneInboxSQL(s), "mailer", int64(1))
				if err != nil || tag.RowsAffected() != want {
					t.Errorf("%d entries were taken away, want %d: %v", tag.RowsAffected(), want, err)
				}
			}
		})
	}
}
