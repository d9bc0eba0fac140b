package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

const (
	// insertChunk is how many rows one statement inserts while there are as many. More gain nothing.
	insertChunk   = 16
	insertColumns = 18
)

// Append stores recs as one unit; see pulse.Store.
func (s *Store) Append(ctx context.Context, recs []pulse.Record) error {
	const op = "append"
	if err := s.refuseNested(ctx); err != nil {
		return fail(op, err)
	}
	if err := s.enter(ctx); err != nil {
		return fail(op, err)
	}
	defer s.leave()
	if len(recs) == 0 {
		return nil
	}
	if done, err := s.appendNew(ctx, recs); done {
		return err
	}
	return s.write(ctx, op, full, func(tx *sql.Tx) error { return s.unit(tx).append(recs) })
}

// unit is one Append into an open transaction.
type unit struct {
	tx     *sql.Tx
	exec   func(query string, args ...any) (rows int64, err error)
	origin string
	limit  int
	sql    inserts
	now    time.Time
	args   []any // reused; at least for one chunk

	inserted int64 // so far
}

// unit begins an Append in a transaction of the writer's connection.
func (s *Store) unit(tx *sql.Tx) *unit {
	if s.args == nil {
		s.args = newArgs()
	}
	return &unit{
		tx: tx, origin: s.origin, limit: s.limit, sql: s.inserts, now: s.now(), args: s.args,
		exec: func(query string, args ...any) (int64, error) { return s.exec(tx, query, args...) },
	}
}

// appendPart is append in a transaction that goes on after an error: then nothing of recs is left in it.
func (u *unit) appendPart(recs []pulse.Record) (err error) {
	defer func() {
		if err != nil {
			endUndone(u.tx)
		}
	}()
	if len(recs) == 1 {
		return u.append(recs) // a single statement undoes itself
	}
	if _, err := u.tx.Exec("SAVEPOINT pulse_append"); err != nil {
		return err
	}
	err = u.append(recs)
	if err != nil {
		if _, undo := u.tx.Exec("ROLLBACK TO pulse_append"); undo != nil {
			return errors.Join(err, undo)
		}
	}
	_, release := u.tx.Exec("RELEASE pulse_append")
	return errors.Join(err, release)
}

// endUndone ends tx if SQLite has undone all of it because of an error, as it may when the disk is full or fails: otherwise what is written
// through tx next would be committed at once.
func endUndone(tx *sql.Tx) {
	if _, err := tx.Exec("BEGIN"); err == nil { // refused inside a transaction
		_ = tx.Rollback()
	}
}

// append inserts recs. On an error some of them may be left in the transaction.
func (u *unit) append(recs []pulse.Record) error {
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
		u.inserted += rows
		if rows < int64(n) {
			if err := u.compare(recs[:n]); err != nil {
				return err
			}
		}
		recs = recs[n:]
	}
	return nil
}

// chunk is how many of recs are inserted next, and by which statement.
func (u *unit) chunk(recs []pulse.Record) (n int, query string) {
	if len(recs) < insertChunk {
		return 1, u.sql.one
	}
	return insertChunk, u.sql.chunk
}

// check refuses a record that does not belong into this log.
func (u *unit) check(rec *pulse.Record) error {
	if rec.Origin != u.origin {
		return fmt.Errorf("%w: event %s was made for the log %q, this one is %q: make its digests with the origin that Info gives",
			pulse.ErrInvalid, rec.ID, rec.Origin, u.origin)
	}
	if n := rec.Size(); n > u.limit {
		return fmt.Errorf("%w: event %s takes %d bytes, the limit of this log is %d", pulse.ErrTooLarge, rec.ID, n, u.limit)
	}
	return nil
}

// inserts are the statements that insert events of an epoch.
type inserts struct {
	one   string
	chunk string // inserts insertChunk
}

func newInserts(epoch int) inserts {
	return inserts{one: insertSQL(1, epoch), chunk: insertSQL(insertChunk, epoch)}
}

func newArgs() []any { return make([]any, insertChunk*insertColumns) }

// insertSQL inserts n rows. Rows whose id is stored already are left out without using up a position.
func insertSQL(n, epoch int) string {
	row := "(" + strconv.Itoa(epoch) + strings.Repeat(",?", insertColumns) + ")"
	return "INSERT INTO events (epoch, event_id, name, version, source, occurred_at, recorded_at, actor_id, correlation_id, causation_id," +
		" key, trace, fact_salt, link_salt, digests, commitment, format, extensions, data) VALUES " +
		row + strings.Repeat(","+row, n-1) + " ON CONFLICT (event_id) DO NOTHING"
}

// insert inserts as many rows as recs, and returns how many of them were new.
func (u *unit) insert(query string, recs []pulse.Record) (rows int64, err error) {
	args := u.args[:0]
	recorded := u.now.UnixMicro()
	for i := range recs {
		r := &recs[i]
		args = append(args,
			r.ID[:], r.Name, int64(r.Version), r.Source, r.OccurredAt.UnixMicro(), recorded,
			orNull(&r.Actor), r.Correlation, orNull(&r.Causation), textOrNull(r.Key), textOrNull(r.Trace),
			r.FactSalt[:], r.LinkSalt[:], notNull(r.Digests), r.Commitment[:], int64(r.Format),
			jsonOrNull(r.Extensions), string(r.Data))
	}
	rows, err = u.exec(query, args...)
	clear(args) // keeps nothing of recs
	return rows, err
}

// compare finds out whether those of recs that were stored already say the same. The rows just inserted do.
func (u *unit) compare(recs []pulse.Record) error {
	var head pulse.Position
	if err := u.tx.QueryRow(headSQL).Scan(&head); err != nil {
		return err
	}
	head -= pulse.Position(u.inserted)
	all, err := u.stored(recs)
	if err != nil {
		return err
	}
	for i := range recs {
		stored := all[recs[i].ID]
		if stored == nil {
			return fmt.Errorf("%w: the index of event ids does not match the log at event %s: the file is damaged, restore a backup",
				pulse.ErrStore, recs[i].ID)
		}
		if stored.Position > head {
			stored.Position = 0 // of this unit, and goes with it
		}
		if !recs[i].Repeats(stored) {
			return &pulse.ConflictError{ID: recs[i].ID, Position: stored.Position}
		}
	}
	return nil
}

// stored reads the events with the ids of recs.
func (u *unit) stored(recs []pulse.Record) (map[uuid.UUID]*pulse.Envelope, error) {
	ids := make([]any, len(recs))
	for i := range recs {
		ids[i] = recs[i].ID[:]
	}
	rows, err := u.tx.Query("SELECT "+envelopeColumns+" FROM events WHERE event_id IN (?"+strings.Repeat(",?", len(ids)-1)+")", ids...)
	if err != nil {
		return nil, err
	}
	envs, cut, err := scanRows(rows, len(recs))
	if err != nil {
		return nil, err
	}
	all := make(map[uuid.UUID]*pulse.Envelope, len(envs))
	for i := range envs {
		all[envs[i].ID] = &envs[i]
	}
	if !cut || len(recs) == 1 {
		return all, nil
	}
	for i := range recs { // too large to be read at once
		if all[recs[i].ID] == nil {
			one, err := u.stored(recs[i : i+1])
			if err != nil {
				return nil, err
			}
			maps.Copy(all, one)
		}
	}
	return all, nil
}

func orNull(id *uuid.UUID) any {
	if *id == uuid.Nil {
		return nil
	}
	return id[:]
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func jsonOrNull(b []byte) any {
	if b == nil {
		return nil
	}
	return string(b)
}

func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
