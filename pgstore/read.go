package pgstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse"
)

const (
	maxPage      = 1000    // envelopes
	maxPageBytes = 4 << 20 // after this many the page ends with the envelope at hand
	maxScan      = 10_000  // positions looked at in one Read
)

// envelopeColumns are what decode expects, in the binary format.
const envelopeColumns = `p.position, e.event_id, e.name, e.version, e.source, e.occurred_at, e.recorded_at, e.actor_id,
	e.correlation_id, e.causation_id, e.key, e.trace, e.commitment, e.extensions, e.data`

const (
	headSQL = "SELECT head FROM @ticks ORDER BY n DESC LIMIT 1"

	// keptSQL leaves out the events of which a purge left nothing.
	keptSQL = " (e.fact_salt IS NOT NULL OR e.link_salt IS NOT NULL)"

	pageSQL = "SELECT " + envelopeColumns + ` FROM @positions p JOIN @events e ON e.id = p.event
		WHERE p.position > $1 AND p.position <= $2 AND` + keptSQL
)

// Read returns the envelopes that q selects; see pulse.Store. A page ends after a thousand envelopes or 4 MiB, and one Read looks at no more than ten
// thousand positions, so that a page may be empty although later ones are not. It gives no positions; Info does.
func (s *Store) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	const op = "read"
	if err := s.enter(ctx); err != nil {
		return pulse.Page{}, fail(op, err)
	}
	defer s.leave()
	q.After = max(q.After, 0)
	page, err := s.read(ctx, &q)
	if err != nil {
		return pulse.Page{}, fail(op, err)
	}
	return page, nil
}

func (s *Store) read(ctx context.Context, q *pulse.Query) (pulse.Page, error) {
	if q.Through > 0 && q.Through <= q.After {
		return pulse.Page{Next: q.After}, nil
	}
	r, found, err := pageRead{}, false, error(nil)
	if field, value := lookupBy(q); field != 0 {
		r, found, err = s.readIndexed(ctx, q, field, value)
	} else if through := s.near(q); through != 0 {
		r, found, err = s.readNear(ctx, q, through)
	}
	if !found && err == nil {
		r, err = s.readRange(ctx, q)
	}
	if err != nil {
		return pulse.Page{}, err
	}
	r.envs = slices.DeleteFunc(r.envs, func(e pulse.Envelope) bool { return !selects(q, &e) })
	return pulse.Page{Envelopes: r.envs, Next: r.next}, nil
}

// pageRead is what was read of the log before it is looked at closely.
type pageRead struct {
	envs []pulse.Envelope
	next pulse.Position // of the page
}

// rows is the number of rows to ask for: fewer when events have been so large lately that more would not fit into a page.
func (s *Store) rows(q *pulse.Query) int64 {
	limit := s.pageRows.Load()
	if q.Limit > 0 {
		limit = min(limit, int64(q.Limit))
	}
	return limit
}

// readRange reads the rows of a range of positions that may meet q.
func (s *Store) readRange(ctx context.Context, q *pulse.Query) (pageRead, error) {
	through := q.After + maxScan
	if q.Through > 0 {
		through = min(through, q.Through)
	}
	limit := s.rows(q)
	p := params{}
	p.int(int64(q.After))
	p.int(int64(through))
	where := conditions(q, &p)
	rows := p.int(limit)
	snap, err := s.snapshot(ctx)
	if err != nil {
		return pageRead{}, err
	}
	defer snap.close()
	snap.query(s.sql.head, nil)
	snap.query(s.sql.page+where+" ORDER BY p.position LIMIT "+rows, p.values)
	head, _, err := snap.number()
	if err != nil {
		return pageRead{}, err
	}
	through = min(through, pulse.Position(head))
	if through <= q.After {
		return pageRead{next: q.After}, snap.end()
	}
	envs, cut, err := snap.envelopes(limit)
	if err != nil {
		return pageRead{}, err
	}
	s.learn(len(envs), cut)
	if n := len(envs); cut || n > 0 && int64(n) == limit {
		through = envs[n-1].Position
	}
	return pageRead{envs, through}, nil
}

