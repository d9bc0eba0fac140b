package pulse

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// result is what a worker reports about one delivery.
type result struct {
	item    *item
	err     error  // the handler's answer
	stack   string // of a panic
	behind  bool   // not tried: an earlier delivery of its key in the same batch failed
	again   bool   // not tried: to be, in its place
	session error  // not tried, or not known: the session cannot go on
	aborted bool   // interrupted by the end of the drain timeout: no attempt is spent
}

// settleAll books what a worker reports.
func (s *session) settleAll(rs []result) {
	if s.left.back(rs) {
		return
	}
	s.busy--
	s.rest.from = time.Now()
	s.rest.took = s.rest.from.Sub(s.rest.handed)
	var again []*item
	for i := range rs {
		if rs[i].again && !s.blocked(rs[i].item) {
			delete(s.running, rs[i].item)
			again = append(again, rs[i].item)
			continue
		}
		s.settle(&rs[i])
	}
	s.ready = append(again, s.ready...)
	for l := range s.held {
		delete(s.held, l)
		s.advanceLane(l)
	}
	s.moved()
}

// blocked reports whether a failed delivery holds up the key of another one.
func (s *session) blocked(it *item) bool {
	l := s.lanes[s.laneKey(&it.env)]
	return l != nil && len(l.rows) > 0
}

func (s *session) settle(r *result) {
	it := r.item
	delete(s.running, it)
	s.endTurn(it)
	switch {
	case r.err == nil && r.session == nil && !r.aborted && !r.behind && !r.again:
		if s.wait > 0 {
			s.bus.log.Info("pulse: a subscription goes on", "subscription", s.sub.name)
		}
		s.failures, s.wait = 0, 0
		s.handled(it)
	case r.session != nil:
		s.giveBack(it)
		s.fail(r.session)
	case r.aborted:
		s.giveBack(it)
	case r.behind || r.again:
		s.notTried(it)
	case isUnavailable(r.err):
		s.giveBack(it)
		s.pause, s.stopping = r.err.Error(), true
	default:
		s.failedAttempt(it, r.err, r.stack)
	}
}

// notTried puts a delivery behind an earlier one of its key that failed in the same batch.
func (s *session) notTried(it *item) {
	if it.row != nil { // it was taken for hung with the others
		it.row.Attempt, it.row.Error, it.row.FailedAt = it.attempt-1, "", time.Time{}
	}
	s.putRow(it, StatusWaiting)
	s.block(it)
	s.advanceLane(it.lane) // the one before it may hold up nobody
}

// handled books a success.
func (s *session) handled(it *item) {
	if it.row != nil {
		delete(s.rows, it.env.Position)
		s.dirty[it.env.Position] = struct{}{}
	}
	if it.entry != nil {
		s.done(it.entry)
	}
	if l := it.lane; l != nil {
		l.leave(it)
		s.advanceLane(l)
	}
}

// failedAttempt books a failure: the delivery becomes a row, to be tried again or dead.
func (s *session) failedAttempt(it *item, err error, stack string) {
	s.failures++
	if s.failures >= s.sub.pauseAfter && !s.stopping {
		s.pause, s.stopping = fmt.Sprintf("%d attempts in a row failed, the last with: %v", s.failures, err), true
	}
	now := time.Now()
	status, due := s.verdict(it, err, now)
	s.putRow(it, status)
	it.row.Attempt, it.row.Due = it.attempt, due
	it.row.Error, it.row.Stack, it.row.FailedAt = err.Error(), stack, now
	it.hung, it.suspect = false, false
	if status == StatusDead {
		s.bus.log.Error("pulse: dead letter", "subscription", s.sub.name, "event", it.env.Name, "position", it.env.Position, "attempts", it.attempt, "error", err)
	}
	s.schedule(it)
}

// verdict decides what becomes of a failed delivery.
func (s *session) verdict(it *item, err error, now time.Time) (DeliveryStatus, time.Time) {
	if _, parked := errors.AsType[*parked](err); parked || it.attempt >= s.sub.retry.Attempts {
		return StatusDead, time.Time{}
	}
	if after, ok := errors.AsType[*retryAfter](err); ok {
		return StatusRetry, now.Add(after.d)
	}
	return StatusRetry, now.Add(s.sub.retry.backoff(it.attempt, rand.Float64()))
}

