package pulse

import (
	"fmt"
	"time"
)

// promote makes ready what is due.
func (s *session) promote() {
	if len(s.due) == 0 || s.outdated() {
		return
	}
	now := time.Now()
	for s.mayRecord() {
		it := s.due.pop(now)
		if it == nil {
			return
		}
		if l := it.lane; l != nil && len(l.rows) > 0 && l.rows[0] != it { // an earlier one of its key has come in between
			l.active = nil
			s.advanceLane(l)
			continue
		}
		if s.left.have(it.position, s.laneKey(&it.env)) {
			it.row.Due = now.Add(heldWait)
			s.due.push(it)
			continue
		}
		if s.tooEarly(it) || it.suspect && !s.takeTurn(it) {
			it.row.Due = now.Add(turnWait)
			s.due.push(it)
			continue
		}
		s.record(it)
	}
}

// tooEarly holds a row back in a lane until all before it was read: an earlier delivery of its key may have none. A relay's row it holds
// back until the cursor has come to it. Published before what lies in front of it, for example because a person has just settled
// what it waited behind, it would be the last message there and tell of more than there is; and where the cursor was set back,
// for the destination lost something, it would be out of order.
func (s *session) tooEarly(it *item) bool {
	if s.sub.publisher != nil {
		return it.position > s.cursor.Position
	}
	return it.lane != nil && it.position > s.reached
}

// takeTurn lets one suspect of all subscriptions of the bus be tried at a time: of two that run when the process ends, it would not
// be known which one has ended it.
func (s *session) takeTurn(it *item) bool {
	select {
	case s.bus.turn <- struct{}{}:
		s.suspect = it
		return true
	default:
		return false
	}
}

// endTurn lets the next suspect be tried if it was this one's turn.
func (s *session) endTurn(it *item) {
	if it != nil && s.suspect == it {
		s.suspect = nil
		<-s.bus.turn
	}
}

// mayRecord reports whether another attempt may be written down. The end of the process is charged to all that are, so there are
// never more than can be tried at once: after an unclean stop only one.
func (s *session) mayRecord() bool {
	written := len(s.recording) + len(s.recorded)
	for it := range s.running {
		if !it.fresh() && !it.hung {
			written++
		}
	}
	for _, it := range s.ready {
		if it.fresh() {
			break // what is written down comes first
		}
		written++
	}
	if s.careful.left > 0 {
		return written == 0 && !s.trying()
	}
	return written < s.sub.workers()
}

// trying reports that an attempt runs or is being written down. What hangs does not count.
func (s *session) trying() bool {
	for it := range s.running {
		if !it.hung {
			return true
		}
	}
	return len(s.recording) > 0 || len(s.recorded) > 0
}

// record writes that a delivery is about to be tried; saved, it is ready.
func (s *session) record(it *item) {
	it.attempt = 1
	if it.row != nil {
		it.attempt = it.row.Attempt + 1
	}
	s.putRow(it, StatusRunning)
	it.row.Attempt = it.attempt
	s.recording = append(s.recording, it)
}

// next is the work for the next free worker, and the channel to send it on: nil while there is none.
func (s *session) next() (chan<- []*item, []*item) {
	s.rest.waits = false
	if len(s.ready) == 0 || s.busy+s.left.workers >= s.sub.workers() || s.outdated() {
		return nil, nil
	}
	if s.sub.ordered && s.sub.batched() && len(s.running) > 0 {
		return nil, nil // what an ordered batch leaves behind must be booked before the next one is put together
	}
	if s.sub.publisher != nil && (len(s.dirty) > 0 || s.savingRows) {
		return nil, nil // what is at the destination tells how far a relay came that crashed: what it passed over must be written by then
	}
	if s.gaveUp || s.savingDead {
		return nil, nil // a follower that ran would be the only trace of it
	}
	if s.careful.left > 0 {
		return s.nextCareful()
	}
	n := 1
	if limit := s.sub.maxBatch(); s.ready[0].fresh() {
		for n < len(s.ready) && n < limit && s.ready[n].fresh() {
			n++
		}
	}
	if s.rests(n) {
		return nil, nil
	}
	return s.work, s.ready[:n]
}

// rests reports whether a relay lets its next batch of n grow: a large one costs its destination little more than a small one. It rests as long as
// the last one took if that was of many, so that those of a busy stream share what a batch costs, and fewer wait for nothing; while it is behind,
// longer.
func (s *session) rests(n int) bool {
	if s.sub.publisher == nil || n >= s.sub.maxBatch()/2 || s.wanted() == nil {
		return false
	}
	var rest time.Duration
	switch {
	case s.bus.head.now()-s.reached >= pageLimit:
		rest = mostRest
	case s.rest.size >= restFrom:
		rest = min(s.rest.took, mostRest)
	}
	s.rest.until = s.rest.from.Add(rest)
	s.rest.waits = time.Now().Before(s.rest.until)
	return s.rest.waits
}

// nextCareful is next after an unclean stop: one delivery at a time, and none before its attempt is written.
func (s *session) nextCareful() (chan<- []*item, []*item) {
	it := s.ready[0]
	switch {
	case s.trying():
		return nil, nil
	case it.fresh() && s.careful.covers(it):
		s.careful.left--
		s.ready = s.ready[1:]
		s.record(it)
		s.save()
		return nil, nil
	case it.fresh():
		s.careful.left = 0 // beyond what may have been running
	}
	return s.work, s.ready[:1]
}

// handedOut notes what a worker has taken.
func (s *session) handedOut(items []*item) {
	s.rest.size, s.rest.handed = len(items), time.Now()
	s.ready = s.ready[len(items):]
	s.busy++
	for _, it := range items {
		s.running[it] = struct{}{}
	}
}

// findHung turns deliveries whose handler outlived its timeout into rows, so that the cursor can pass them. They
// keep their key and their worker until the handler returns. Those of a batch are noted as being tried until all its parts are: when the
// process ends before, each spends an attempt.
func (s *session) findHung() {
	now := time.Now()
	for it := range s.running {
		if called := it.called.Load(); it.hung || called == 0 || now.Before(time.Unix(0, called).Add(s.sub.timeout+hungGrace)) {
			continue
		}
		it.hung = true
		s.endTurn(it)
		s.bus.log.Error("pulse: a handler does not return", "subscription", s.sub.name, "event", it.env.Name, "position", it.env.Position)
		s.noteRunning(it)
		it.row.Error = fmt.Sprintf("the handler did not return within its timeout of %s", s.sub.timeout)
		it.row.FailedAt = now
		if it.row.Lane != "" {
			s.block(it)
		}
	}
}
