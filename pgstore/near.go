package pgstore

import (
	"context"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse"
)

// nearSQL reads a range of the log.
const nearSQL = "SELECT * FROM @near($1, $2)"

// nearest is how many events are read in the quick way although they may not be wanted.
const nearest = 32

// near returns how far q can be read in the quick way, which selects by position only: through a page, in the log as far as this store knows it. Where
// conditions would leave out most of that it returns 0.
func (s *Store) near(q *pulse.Query) pulse.Position {
	through := min(pulse.Position(s.head.Load()), q.After+pulse.Position(s.rows(q)))
	if q.Through > 0 {
		through = min(through, q.Through)
	}
	if through <= q.After || through > q.After+nearest && selective(q) {
		return 0
	}
	return through
}

// selective reports whether q has conditions beside positions.
func selective(q *pulse.Query) bool {
	return q.Name != "" || len(q.Names) > 0 || q.Key != "" || q.Actor != uuid.Nil || q.Correlation != "" || !q.Since.IsZero() || !q.Until.IsZero()
}

// readNear reads a range by one statement that the server has planned already: readers that follow the log do that all the
// time. found is false when events are missing there, because they were purged, or because the server has forgotten them.
func (s *Store) readNear(ctx context.Context, q *pulse.Query, through pulse.Position) (r pageRead, found bool, err error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return r, false, err
	}
	defer conn.Release()
	calls := []call{s.nearCall(int64(q.After), int64(through))}
	err = s.roundTrip(ctx, conn.Conn(), calls, func(answers *pgconn.MultiResultReader) (err error) {
		if answers.NextResult() {
			r.envs, err = readEnvelopes(answers.ResultReader())
		}
		return err
	})
	if err != nil {
		return pageRead{}, false, err
	}
	r.next = q.After + pulse.Position(len(r.envs))
	if r.next == q.After || r.envs[len(r.envs)-1].Position != r.next {
		return r, false, nil
	}
	s.learn(len(r.envs), r.next < through) // then the page is full
	return r, true, nil
}

func (s *Store) nearCall(after, through int64) call {
	return call{sql: s.sql.near, params: [][]byte{strconv.AppendInt(nil, after, 10), strconv.AppendInt(nil, through, 10)}, answer: []int16{1}}
}

// readEnvelopes reads rows of nearSQL, as many as fit into a page.
func readEnvelopes(rows *pgconn.ResultReader) (envs []pulse.Envelope, err error) {
	for size := 0; rows.NextRow() && err == nil && size < maxPageBytes; {
		var e pulse.Envelope
		err = decode(rows.Values(), &e)
		envs = append(envs, e)
		size += e.Size()
	}
	if _, closing := rows.Close(); closing != nil {
		err = closing
	}
	return envs, err
}