// schedule puts a row where its status belongs: among the due ones, at the head of its lane, or nowhere.
func (s *session) schedule(it *item) {
	if it.row.Status == StatusDead && s.sub.skipFailed {
		it.row.Lane, s.gaveUp = "", true
	}
	if it.row.Lane == "" {
		l := it.lane
		it.lane = nil
		if it.row.Status != StatusDead {
			s.due.push(it)
		}
		if l != nil {
			l.leave(it)
			s.advanceLane(l)
		}
		return
	}
	s.block(it)
	if it.lane.active == it {
		it.lane.active = nil
	}
	s.advanceLane(it.lane)
}

// block puts a delivery into its lane as a row, and turns its followers in memory into rows, so that the cursor can
// pass them all.
func (s *session) block(it *item) {
	l := s.lane(it.row.Lane)
	s.place(l, it)
	fresh := l.fresh
	l.fresh = nil
	if s.sub.batched() {
		s.ready = slices.DeleteFunc(s.ready, func(other *item) bool {
			behind := other.fresh() && other.env.Key == l.key
			if behind {
				fresh = append(fresh, other)
			}
			return behind
		})
	}
	for _, f := range fresh {
		s.follow(l, f)
	}
}

// advanceLane gets the next delivery of a lane going, unless one is under way or a dead letter holds them up.
func (s *session) advanceLane(l *lane) {
	switch {
	case l.active != nil || s.lanes[l.key] != l:
	case s.sub.ordered && s.sub.batched() && len(s.running) > 0:
		s.held[l] = struct{}{} // until the batch under way is booked: some of it may belong before the rows
	case len(l.rows) > 0:
		head := l.rows[0]
		if head.row.Status == StatusDead {
			return
		}
		l.active = head
		s.due.push(head)
	case len(l.fresh) > 0:
		next := l.fresh[0]
		l.fresh = l.fresh[1:]
		l.active = next
		s.ready = append(s.ready, next)
	default:
		delete(s.lanes, l.key)
	}
}

// giveBack returns a delivery untried: it comes again in a later session, with no attempt spent.
func (s *session) giveBack(it *item) {
	if it.row == nil {
		return // its entry is not done: it is read again
	}
	if it.entry != nil && !it.entry.done { // only written down to be careful
		delete(s.rows, it.env.Position)
		s.dirty[it.env.Position] = struct{}{}
		it.row = nil
		return
	}
	s.putRow(it, StatusRetry)
	it.row.Attempt = it.attempt - 1
	it.row.Due = time.Now()
}

// passBy makes rows of the deliveries that handled ones behind them have overtaken, so that the cursor passes all: what was handled is not read again.
func (s *session) passBy() {
	if s.fenced || s.failed != nil || s.sub.publisher != nil {
		return
	}
	overtaken := 0 // entries
	for i, e := range s.unacked.entries {
		if e.done && e.size > 0 && s.rows[e.position] == nil {
			overtaken = i
		}
	}
	for _, e := range s.unacked.entries[:overtaken] {
		it := e.item
		if e.done {
			continue
		}
		if _, runs := s.running[it]; runs {
			s.noteRunning(it)
			continue
		}
		s.putRow(it, StatusRetry)
		it.row.Attempt, it.row.Due = it.attempt-1, time.Now()
	}
}

// noteRunning writes down that a delivery is being tried, so that the cursor can pass it. Its envelope is the worker's.
func (s *session) noteRunning(it *item) {
	s.putRow(it, StatusRunning)
	it.row.Attempt = it.attempt
	if it.entry != nil {
		s.done(it.entry)
		s.moved()
	}
}

// unrecord gives back what was written down as being tried and will not be.
func (s *session) unrecord() {
	for _, list := range [][]*item{s.ready, s.recording, s.recorded} {
		for _, it := range list {
			if it.row != nil {
				s.giveBack(it)
			}
		}
	}
	s.ready, s.recording, s.recorded = nil, nil, nil
	if _, runs := s.running[s.suspect]; !runs {
		s.endTurn(s.suspect)
	}
}

// load brings the rows of the subscription into the session.
func (s *session) load(ctx context.Context, head Position) error {
	if s.lease.Unclean && s.sub.publisher == nil {
		s.careful = careful{through: head, left: window}
	}
	if err := s.loadRows(ctx); err != nil {
		return err
	}
	after, err := s.ports.deliveries.List(ctx, DeliveryQuery{Subscription: s.sub.name, After: s.cursor.Position})
	if err != nil {
		return err
	}
	for _, row := range after { // it may be handled as a row, or dropped, before it is read
		s.passed[row.Position] = struct{}{}
		s.lastRow = row.Position
	}
	return nil
}

