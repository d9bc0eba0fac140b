package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What is done all the time is sent as named prepared statements, which the server reads and plans once for each connection, and not each
// time: half of what it does for one event. Behind a pooler that gives each transaction another connection they are not found there, or
// another client's are, so the store names none where it sees a pooler. Where it cannot see it the server says so before it does anything,
// and what was sent is sent again without a name, from then on always.

// call is one statement to be carried out.
type call struct {
	sql             string
	params          [][]byte
	formats, answer []int16
}

// roundTrip carries out calls as one transaction, in one round trip, and lets read read the answers. It may do all of it twice.
func (s *Store) roundTrip(ctx context.Context, conn *pgx.Conn, calls []call, read func(answers *pgconn.MultiResultReader) error) error {
	named := s.named.Load()
	err := send(ctx, conn, named, calls, read)
	if named && hasCode(err, unknownStatement, statementExists, planChanged) {
		s.named.Store(false)
		err = send(ctx, conn, false, calls, read)
	}
	return err
}

func send(ctx context.Context, conn *pgx.Conn, named bool, calls []call, read func(answers *pgconn.MultiResultReader) error) error {
	batch := &pgconn.Batch{}
	for i := range calls {
		c := &calls[i]
		if !named {
			batch.ExecParams(c.sql, c.params, nil, c.formats, c.answer)
			continue
		}
		statement, err := conn.Prepare(ctx, c.sql, c.sql) // does nothing when it was done on this connection
		if err != nil {
			return err
		}
		batch.ExecPrepared(statement.Name, c.params, c.formats, c.answer)
	}
	answers := conn.PgConn().ExecBatch(ctx, batch)
	err := read(answers)
	if closing := answers.Close(); closing != nil {
		return closing
	}
	return err
}

// mayName reports whether statements may be named on connections of pool: their configuration says so, or, where it was left to
// the store, the first one leads to the server itself. A pooler makes up the process number that it tells a client.
func mayName(ctx context.Context, pool *pgxpool.Pool, leftToStore bool) (bool, error) {
	if !leftToStore {
		return pool.Config().ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement, nil
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	var process uint32
	err = conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&process)
	return process == conn.Conn().PgConn().PID(), err
}
