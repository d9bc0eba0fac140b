package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ExplainTick makes the next tick and returns the plan it was made by.
func ExplainTick(ctx context.Context, s *Store) (plan string, err error) {
	<-s.sequencer.turn
	defer func() { s.sequencer.turn <- struct{}{} }()
	config := s.pool.Config().ConnConfig
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { plan += n.Message + "\n" }
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	for _, setting := range []string{
		"LOAD 'auto_explain'", "SET auto_explain.log_min_duration = 0", "SET auto_explain.log_nested_statements = on",
		"SET auto_explain.log_analyze = on", "SET client_min_messages = log",
	} {
		if _, err := conn.Exec(ctx, setting); err != nil {
			return "", err
		}
	}
	t, err := s.tick(ctx, conn)
	if err != nil {
		return "", err
	}
	return plan, s.sequencer.remember(&t)
}

// FenceSQL is the statement that a transaction fences itself with before it commits.
func FenceSQL(s *Store) string { return s.sql.fence }
