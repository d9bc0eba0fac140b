package pgstore

import (
	"context"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// recordsSQL selects events of which nothing was purged.
const recordsSQL = "SELECT " + envelopeColumns + `, e.fact_salt, e.link_salt, e.digests, e.format
	FROM @positions p JOIN @events e ON e.id = p.event WHERE p.position > $1 AND e.purged_by IS NULL ORDER BY p.position LIMIT $2`

// Records returns up to limit events after a position with what proves them, for Record.Verify. Events of which a part was
// purged are left out. The caller owns them.
func (s *Store) Records(ctx context.Context, after pulse.Position, limit int) ([]pulse.Record, error) {
	const op = "records"
	if err := s.enter(ctx); err != nil {
		return nil, fail(op, err)
	}
	defer s.leave()
	recs, err := s.records(ctx, after, min(limit, maxPage))
	if err != nil {
		return nil, fail(op, err)
	}
	return recs, nil
}

func (s *Store) records(ctx context.Context, after pulse.Position, limit int) (recs []pulse.Record, err error) {
	p := params{}
	p.int(int64(after))
	p.int(int64(limit))
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer snap.close()
	snap.query(s.schema.sql(recordsSQL), p.values)
	r, err := snap.next()
	if err != nil {
		return nil, err
	}
	for size := 0; r.NextRow() && size < maxPageBytes && err == nil; {
		rec := pulse.Record{Origin: s.origin}
		err = s.decodeProof(r.Values(), &rec)
		recs = append(recs, rec)
		size += rec.Size()
	}
	if _, closing := r.Close(); closing != nil {
		err = closing
	}
	if err != nil {
		return nil, err
	}
	return recs, snap.end()
}

// decodeProof reads a row of recordsSQL.
func (s *Store) decodeProof(row [][]byte, rec *pulse.Record) error {
	if err := decode(row, &rec.Envelope); err != nil {
		return err
	}
	fact, link, digests, format := row[15], row[16], row[17], row[18]
	if len(fact) != len(rec.FactSalt) || len(link) != len(rec.LinkSalt) || len(format) != 2 {
		return fmt.Errorf("%w: %w: the proof of the event at position %d is not complete: the table was changed by others",
			pulse.ErrStore, pulse.ErrTampered, rec.Position)
	}
	copy(rec.FactSalt[:], fact)
	copy(rec.LinkSalt[:], link)
	rec.Digests = append([]byte(nil), digests...)
	rec.Format = int(format[0])<<8 | int(format[1])
	return nil
}
