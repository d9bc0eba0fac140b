package pulse

import "time"

// done lets the cursor pass e, and acknowledges with the next save what brought it.
func (s *session) done(e *entry) {
	e.done = true
	for _, r := range e.receipts {
		s.acks = append(s.acks, Message{Receipt: r})
	}
	e.receipts = nil
}

// moved lets the cursor pass what is done and sees to it that it is saved.
func (s *session) moved() {
	s.unacked.advance(&s.cursor, s.inFlight)
	if (s.unacked.unsaved > 0 || len(s.acks) > 0) && s.saveDue.IsZero() {
		s.saveDue = time.Now().Add(saveEvery)
	}
}

func (s *session) unsaved() bool {
	return len(s.dirty) > 0 || s.unacked.unsaved > 0 || len(s.acks) > 0
}

// healedBy says how far publishing had come when the destination was compared with the cursor. It is healed when that is saved anew.
func (s *session) healedBy(known Position) {
	s.healing = known
	if s.cursor.Position == known {
		s.healed.Store(true)
		return
	}
	s.unacked.unsaved++
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
	clear(s.dirty)
	s.recorded, s.recording = s.recording, nil
	s.unacked.unsaved = 0
	s.saveDue = time.Time{}
	s.saving = true
	s.saves <- saveJob{progress: p, acks: s.acks}
	s.acks = nil
}

// afterSave makes ready what waited for its row to be written.
func (s *session) afterSave(done saved) {
	s.saving, s.savingRows = false, false
	if done.err != nil {
		s.fenced = true // it may be, and what the store has is not known
		s.fail(done.err)
		return
	}
	s.floor = done.floor
	if s.floor >= s.healing {
		s.healed.Store(true)
	}
	if s.cursor.Position < s.floor {
		s.cursor = Cursor{Epoch: s.cursor.Epoch, Position: s.floor}
	}
	s.ready = append(s.recorded, s.ready...)
	s.recorded = nil
	select {
	case s.bus.saved <- struct{}{}:
	default:
	}
}
