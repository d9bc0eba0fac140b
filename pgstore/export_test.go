package pgstore

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
)

// Explainer carries out statements of a store on a connection of its own, whose plans get as old as it is, and tells the plans.
type Explainer struct {
	store *Store
	conn  *pgx.Conn
	plan  string
}

// Explain opens an Explainer.
func Explain(ctx context.Context, s *Store) (*Explainer, error) {
	x := &Explainer{store: s}
	config := s.pool.Config().ConnConfig
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { x.plan += n.Message + "\n" }
	var err error
	if x.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, err
	}
	for _, setting := range []string{
		"LOAD 'auto_explain'", "SET auto_explain.log_min_duration = 0", "SET auto_explain.log_nested_statements = on",
		"SET auto_explain.log_analyze = on", "SET client_min_messages = log",
		// What a log of many millions of events would tempt the planner to.
		"SET parallel_setup_cost = 0", "SET parallel_tuple_cost = 0", "SET min_parallel_table_scan_size = 0", "SET min_parallel_index_scan_size = 0",
	} {
		if _, err := x.conn.Exec(ctx, setting); err != nil {
			return nil, errors.Join(err, x.conn.Close(ctx))
		}
	}
	return x, nil
}

// Tick makes the next tick.
func (x *Explainer) Tick(ctx context.Context) (plan string, err error) {
	q := &x.store.sequencer
	<-q.turn
	defer func() { q.turn <- struct{}{} }()
	x.plan = ""
	t, err := x.store.tick(ctx, x.conn)
	if err != nil {
		return "", err
	}
	return x.plan, q.remember(&t)
}

// Near reads the events of a few positions.
func (x *Explainer) Near(ctx context.Context, after, through int64) (plan string, err error) {
	x.plan = ""
	_, err = x.conn.Exec(ctx, x.store.sql.near, pgx.QueryExecModeExec, after, through)
	return x.plan, err
}

// Close closes the connection.
func (x *Explainer) Close(ctx context.Context) error { return x.conn.Close(ctx) }

// LimitUnits makes units of more than so many bytes too large.
func LimitUnits(s *Store, bytes int) { s.most = bytes }

// MostUnitBytes is how much a unit takes at most.
const MostUnitBytes = mostUnitBytes

// Text is what recs are sent as, at most.
func Text(recs []pulse.Record) string { return new(unit).text(recs) }

// AppendInDo appends recs in a transaction of Do's.
func AppendInDo(ctx context.Context, pool *pgxpool.Pool, recs []pulse.Record) error {
	tx := &lazyTx{schema: DefaultSchema, op: opDo}
	return tx.outcome(tx.on(ctx, pool, func() error { return tx.Append(ctx, recs) }))
}

// FenceSQL is the statement that a transaction fences itself with before it commits.
func FenceSQL(s *Store) string { return s.sql.fence }

// NamesStatements reports whether the store sends named statements.
func NamesStatements(ctx context.Context, s *Store) (names bool, err error) {
	err = s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		names = s.names(conn.Conn())
		return nil
	})
	return names, err
}
