package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

const (
	maxPage      = 1000    // envelopes
	maxPageBytes = 4 << 20 // after this many the page ends with the envelope at hand
	maxScan      = 10_000  // positions looked at in one Read
	maxGlobs     = 100     // patterns in a statement: SQLite takes no expression that is a thousand levels deep
)

// envelopeColumns are what scanRows expects.
const envelopeColumns = `position, event_id, name, version, source, occurred_at, recorded_at, actor_id,
	coalesce(correlation_id, ''), causation_id, coalesce(key, ''), coalesce(trace, ''), commitment, extensions, data`

// rangeSQL selects what is left of the events in a range of positions: not those of which a purge left nothing.
const rangeSQL = "SELECT " + envelopeColumns + " FROM events WHERE position > ? AND position <= ?" +
	" AND (fact_salt IS NOT NULL OR link_salt IS NOT NULL)"

const (
	pageSQL = rangeSQL + " ORDER BY position LIMIT ?"
	headSQL = "SELECT coalesce((SELECT position FROM events ORDER BY position DESC LIMIT 1), 0)"
)

// Info describes the log; see pulse.Store. It is cheap: one look at the end of an index.
func (s *Store) Info(ctx context.Context) (pulse.Info, error) {
	if err := s.enter(ctx); err != nil {
		return pulse.Info{}, fail("info", err)
	}
	defer s.leave()
	head, err := s.readHead(ctx)
	if err != nil {
		return pulse.Info{}, fail("info", err)
	}
	return pulse.Info{Origin: s.origin, Epoch: s.epoch, Head: head, MaxBytes: s.limit}, nil
}

// readHead returns the newest position. Like all that readers do it takes so little time that it is not interrupted when ctx ends:
// that would cost each call a goroutine and now and then a connection.
func (s *Store) readHead(ctx context.Context) (head pulse.Position, err error) {
	err = s.head.QueryRowContext(context.WithoutCancel(ctx)).Scan(&head)
	return head, err
}

// Read returns the envelopes that q selects; see pulse.Store. A page ends after a thousand envelopes or 4 MiB, and one Read looks at no more than ten
// thousand positions, so that a page may be empty although later ones are not.
func (s *Store) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	if err := s.enter(ctx); err != nil {
		return pulse.Page{}, fail("read", err)
	}
	defer s.leave()
	page, err := s.read(ctx, q)
	if err != nil {
		return pulse.Page{}, fail("read", err)
	}
	return page, nil
}

func (s *Store) read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	q.After = max(q.After, 0)
	through, err := s.readHead(ctx) // read first, so that all up to it is there for the next statement
	if err != nil {
		return pulse.Page{}, err
	}
	if q.Through > 0 {
		through = min(through, q.Through)
	}
	if through <= q.After {
		return pulse.Page{Next: q.After}, nil
	}
	limit := maxPage
	if q.Limit > 0 {
		limit = min(limit, q.Limit)
	}
	var envs []pulse.Envelope
	next, indexed, err := pulse.Position(0), false, error(nil)
	if field, value := lookupBy(&q); field != 0 {
		envs, next, indexed, err = s.readIndexed(ctx, field, value, q.After, through, limit)
	}
	if !indexed && err == nil {
		through = min(through, q.After+maxScan)
		envs, next, err = s.scanQuery(ctx, &q, through, limit)
	}
	if err != nil {
		return pulse.Page{}, err
	}
	envs = slices.DeleteFunc(envs, func(e pulse.Envelope) bool { return !selects(&q, &e) })
	return pulse.Page{Envelopes: envs, Next: next}, nil
}

// scanQuery reads up to limit rows that may meet q, at positions up to through. next is as in a Page.
func (s *Store) scanQuery(ctx context.Context, q *pulse.Query, through pulse.Position, limit int) (envs []pulse.Envelope, next pulse.Position, err error) {
	where, args := conditions(q)
	if where == "" {
		return s.scan(ctx, q.After, through, limit)
	}
	args = append([]any{q.After, through}, append(args, limit)...)
	rows, err := s.readers.QueryContext(context.WithoutCancel(ctx), rangeSQL+where+" ORDER BY position LIMIT ?", args...)
	if err != nil {
		return nil, 0, err
	}
	return scanRange(rows, through, limit, 0)
}

