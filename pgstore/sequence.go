package pgstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse"
)

// timelineSQL is the timeline the server writes now. pg_control_checkpoint lags behind it.
const timelineSQL = "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"

// tickSQL is a tick; see the function.
const tickSQL = "SELECT * FROM @tick($1, $2, $3, $4, $5)"

const (
	// keptTicks is how many ticks are left behind the last one, for people who look. Older ones are taken away now and then.
	keptTicks  = 512
	pruneEvery = 256

	// maxCollisions is how often in a row a sequencer may lose against others by an error.
	maxCollisions = 100
)

// sequencer is what a store remembers of the last tick it knows. Others may have ticked since.
type sequencer struct {
	turn chan struct{} // holds a token while nobody ticks

	// Owned by who has the token.
	n          int64
	xidEpoch   int64
	xmax, xips string // of the snapshot; xips as an array literal
	apart      bool   // what was new at the last tick was appended here, or too much to be read with it
}

func (q *sequencer) init() {
	q.turn = make(chan struct{}, 1)
	q.turn <- struct{}{}
	q.n, q.xmax, q.xips = -1, "0", "{}"
}

// remember takes over a tick that was read.
func (q *sequencer) remember(t *tick) error {
	parts := strings.Split(t.snap, ":") // xmin:xmax:xip,xip,…
	if len(parts) != 3 {
		return fmt.Errorf("%w: the snapshot %q of tick %d is not one", pulse.ErrStore, t.snap, t.n)
	}
	q.n, q.xidEpoch, q.xmax, q.xips = t.n, t.xidEpoch, parts[1], "{"+parts[2]+"}"
	return nil
}

// tick is what the statement answers.
type tick struct {
	epoch, xidEpoch           int64
	sameCluster, sameTimeline bool
	due                       bool // what the sequencer knew was the last tick
	fresh                     bool // there were events without a position
	ticked                    bool // they have got one
	n, head                   int64
	snap                      string
	placed                    []byte           // what the tick tells of the events
	newest                    []pulse.Envelope // up to head, as far as they are at hand
}

// Info describes the log; see pulse.Store. It is one round trip and writes only if there are new events. Of those that this store appended, or was
// told to Expect, it has the envelopes at hand; a few others the round trip brings along.
func (s *Store) Info(ctx context.Context) (pulse.Info, error) {
	const op = "info"
	if err := s.enter(ctx); err != nil {
		return pulse.Info{}, fail(op, err)
	}
	defer s.leave()
	t, err := s.sequence(ctx)
	if err != nil {
		return pulse.Info{}, fail(op, err)
	}
	s.head.Store(t.head)
	return pulse.Info{Origin: s.origin, Epoch: int(t.epoch), Head: pulse.Position(t.head), MaxBytes: s.limit, Newest: t.newest}, nil
}

// sequence gives all events that are committed when it is called their positions, and returns the last tick.
func (s *Store) sequence(ctx context.Context) (tick, error) {
	select {
	case <-ctx.Done():
		return tick{}, ctx.Err()
	case <-s.sequencer.turn:
	}
	defer func() { s.sequencer.turn <- struct{}{} }()
	conn, err := s.acquire(ctx)
	if err != nil {
		return tick{}, err
	}
	defer conn.Release()
	first := int64(-1) // the last tick when we came
	for collisions := 0; ; {
		t, err := s.tick(ctx, conn.Conn())
		if hasCode(err, serializationFailure) && collisions < maxCollisions { // the database's default isolation is not READ COMMITTED
			collisions++
			continue
		}
		if err != nil {
			return t, err
		}
		if again, err := s.settleTick(ctx, conn.Conn(), &t); err != nil || again {
			if err != nil {
				return t, err
			}
			continue
		}
		if first < 0 {
			first = t.n
		}
		// Who made the tick after the next one had not begun when we came: it saw all that was committed then.
		if t.ticked || t.due && !t.fresh || t.n >= first+2 {
			s.prune(ctx, conn.Conn(), &t)
			return t, nil
		}
	}
}

