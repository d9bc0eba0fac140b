package pgstore

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What is done all the time is sent as prepared statements with names, which the server reads and plans once for each connection, and not each
// time: half of what it does for one event. Behind a pooler that gives each transaction another connection they are not found there, or
// another client's are, so the store names none where it sees a pooler. Where it cannot see it the server says so before it does anything,
// and what the store has sent outside of transactions is sent again without a name, from then on always.

// call is one statement to be carried out.
type call struct {
	sql             string
	params          [][]byte
	formats, answer []int16
}

// roundTrip carries out calls as one transaction, in one round trip, and lets read read the answers. It may do all of it twice.
func (s *Store) roundTrip(ctx context.Context, conn *pgx.Conn, calls []call, read func(answers *pgconn.MultiResultReader) error) error {
	named := s.names(conn)
	err := send(ctx, conn, named, calls, read)
	if named && hasCode(err, unknownStatement, statementExists, planChanged) {
		s.nameless.Store(true)
		err = send(ctx, conn, false, calls, read)
	}
	return err
}

// names reports whether statements are sent with names on conn.
func (s *Store) names(conn *pgx.Conn) bool { return prepares(conn) && !s.nameless.Load() }

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

// prepareWhereDirect has the connections of a pool to be made prepare statements, as those of pgx do, but not where they lead to a pooler.
func prepareWhereDirect(config *pgxpool.Config) {
	var pooled atomic.Bool
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		if pooled.Load() || c.StatementCacheCapacity == 0 {
			c.DefaultQueryExecMode = pgx.QueryExecModeExec // works behind every pooler
		}
		return nil
	}
	config.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (usable bool, err error) {
		kept := conn.PgConn().CustomData()
		if !prepares(conn) || kept[directKey] != nil {
			return true, nil
		}
		usable, err = leadsToServer(ctx, conn)
		if usable {
			kept[directKey] = true
		} else if err == nil {
			pooled.Store(true)
		}
		return usable, err
	}
}

// directKey is where a connection keeps that it was found to lead to the server itself.
const directKey = "pulse/pgstore: direct"

// leadsToServer reports whether conn does: a pooler makes up the process number that it tells a client.
func leadsToServer(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var process uint32
	err := conn.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeExec).Scan(&process)
	return process == conn.PgConn().PID(), err
}