// scan is scanQuery without conditions.
func (s *Store) scan(ctx context.Context, after, through pulse.Position, limit int) (envs []pulse.Envelope, next pulse.Position, err error) {
	rows, err := s.page.QueryContext(context.WithoutCancel(ctx), after, through, limit)
	if err != nil {
		return nil, 0, err
	}
	return scanRange(rows, through, limit, min(limit, int(through-after)))
}

// scanRange reads rows and says where the next page begins: after the last one when there may be more of them up to through.
func scanRange(rows *sql.Rows, through pulse.Position, limit, expected int) (envs []pulse.Envelope, next pulse.Position, err error) {
	envs, cut, err := scanRows(rows, expected)
	if n := len(envs); cut || n > 0 && n == limit {
		through = envs[n-1].Position
	}
	return envs, through, err
}

// conditions puts into SQL what leaves out most rows. The rest is for selects.
func conditions(q *pulse.Query) (where string, args []any) {
	add := func(condition string, arg ...any) {
		where += " AND " + condition
		args = append(args, arg...)
	}
	if q.Correlation != "" {
		add("correlation_id = ?", q.Correlation)
	}
	if q.Key != "" {
		add("key = ?", q.Key)
	}
	if q.Actor != uuid.Nil {
		add("actor_id = ?", q.Actor[:])
	}
	if !q.Since.IsZero() {
		add("occurred_at >= ?", q.Since.UnixMicro())
	}
	if !q.Until.IsZero() {
		add("occurred_at <= ?", q.Until.UnixMicro())
	}
	if globs := globsOf(q); 0 < len(globs) && len(globs) <= maxGlobs {
		add("(name GLOB ?"+strings.Repeat(" OR name GLOB ?", len(globs)-1)+")", globs...)
	}
	return where, args
}

// globsOf returns patterns that match at least the names q wants: SQLite's star goes across dots.
func globsOf(q *pulse.Query) (globs []any) {
	glob := strings.NewReplacer(">", "*", "[", "[[]", "?", "[?]")
	names := q.Names
	if q.Name != "" {
		names = append([]string{q.Name}, names...)
	}
	for _, name := range names {
		if name == ">" {
			return nil
		}
		globs = append(globs, glob.Replace(name))
	}
	return globs
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

// scanRows reads and closes rows of envelopeColumns, of which about so many are expected. cut is true when it stopped at the
// size limit of a page.
func scanRows(rows *sql.Rows, expected int) (envs []pulse.Envelope, cut bool, err error) {
	defer rows.Close()
	if expected > 0 {
		envs = make([]pulse.Envelope, 0, expected)
	}
	var (
		e                                     pulse.Envelope
		position, version, occurred, recorded any // database/sql converts to integer types by way of text
		id, actor, causation, signature       sql.RawBytes
		extensions, data                      []byte
	)
	into := []any{
		&position, &id, &e.Name, &version, &e.Source, &occurred, &recorded, &actor,
		&e.Correlation, &causation, &e.Key, &e.Trace, &signature, &extensions, &data,
	}
	for size := 0; rows.Next(); {
		if err := rows.Scan(into...); err != nil {
			return nil, false, err
		}
		e.Position, e.Version = pulse.Position(position.(int64)), int(version.(int64))
		e.ID, e.Actor, e.Causation, e.Commitment = uuid.Nil, uuid.Nil, uuid.Nil, [32]byte{}
		copy(e.ID[:], id)
		copy(e.Actor[:], actor)
		copy(e.Causation[:], causation)
		copy(e.Commitment[:], signature)
		e.OccurredAt, e.RecordedAt = time.UnixMicro(occurred.(int64)).UTC(), time.UnixMicro(recorded.(int64)).UTC()
		e.Extensions, e.Data = extensions, data
		envs = append(envs, e)
		if size += e.Size(); size >= maxPageBytes {
			return envs, true, errors.Join(rows.Err(), rows.Close())
		}
	}
	return envs, false, rows.Err()
}