// settleTick remembers t and deals with a cluster that is not what it was. again is true when the tick has to be repeated for it.
func (s *Store) settleTick(ctx context.Context, conn *pgx.Conn, t *tick) (again bool, err error) {
	switch {
	case !t.sameCluster:
		return false, refuseForeign()
	case !t.sameTimeline:
		return true, s.failedOver(ctx, conn)
	}
	return false, s.sequencer.remember(t)
}

// tick carries out the statement, and in the same round trip and transaction reads the events behind the head that the store knows, where few are to be
// expected that were not appended here. The caller has the token.
func (s *Store) tick(ctx context.Context, conn *pgx.Conn) (t tick, err error) {
	q, head := &s.sequencer, s.head.Load()
	calls := []call{{sql: s.sql.tick, answer: tickAnswer, params: [][]byte{
		strconv.AppendInt(nil, q.n, 10), strconv.AppendInt(nil, q.xidEpoch, 10), []byte(q.xmax), []byte(q.xips), strconv.AppendInt(nil, int64(s.appended.wanted()), 10),
	}}}
	if !q.apart {
		calls = append(calls, s.nearCall(head, head+nearest))
	}
	var read []pulse.Envelope
	err = s.roundTrip(ctx, conn, calls, func(answers *pgconn.MultiResultReader) (err error) {
		if answers.NextResult() {
			err = t.read(answers.ResultReader())
		}
		if err == nil && answers.NextResult() {
			read, err = readEnvelopes(answers.ResultReader())
		}
		return err
	})
	if t.ticked {
		t.newest = s.appended.take(t.placed, t.head)
	}
	q.apart = t.head-head > nearest || len(t.newest) > 0
	if len(t.newest) == 0 {
		t.newest = endingAt(read, head, t.head)
	}
	return t, err
}

// tickAnswer are the formats of the columns of a tick: all but placed are text.
var tickAnswer = []int16{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}

// read reads the answer.
func (t *tick) read(rows *pgconn.ResultReader) error {
	result := rows.Read()
	switch {
	case result.Err != nil:
		return result.Err
	case len(result.Rows) != 1 || result.Rows[0][0] == nil:
		return fmt.Errorf("%w: the log has no ticks or no settings: its tables were changed by others", pulse.ErrStore)
	}
	return t.scan(result.Rows[0])
}

// endingAt returns those of envs that lie behind after, up to head, if all that lie there are among them.
func endingAt(envs []pulse.Envelope, after, head int64) []pulse.Envelope {
	n := int(head - after)
	if n < 1 || n > len(envs) || envs[n-1].Position != pulse.Position(head) {
		return nil
	}
	return envs[:n]
}

// scan reads the answer.
func (t *tick) scan(row [][]byte) (err error) {
	number := func(into *int64, text []byte) {
		if err == nil {
			*into, err = strconv.ParseInt(string(text), 10, 64)
		}
	}
	number(&t.epoch, row[0])
	number(&t.xidEpoch, row[1])
	number(&t.n, row[7])
	number(&t.head, row[8])
	for i, into := range []*bool{&t.sameCluster, &t.sameTimeline, &t.due, &t.fresh, &t.ticked} {
		*into = string(row[2+i]) == "t"
	}
	t.snap, t.placed = string(row[9]), row[10]
	return err
}

// failedOver begins a new epoch: a standby was promoted. Transaction ids go on, and with them the last tick.
func (s *Store) failedOver(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, s.schema.sql("UPDATE @settings SET epoch = epoch + 1, timeline = "+timelineSQL+" WHERE timeline <> "+timelineSQL))
	return err
}

// prune takes old ticks away. What is left of them harms nobody, so that errors do not matter.
func (s *Store) prune(ctx context.Context, conn *pgx.Conn, t *tick) {
	if !t.ticked || t.n%pruneEvery != 0 {
		return
	}
	// Bounded below, so as not to walk through what was taken away but is kept by somebody's old snapshot.
	_, _ = conn.Exec(ctx, s.schema.sql("DELETE FROM @ticks WHERE n > $1 AND n <= $2"), t.n-keptTicks-8*pruneEvery, t.n-keptTicks)
}
