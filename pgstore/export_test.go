package pgstore

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ExplainTick returns the plan of the next tick, as it would be made now.
func ExplainTick(ctx context.Context, s *Store) (plan string, err error) {
	<-s.sequencer.turn
	defer func() { s.sequencer.turn <- struct{}{} }()
	q := &s.sequencer
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, planSQL); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "EXPLAIN (ANALYZE, BUFFERS) "+s.sql.tick, pgx.QueryExecModeExec, q.n, q.xidEpoch, q.xmax, q.xips)
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		plan = strings.Join(lines, "\n")
		return err
	})
	return plan, err
}

// FenceSQL is the statement that a transaction fences itself with before it commits.
func FenceSQL(s *Store) string { return s.sql.fence }
