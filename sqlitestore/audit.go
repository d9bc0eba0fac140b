package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// CheckIntegrity lets SQLite look for damage in the whole file, and whether each row is in its indexes, which takes time in proportion to
// its size. The error says what was found first.
func (s *Store) CheckIntegrity(ctx context.Context) error {
	const op = "check"
	if err := s.enter(ctx); err != nil {
		return fail(op, err)
	}
	defer s.leave()
	var found string
	if err := s.readers.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&found); err != nil {
		return fail(op, err)
	}
	if found != "ok" {
		return fail(op, fmt.Errorf("%w: the file is damaged, restore a backup: %s", pulse.ErrStore, found))
	}
	return nil
}

// recordsSQL selects events of which nothing was purged.
const recordsSQL = `SELECT position, fact_salt, link_salt, digests, format FROM events
	WHERE position > ? AND position <= ? AND purged_by IS NULL ORDER BY position`

// Records returns up to limit events after a position with what proves them, for Record.Verify. Events of which a part was
// purged are left out. The caller owns them.
func (s *Store) Records(ctx context.Context, after pulse.Position, limit int) ([]pulse.Record, error) {
	const op = "records"
	if err := s.enter(ctx); err != nil {
		return nil, fail(op, err)
	}
	defer s.leave()
	recs, err := s.records(ctx, after, limit)
	if err != nil {
		return nil, fail(op, err)
	}
	return recs, nil
}

func (s *Store) records(ctx context.Context, after pulse.Position, limit int) (recs []pulse.Record, err error) {
	head, err := s.readHead(ctx)
	for err == nil && after < head && len(recs) == 0 { // all that was read may be purged
		var envs []pulse.Envelope
		var next pulse.Position
		if envs, next, err = s.scan(ctx, after, head, limit); err == nil && len(envs) > 0 {
			recs, err = s.proofs(ctx, after, envs)
		}
		after = next
	}
	return recs, err
}

// proofs joins the envelopes after a position with what proves them.
func (s *Store) proofs(ctx context.Context, after pulse.Position, envs []pulse.Envelope) ([]pulse.Record, error) {
	byPosition := make(map[pulse.Position]*pulse.Envelope, len(envs))
	for i := range envs {
		byPosition[envs[i].Position] = &envs[i]
	}
	rows, err := s.readers.QueryContext(ctx, recordsSQL, after, envs[len(envs)-1].Position)
	if err != nil {
		return nil, err
	}
	return s.scanProofs(rows, byPosition)
}

// scanProofs reads and closes rows of recordsSQL and joins them with the envelopes.
func (s *Store) scanProofs(rows *sql.Rows, envs map[pulse.Position]*pulse.Envelope) (recs []pulse.Record, err error) {
	defer rows.Close()
	for rows.Next() {
		var position pulse.Position
		var fact, link []byte
		rec := pulse.Record{Origin: s.origin}
		if err := rows.Scan(&position, &fact, &link, &rec.Digests, &rec.Format); err != nil {
			return nil, err
		}
		if copy(rec.FactSalt[:], fact) != len(fact) || copy(rec.LinkSalt[:], link) != len(link) {
			return nil, fmt.Errorf("%w: %w: a salt of the event at position %d is too long: the file was changed by others",
				pulse.ErrStore, pulse.ErrTampered, position)
		}
		if env := envs[position]; env != nil {
			rec.Envelope = *env
			recs = append(recs, rec)
		}
	}
	return recs, rows.Err()
}