// learn adapts the number of rows to ask for to the size of events: what is beyond a page is sent for nothing.
func (s *Store) learn(n int, cut bool) {
	switch rows := s.pageRows.Load(); {
	case cut:
		s.pageRows.Store(int64(max(n, 1)))
	case rows < maxPage && int64(n) >= rows:
		s.pageRows.Store(min(maxPage, 2*rows))
	}
}

// params are the parameters of a statement being put together, as text.
type params struct{ values [][]byte }

func (p *params) add(value string) (placeholder string) {
	p.values = append(p.values, []byte(value))
	return "$" + strconv.Itoa(len(p.values))
}

func (p *params) int(n int64) (placeholder string) { return p.add(strconv.FormatInt(n, 10)) }

// conditions puts into SQL what leaves out most rows. The rest is for selects.
func conditions(q *pulse.Query, p *params) (where string) {
	if q.Correlation != "" {
		where += " AND e.correlation_id = " + p.add(q.Correlation)
	}
	if q.Key != "" {
		where += " AND e.key = " + p.add(q.Key)
	}
	if q.Actor != uuid.Nil {
		where += " AND e.actor_id = " + p.add(q.Actor.String())
	}
	if storedTime(q.Since) {
		where += " AND e.occurred_at >= " + p.add(q.Since.UTC().Format(timeLayout))
	}
	if storedTime(q.Until) {
		where += " AND e.occurred_at <= " + p.add(q.Until.UTC().Format(timeLayout))
	}
	if patterns := likes(q); len(patterns) > 0 {
		where += " AND e.name LIKE ANY (" + p.add(textArray(patterns)) + "::text[])"
	}
	return where
}

// storedTime reports whether an event may have occurred at t. PostgreSQL does not take any time.
func storedTime(t time.Time) bool {
	y := t.UTC().Year()
	return !t.IsZero() && y >= 1 && y <= 9999
}

// timeLayout is how a time is given to PostgreSQL as text, in UTC.
const timeLayout = "2006-01-02 15:04:05.000000Z07:00"

