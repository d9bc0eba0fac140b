package pgstore

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse"
)

// nearSQL reads a range of the log.
const nearSQL = "SELECT * FROM @near($1, $2)"

// nearest is how many events the end of the log has that are read in the quick way.
const nearest = 32

// near returns how far q can be read in the quick way: to the end of the log, as far as this store knows it, if that is not far from where
// q begins. Otherwise it returns 0.
func (s *Store) near(q *pulse.Query) pulse.Position {
	head := pulse.Position(s.head.Load())
	if head <= q.After || head > q.After+nearest || q.Through > 0 && q.Through < head || int64(head-q.After) > s.rows(q) {
		return 0
	}
	return head
}

// readNear reads the few newest events by one statement that the server has planned already: readers that follow the log do that all the
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
	return r, r.next > q.After && r.envs[len(r.envs)-1].Position == r.next, nil
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
