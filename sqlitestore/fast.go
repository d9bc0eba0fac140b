package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/edupulse-live/pulse"
)

// fast is what Append needs to talk to the driver without database/sql between. That is worth it for one event at a time: an sql.Tx
// starts a goroutine, which on a busy machine costs more than the insert.
type fast struct {
	conn                               any // the driver's connection that the statements belong to
	begin, commit, rollback, one, many driver.StmtExecContext
	args                               []driver.NamedValue
	close                              []func() error // the connection is not really closed before its statements are
	last                               int64          // position of the row inserted last
}

// errRepeats: an id is stored already.
var errRepeats = errors.New("an id is stored already")

// appendNew appends recs if none of their ids is stored. done is false when one is, and nothing was done then.
func (s *Store) appendNew(ctx context.Context, recs []pulse.Record) (done bool, err error) {
	const op = "append"
	conn, err := s.connect(ctx, full)
	if err != nil {
		return true, fail(op, err)
	}
	defer conn.Close()
	committing := false
	err = conn.Raw(func(dc any) error {
		f, err := s.fastOn(ctx, dc)
		if err != nil {
			return err
		}
		if err := awaitLock(ctx, func() error { return f.run(f.begin) }); err != nil {
			return err
		}
		u := s.unit(nil)
		u.exec = f.insert(s.inserts)
		if err := u.appendNew(recs); err != nil {
			_ = f.run(f.rollback) // a full disk has rolled back already
			return err
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(err, f.run(f.rollback))
		}
		committing = true
		if err := f.run(f.commit); err != nil {
			_ = f.run(f.rollback)
			return err
		}
		u.tell(recs, pulse.Position(f.last))
		return nil
	})
	switch {
	case errors.Is(err, errRepeats):
		return false, nil
	case err != nil && committing:
		return true, failCommit(op, err)
	case err != nil:
		return true, fail(op, err)
	}
	return true, nil
}

// appendNew is append that gives up at an id that is stored.
func (u *unit) appendNew(recs []pulse.Record) error {
	for i := range recs {
		if err := u.check(&recs[i]); err != nil {
			return err
		}
	}
	for len(recs) > 0 {
		n, query := u.chunk(recs)
		rows, err := u.insert(query, recs[:n])
		if err != nil {
			return err
		}
		if rows < int64(n) {
			return errRepeats
		}
		recs = recs[n:]
	}
	return nil
}

// tell gives recs, the rows of this unit that end at position last, what the store gave them.
func (u *unit) tell(recs []pulse.Record, last pulse.Position) {
	recorded := time.UnixMicro(u.now.UnixMicro()).UTC()
	for i := range recs {
		recs[i].Position = last - pulse.Position(len(recs)-1-i)
		recs[i].RecordedAt = recorded
	}
}

// fastOn returns the statements for the driver's connection dc. The caller holds the connection.
func (s *Store) fastOn(ctx context.Context, dc any) (*fast, error) {
	if s.fast.conn == dc {
		return &s.fast, nil
	}
	f := fast{args: make([]driver.NamedValue, insertChunk*insertColumns)}
	for i := range f.args {
		f.args[i].Ordinal = i + 1
	}
	preparer, ok := dc.(driver.ConnPrepareContext)
	if !ok {
		return nil, errors.New("the SQLite driver cannot prepare statements")
	}
	for query, to := range map[string]*driver.StmtExecContext{
		"BEGIN IMMEDIATE": &f.begin, "COMMIT": &f.commit, "ROLLBACK": &f.rollback, s.inserts.one: &f.one, s.inserts.chunk: &f.many,
	} {
		st, err := preparer.PrepareContext(context.WithoutCancel(ctx), query)
		if err != nil {
			return nil, err
		}
		if *to, ok = st.(driver.StmtExecContext); !ok {
			return nil, errors.New("the SQLite driver cannot execute statements")
		}
		f.close = append(f.close, st.Close)
	}
	f.conn = dc
	s.fast = f
	return &s.fast, nil
}

// retire closes the statements. The caller holds conn and gives it back.
func (s *Store) retire(conn *sql.Conn) error {
	return conn.Raw(func(dc any) error {
		if s.fast.conn != dc {
			return nil
		}
		var errs []error
		for _, closeOne := range s.fast.close {
			errs = append(errs, closeOne())
		}
		s.fast = fast{}
		return errors.Join(errs...)
	})
}

// run executes a statement without parameters. None of them takes long, so they do not depend on a context.
func (f *fast) run(st driver.StmtExecContext) error {
	_, err := st.ExecContext(context.Background(), nil)
	return err
}

// insert returns what executes the inserts of a unit.
func (f *fast) insert(known inserts) func(query string, args ...any) (int64, error) {
	return func(query string, args ...any) (int64, error) {
		st := f.one
		if query == known.chunk {
			st = f.many
		}
		values := f.args[:len(args)]
		for i, arg := range args {
			values[i].Value = arg
		}
		res, err := st.ExecContext(context.Background(), values)
		for i := range values {
			values[i].Value = nil
		}
		if err != nil {
			return 0, err
		}
		if f.last, err = res.LastInsertId(); err != nil {
			return 0, err
		}
		return res.RowsAffected()
	}
}