// loadRows lists what will be tried again or holds up a key, and schedules what the session does not know yet.
func (s *session) loadRows(ctx context.Context) error {
	for _, q := range []DeliveryQuery{ // dead letters first: one that is settled in between is known as dead until the next reload, and holds up its key
		{Subscription: s.sub.name, Statuses: []DeliveryStatus{StatusDead}, Blocking: true},
		{Subscription: s.sub.name, Statuses: []DeliveryStatus{StatusRetry, StatusRunning, StatusWaiting}},
	} {
		rows, err := s.ports.deliveries.List(ctx, q)
		if err != nil {
			return err
		}
		for i := range rows {
			s.adopt(&rows[i])
		}
	}
	for _, l := range s.lanes {
		s.advanceLane(l)
	}
	return nil
}

// adopt takes over a row from the store.
func (s *session) adopt(row *DeliveryState) {
	_, changing := s.dirty[row.Position]
	if known := s.rows[row.Position]; known != nil || changing {
		return
	}
	it := &item{position: row.Position, row: row}
	it.env.Position, it.env.Name, it.env.Key = row.Position, row.Name, row.Key
	s.rows[row.Position] = it
	it.suspect = row.Error == errDied.Error()
	if row.Status == StatusRunning {
		s.interrupted(it)
	}
	if row.Lane == "" && row.Status != StatusDead {
		row.Lane = s.laneKey(&it.env) // skipped once and now to be tried again: in its place
	}
	switch {
	case row.Lane != "":
		s.block(it)
	case row.Status == StatusDead: // by what interrupted says: saving it lets it go
		s.passed[row.Position] = struct{}{}
	default:
		s.due.push(it)
	}
}

var errDied = errors.New("the process died, or lost its lease, while this delivery was being handled")

// interrupted books the attempt during which a former instance ended: when it died, as a failure.
func (s *session) interrupted(it *item) {
	now := time.Now()
	s.dirty[it.row.Position] = struct{}{}
	if !s.lease.Unclean { // all handlers had returned: only what they answered was not saved
		it.row.Status, it.row.Due = StatusRetry, now
		it.row.Attempt--
		return
	}
	it.attempt, it.suspect = it.row.Attempt, true
	if it.row.Error == "" || it.row.Attempt >= s.sub.retry.Attempts {
		it.row.Error = errDied.Error()
	}
	it.row.Status, it.row.Due = s.verdict(it, errDied, now)
	it.row.FailedAt = now
	if it.row.Status == StatusDead {
		s.bus.log.Error("pulse: dead letter", "subscription", s.sub.name, "event", it.row.Name, "position", it.row.Position, "attempts", it.row.Attempt, "error", it.row.Error)
		if s.sub.skipFailed {
			it.row.Lane = "" // its followers are written down first: that saves it too
		}
	}
}

// outdated reports that people changed something that the session has not taken over yet. Until it has, it hands out nothing: else rows might be on their way
// to the store all the time.
func (s *session) outdated() bool { return s.revision != s.reloaded }

// reload takes over what people changed, when the lease told that they did and no row is on its way to the store.
func (s *session) reload(ctx context.Context) {
	if !s.outdated() || s.saving || len(s.dirty) > 0 {
		return
	}
	state, err := s.state(ctx)
	if err != nil {
		s.fail(err)
		return
	}
	if time.Until(state.PausedUntil) > 0 || state.Generation != s.lease.Generation {
		s.stopping = true // the next session starts from what is stored
		s.fenced = state.Generation != s.lease.Generation
		return
	}
	if err := s.reloadDead(ctx); err != nil {
		s.fail(err)
		return
	}
	s.reloaded = s.revision
}

// reloadDead drops the dead letters the session holds, which is all that people settle, and reads rows again.
func (s *session) reloadDead(ctx context.Context) error {
	for pos, it := range s.rows {
		if it.row.Status == StatusDead {
			delete(s.rows, pos)
			if it.lane != nil {
				it.lane.leave(it)
			}
		}
	}
	return s.loadRows(ctx)
}
