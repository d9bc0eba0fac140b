package memstore

import (
	"bytes"
	"context"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// Append stores recs as one unit; see pulse.Store. It waits for open transactions that append one of the ids.
func (s *Store) Append(ctx context.Context, recs []pulse.Record) error {
	if err := s.hook(ctx, AppendBefore); err != nil {
		return err
	}
	tx, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.end()
	if err := tx.stage(ctx, recs); err != nil {
		return err
	}
	if err := tx.commit(ctx); err != nil {
		return err
	}
	tx.tell(recs)
	return s.fault(ctx, AppendAfter, pulse.ErrUnknown)
}

// check refuses a record that does not belong into this log.
func (s *Store) check(rec *pulse.Record) error {
	if rec.Origin != s.opts.Origin {
		return fmt.Errorf("memstore: event %s was made for the log %q, this one is %q: make its digests with the origin that Info gives: %w",
			rec.ID, rec.Origin, s.opts.Origin, pulse.ErrInvalid)
	}
	if n := rec.Size(); n > s.opts.MaxEventBytes {
		return fmt.Errorf("memstore: event %s takes %d bytes, the limit of this log is %d: %w", rec.ID, n, s.opts.MaxEventBytes, pulse.ErrTooLarge)
	}
	return nil
}

// stage makes recs part of the transaction, all or none.
func (tx *Tx) stage(ctx context.Context, recs []pulse.Record) (err error) {
	s := tx.store
	for i := range recs {
		if err := s.check(&recs[i]); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(tx.staged)
	defer func() {
		if err != nil {
			tx.staged = tx.staged[:before]
		}
	}()
	for i := range recs {
		rec := &recs[i]
		if err := tx.claim(ctx, claim{id: rec.ID}); err != nil {
			return err
		}
		stored := tx.find(rec)
		if stored == nil {
			tx.staged = append(tx.staged, copyRecord(rec))
		} else if !rec.Repeats(&stored.Envelope) {
			return fmt.Errorf("memstore: append: %w", &pulse.ConflictError{ID: rec.ID, Position: stored.Position})
		}
	}
	return nil
}

// tell gives those of recs that are new what the store gave them, once they are sequenced.
func (tx *Tx) tell(recs []pulse.Record) {
	tx.store.mu.Lock()
	defer tx.store.mu.Unlock()
	staged := tx.staged
	for i := range recs {
		if len(staged) > 0 && staged[0].ID == recs[i].ID {
			recs[i].Position, recs[i].RecordedAt = staged[0].Position, staged[0].RecordedAt
			staged = staged[1:]
		}
	}
}

// find returns what is stored or staged under the id of rec, nil when nothing is. The caller holds s.mu.
func (tx *Tx) find(rec *pulse.Record) *pulse.Record {
	if stored := tx.store.byID[rec.ID]; stored != nil {
		return stored
	}
	for _, staged := range tx.staged {
		if staged.ID == rec.ID {
			return staged
		}
	}
	return nil
}

// copyRecord returns a copy of rec as it is kept, sharing nothing with it.
func copyRecord(rec *pulse.Record) *pulse.Record {
	kept := *rec
	kept.Envelope = copyEnvelope(&rec.Envelope)
	kept.Digests = bytes.Clone(rec.Digests)
	kept.Position = 0
	kept.OccurredAt = keep(rec.OccurredAt)
	return &kept
}

// copyEnvelope returns a copy of env that shares nothing with it.
func copyEnvelope(env *pulse.Envelope) pulse.Envelope {
	c := *env
	c.Data = bytes.Clone(env.Data)
	c.Extensions = bytes.Clone(env.Extensions)
	return c
}