// likes returns patterns of SQL that match at least the names q wants: there a percent sign goes across dots.
func likes(q *pulse.Query) (patterns []string) {
	like := strings.NewReplacer(">", "%", "*", "%", "%", `\%`, "_", `\_`, `\`, `\\`)
	names := q.Names
	if q.Name != "" {
		names = append([]string{q.Name}, names...)
	}
	for _, name := range names {
		if name == ">" {
			return nil
		}
		patterns = append(patterns, like.Replace(name))
	}
	return patterns
}

// selects reports whether e meets the conditions of q, except those on the position.
func selects(q *pulse.Query, e *pulse.Envelope) bool {
	return (q.Key == "" || e.Key == q.Key) &&
		(q.Actor == uuid.Nil || e.Actor == q.Actor) &&
		(q.Correlation == "" || e.Correlation == q.Correlation) &&
		(q.Since.IsZero() || !e.OccurredAt.Before(q.Since)) &&
		(q.Until.IsZero() || e.OccurredAt.Before(q.Until)) &&
		named(q, e.Name)
}

// named reports whether any of q's names and patterns matches; without any, all do.
func named(q *pulse.Query, name string) bool {
	if q.Name == "" && len(q.Names) == 0 {
		return true
	}
	return q.Name != "" && pulse.MatchName(q.Name, name) ||
		slices.ContainsFunc(q.Names, func(p string) bool { return pulse.MatchName(p, name) })
}

// decode reads a row of envelopeColumns. It keeps nothing of the row.
func decode(row [][]byte, e *pulse.Envelope) error {
	for i, length := range [...]int{0: 8, 1: 16, 3: 4, 5: 8, 6: 8} {
		if length != 0 && len(row[i]) != length {
			return fmt.Errorf("%w: column %d of an event has %d bytes, want %d: the tables were changed by others", pulse.ErrStore, i, len(row[i]), length)
		}
	}
	e.Position = pulse.Position(binary.BigEndian.Uint64(row[0]))
	copy(e.ID[:], row[1])
	e.Name, e.Version, e.Source = string(row[2]), int(int32(binary.BigEndian.Uint32(row[3]))), string(row[4])
	e.OccurredAt, e.RecordedAt = timeOf(row[5]), timeOf(row[6])
	copy(e.Actor[:], row[7])
	e.Correlation = string(row[8])
	copy(e.Causation[:], row[9])
	e.Key, e.Trace = string(row[10]), string(row[11])
	copy(e.Commitment[:], row[12])
	e.Extensions, e.Data = slices.Clone(row[13]), slices.Clone(row[14])
	return nil
}

// view is a read-only transaction of several queries that see one state of the database, sent and answered in one round trip.
type view struct {
	release func()
	conn    *pgconn.PgConn
	ctx     context.Context // of the one call it is for
	batch   *pgconn.Batch
	results *pgconn.MultiResultReader
}

// snapshot begins a view. The caller adds all queries, then reads their answers in order, then closes it.
func (s *Store) snapshot(ctx context.Context) (*view, error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	v := &view{release: conn.Release, conn: conn.Conn().PgConn(), ctx: ctx, batch: &pgconn.Batch{}}
	v.batch.ExecParams("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", nil, nil, nil, nil)
	return v, nil
}

// query adds a query, whose parameters are text and whose answer is binary.
func (v *view) query(sql string, params [][]byte) {
	v.batch.ExecParams(sql, params, nil, nil, []int16{1})
}

// next goes on to the answer of the next query.
func (v *view) next() (*pgconn.ResultReader, error) {
	if v.results == nil {
		v.batch.ExecParams("COMMIT", nil, nil, nil, nil)
		v.results = v.conn.ExecBatch(v.ctx, v.batch)
		begun, err := v.answer()
		if err != nil {
			return nil, err
		}
		if _, err := begun.Close(); err != nil {
			return nil, err
		}
	}
	return v.answer()
}

// answer is the next one. There is none when nothing could be sent, or the connection was lost.
func (v *view) answer() (*pgconn.ResultReader, error) {
	if !v.results.NextResult() {
		if err := v.end(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: the server answered fewer queries than it was asked", pulse.ErrStore)
	}
	return v.results.ResultReader(), nil
}

// number reads an answer of one number at most. ok is false when there is no row.
func (v *view) number() (n int64, ok bool, err error) {
	r, err := v.next()
	if err != nil {
		return 0, false, err
	}
	for r.NextRow() {
		if b := r.Values()[0]; len(b) == 8 {
			n, ok = int64(binary.BigEndian.Uint64(b)), true
		}
	}
	_, err = r.Close()
	return n, ok, err
}

// envelopes reads an answer of envelopeColumns and ends the view. cut is true when it stopped at the size limit of a page.
func (v *view) envelopes(expected int64) (envs []pulse.Envelope, cut bool, err error) {
	r, err := v.next()
	if err != nil {
		return nil, false, err
	}
	size := 0
	for r.NextRow() && err == nil {
		if size >= maxPageBytes {
			cut = true
			break
		}
		if envs == nil {
			envs = make([]pulse.Envelope, 0, min(expected, 64))
		}
		var e pulse.Envelope
		err = decode(r.Values(), &e)
		envs = append(envs, e)
		size += e.Size()
	}
	if _, closing := r.Close(); closing != nil {
		err = closing
	}
	if ending := v.end(); ending != nil {
		err = ending
	}
	return envs, cut, err
}

// end reads what is left of the answers.
func (v *view) end() error {
	if v.results == nil {
		return nil
	}
	return v.results.Close()
}

// close gives the connection back.
func (v *view) close() {
	_ = v.end() // said already, if it was asked for
	v.release()
}
