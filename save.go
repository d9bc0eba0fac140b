package pulse

import "time"

// done lets the cursor pass e, and acknowledges with the next save what brought it.
func (s *session) done(e *entry) {
	e.done = true
	if e.receipt != 0 {
		s.acks = append(s.acks, e.receipt)
	}
}

// moved lets the cursor pass what is done or was read, and sees to it that it is saved.
func (s *session) moved() {
	s.unacked.advance(&s.cursor)
	s.bus.handled.Add(1)
	if (s.unacked.unsaved > 0 || len(s.acks) > 0) && s.saveDue.IsZero() {
		s.saveDue = time.Now().Add(saveEvery)
	}
}

func (s *session) unsaved() bool {
	return len(s.dirty) > 0 || s.unacked.unsaved > 0 || len(s.acks) > 0
}

// saveJob is what the loop hands the saver.
type saveJob struct {
	progress Progress
	acks     []uint64 // receipts to acknowledge once it is saved
}

// save hands what changed to the saver, if it is time and the saver is free.
func (s *session) save() {
	if s.saving || !s.unsaved() || s.fenced {
		return
	}
	now := s.stopping || len(s.dirty) > 0 || s.unacked.unsaved >= s.window/4 ||
		s.draining.Load() > 0 && len(s.unacked.entries) == 0
	if !now && time.Now().Before(s.saveDue) {
		return
	}
	p := Progress{Cursor: s.cursor}
	if s.cursor.Position < s.healing {
		p.Cursor.Commitment = [32]byte{} // see heal
	}
	for pos := range s.dirty {
		it := s.rows[pos]
		if it == nil {
			p.Remove = append(p.Remove, pos)
			continue
		}
		p.Put = append(p.Put, *it.row)
		if it.row.Status == StatusDead && it.lane == nil {
			delete(s.rows, pos)
		}
	}
	s.savingRows = len(s.dirty) > 0
	s.savingDead, s.gaveUp = s.gaveUp, false
	clear(s.dirty)
	s.recorded, s.recording = s.recording, nil
	s.unacked.unsaved = 0
	s.saveDue = time.Time{}
	s.saving, s.savedTo = true, s.cursor.Position
	s.saves <- saveJob{progress: p, acks: s.acks}
	s.acks = nil
}

// afterSave makes ready what waited for its row to be written.
func (s *session) afterSave(err error) {
	s.saving, s.savingRows, s.savingDead = false, false, false
	if err != nil {
		s.fenced = true // it may be, and what the store has is not known
		s.fail(err)
		return
	}
	if s.savedTo >= s.healing {
		s.healed.Store(true)
	}
	s.ready = append(s.recorded, s.ready...)
	s.recorded = nil
	select {
	case s.bus.saved <- struct{}{}:
	default:
	}
}
