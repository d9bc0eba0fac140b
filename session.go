package pulse

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// Bounds of a session.
const (
	window    = 2048                   // deliveries between the saved cursor and the newest one read; what a crash repeats at most
	maxBytes  = 16 << 20               // size of what was read and is not acknowledged; then reading stops
	maxRows   = 10_000                 // deliveries waiting for a retry or behind one; then reading stops
	pageLimit = 512                    // envelopes in one read
	saveEvery = 50 * time.Millisecond  // how long a moved cursor may stay unsaved
	saveAfter = window / 4             // moved by so many, it is saved at once
	hungGrace = 100 * time.Millisecond // what a handler gets to return after its timeout
	turnWait  = 20 * time.Millisecond  // between two looks at whether it is a suspect's turn
)

// session is one active instance of a subscription: it reads the log, hands deliveries to its workers and keeps the
// books. All fields are owned by the goroutine of run, except the channels.
type session struct {
	*runner
	lease Lease

	epoch   int // of the log
	cursor  Cursor
	unacked unacked
	rows    map[Position]*item    // deliveries with a row, except dead ones that hold up nobody
	passed  map[Position]struct{} // positions after the cursor that need no handling any more
	lanes   map[string]*lane      // ordered subscriptions only
	held    map[*lane]struct{}    // to be advanced after the batch under way
	ready   []*item               // to be handed to a worker
	due     dueHeap               // rows waiting for their time
	running map[*item]struct{}    // handed to a worker
	careful careful               // after an unclean stop
	suspect *item                 // whose turn it is, of the suspects of all subscriptions; nil: none of this one's

	dirty     map[Position]struct{} // rows changed since the last save
	recording []*item               // get ready once their row is saved
	recorded  []*item               // those whose row is in the save under way
	saving    bool
	saveDue   time.Time // zero: nothing to save

	revision int64  // of the subscription, as the lease last told
	reloaded int64  // the revision whose changes the session knows
	stopping bool   // hands out nothing more
	pause    string // why the subscription pauses itself, "" when it does not
	failed   error  // what ends the session at once
	fenced   bool   // saves nothing more: another instance may be active
	trouble  error  // what ends it when all that runs is handled and saved

	feed     Feed                // nil when fed from the log
	floor    Position            // the cursor in the store
	inFlight map[Position]*entry // messages of the feed, until the cursor passes them
	acks     []Message           // handled, to be acknowledged with the next save

	work    chan []*item
	results chan []result
	intakes chan intake
	saves   chan saveJob
	saved   chan saved
	renewed chan Lease
	lost    chan error
	broken  chan error // the feed failed
}

// careful is the mode after an unclean stop: the deliveries that may have been running then are handled one by one,
// each attempt written first, so that a handler that kills the process is found.
type careful struct {
	through Position // the head of the log when the session began
	left    int      // at most a window of deliveries was running
}

func (c *careful) covers(it *item) bool { return c.left > 0 && it.env.Position <= c.through }

func newSession(r *runner, lease Lease, cursor Cursor) *session {
	n := r.sub.concurrency
	if r.sub.batched() && r.sub.ordered {
		n = 1
	}
	return &session{
		runner:   r,
		lease:    lease,
		epoch:    cursor.Epoch,
		cursor:   cursor,
		revision: lease.Revision,
		reloaded: lease.Revision,
		rows:     map[Position]*item{},
		passed:   map[Position]struct{}{},
		lanes:    map[string]*lane{},
		held:     map[*lane]struct{}{},
		running:  map[*item]struct{}{},
		dirty:    map[Position]struct{}{},
		work:     make(chan []*item),
		results:  make(chan []result, n),
		floor:    cursor.Position,
		inFlight: map[Position]*entry{},
		intakes:  make(chan intake),
		saves:    make(chan saveJob, 1),
		saved:    make(chan saved, 1),
		renewed:  make(chan Lease),
		lost:     make(chan error, 1),
		broken:   make(chan error, 1),
	}
}

// run hands out deliveries until ctx ends or the session cannot go on, then lets the running ones finish.
func (s *session) run(ctx context.Context) (clean bool, err error) {
	bg := context.WithoutCancel(ctx)
	reading, stopReading := context.WithCancel(ctx)
	holding, letGo := context.WithCancel(bg)
	handling, abort := context.WithCancel(bg)
	defer abort()
	helpers := s.start(reading, holding, handling)
	s.loop(ctx)
	stopReading()
	clean = s.finish(ctx, abort)
	s.endTurn(s.suspect) // it was left behind
	letGo()
	close(s.work)
	close(s.saves)
	helpers.Wait()
	if s.pause != "" && s.failed == nil {
		s.failed = s.pauseSelf(bg, s.pause)
	}
	return clean, cmp.Or(s.failed, s.trouble)
}

// loop is the session while it hands out work.
func (s *session) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for !s.stopping {
		s.reload(ctx)
		s.promote()
		s.save()
		timer.Reset(s.nextWake())
		work, next := s.next()
		select {
		case work <- next:
			s.handedOut(next)
		case in := <-s.wanted():
			s.arrived(in)
		case rs := <-s.results:
			s.settleAll(rs)
		case done := <-s.saved:
			s.afterSave(done)
		case lease := <-s.renewed:
			s.revision = lease.Revision
			s.skipUnrouted()
		case err := <-s.lost:
			s.fenced = true
			s.fail(err)
		case s.trouble = <-s.broken:
			s.stopping = true
		case <-timer.C:
			s.findHung()
			if s.draining.Load() > 0 {
				s.skipUnrouted()
			}
		case <-ctx.Done():
			s.stopping = true
		}
	}
}

// finish waits for running handlers and saves. Once ctx has ended it waits no longer than the drain timeout. It
// reports whether all handlers have returned.
func (s *session) finish(ctx context.Context, abort context.CancelFunc) bool {
	s.unrecord()
	if s.failed != nil {
		abort() // another instance may be active already
	}
	ended, aborted := ctx.Done(), false
	var limit <-chan time.Time
	for len(s.running) > 0 || s.saving || s.unsaved() && !s.fenced {
		s.save()
		select {
		case rs := <-s.results:
			s.settleAll(rs)
		case done := <-s.saved:
			s.afterSave(done)
		case <-s.renewed:
		case err := <-s.lost:
			s.fenced = true
			s.fail(err)
			abort()
		case <-ended:
			ended = nil
			limit = time.After(s.bus.drain)
		case <-limit:
			if aborted {
				s.bus.log.Error("pulse: handlers did not return and were left behind", "subscription", s.sub.name, "handlers", len(s.running))
				return false
			}
			aborted = true
			abort()
			limit = time.After(time.Second)
		}
	}
	return true
}

func (s *session) fail(err error) {
	s.stopping = true
	if s.failed == nil {
		s.failed = err
	}
}

// wanted is the channel of what was read while the session can take more.
func (s *session) wanted() <-chan intake {
	if len(s.unacked.entries)+s.unacked.unsaved >= window || s.unacked.size >= maxBytes || len(s.rows) >= maxRows {
		return nil
	}
	return s.intakes
}

// arrived takes what was read.
func (s *session) arrived(in intake) {
	if in.receipts != nil {
		s.arrivedFromBroker(in)
		return
	}
	for i := range in.envs {
		env := &in.envs[i]
		e := &entry{position: env.Position, commitment: env.Commitment, size: env.Size()}
		s.unacked.add(e)
		if _, done := s.passed[env.Position]; done || s.rows[env.Position] != nil {
			delete(s.passed, env.Position)
			e.done = true
			continue
		}
		s.enqueue(&item{position: env.Position, env: *env, entry: e, attempt: 1})
	}
	if n := len(in.envs); n == 0 || in.envs[n-1].Position < in.next {
		s.unacked.add(&entry{position: in.next, done: true})
	}
	s.moved()
}

// enqueue gives a delivery its place: ready, behind another one of its key in memory, or behind a failed one as a row.
func (s *session) enqueue(it *item) {
	key := s.laneKey(&it.env)
	if key == "" {
		s.ready = append(s.ready, it)
		return
	}
	l := s.lanes[key]
	switch {
	case l != nil && len(l.rows) > 0:
		s.follow(l, it)
		s.advanceLane(l) // it comes again, and may be before what holds up the others
	case s.sub.batched(): // one batch at a time keeps the order; a lane exists only while it is blocked
		s.ready = append(s.ready, it)
	case l != nil:
		it.lane = l
		l.fresh = append(l.fresh, it)
		s.advanceLane(l)
	default:
		l = s.lane(key)
		it.lane, l.active = l, it
		s.ready = append(s.ready, it)
	}
}

// laneKey is the key that orders an event in this subscription, "" when none does.
func (s *session) laneKey(env *Envelope) string {
	if !s.sub.ordered {
		return ""
	}
	return env.Key
}

// lane returns the lane of a key.
func (s *session) lane(key string) *lane {
	l := s.lanes[key]
	if l == nil {
		l = &lane{key: key}
		s.lanes[key] = l
	}
	return l
}

// follow puts a delivery behind a failed one of its key, as a row.
func (s *session) follow(l *lane, it *item) {
	s.putRow(it, StatusWaiting)
	s.place(l, it)
}

// place puts a delivery among the rows of a lane. Only the first of them can be due: the others wait, also when they were tried before.
func (s *session) place(l *lane, it *item) {
	it.lane = l
	second := max(l.insert(it), 1) // the delivery itself, or the one whose place it takes
	if second < len(l.rows) && l.rows[second].row.Status == StatusRetry {
		s.putRow(l.rows[second], StatusWaiting)
	}
}

// putRow gives a delivery a row with a status. Unless it is just being tried the cursor passes it then, and its
// envelope is read again when it is needed.
func (s *session) putRow(it *item, status DeliveryStatus) {
	if it.row == nil {
		it.row = &DeliveryState{
			Subscription: s.sub.name, Position: it.env.Position, Name: it.env.Name, Key: it.env.Key, Lane: s.laneKey(&it.env),
		}
	}
	it.row.Status = status
	s.rows[it.env.Position] = it
	s.dirty[it.env.Position] = struct{}{}
	if status == StatusRunning {
		return
	}
	it.env = Envelope{Position: it.env.Position, Name: it.env.Name, Key: it.env.Key}
	if it.entry != nil {
		s.done(it.entry)
		it.entry = nil
		s.moved()
	}
}

// promote makes ready what is due.
func (s *session) promote() {
	if len(s.due) == 0 {
		return
	}
	now := time.Now()
	for s.mayRecord() {
		it := s.due.pop(now)
		if it == nil {
			return
		}
		if it.suspect && !s.takeTurn(it) {
			it.row.Due = now.Add(turnWait)
			s.due.push(it)
			continue
		}
		s.record(it)
	}
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
	return written < cap(s.results)
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
	if len(s.ready) == 0 || s.sub.ordered && s.sub.batched() && len(s.running) > 0 {
		return nil, nil // what an ordered batch leaves behind must be booked before the next one is put together
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
	return s.work, s.ready[:n]
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
	s.ready = s.ready[len(items):]
	for _, it := range items {
		s.running[it] = struct{}{}
	}
}

// nextWake is how long the loop may wait for something to happen.
func (s *session) nextWake() time.Duration {
	wake := time.Hour
	if len(s.due) > 0 && s.mayRecord() {
		wake = min(wake, time.Until(s.due[0].row.Due))
	}
	if !s.saveDue.IsZero() && !s.saving {
		wake = min(wake, time.Until(s.saveDue))
	}
	if len(s.running) > 0 {
		wake = min(wake, s.sub.timeout/2+hungGrace)
	}
	if s.feed != nil && s.draining.Load() > 0 {
		wake = min(wake, pollInterval)
	}
	return max(wake, 0)
}

// findHung turns deliveries whose handler outlived its timeout into rows, so that the cursor can pass them. They
// keep their key and their worker until the handler returns.
func (s *session) findHung() {
	now := time.Now()
	for it := range s.running {
		if called := it.called.Load(); it.hung || called == 0 || now.Before(time.Unix(0, called).Add(s.sub.timeout+hungGrace)) {
			continue
		}
		it.hung = true
		s.endTurn(it)
		s.bus.log.Error("pulse: a handler does not return", "subscription", s.sub.name, "event", it.env.Name, "position", it.env.Position)
		s.putRow(it, StatusRunning)
		it.row.Attempt = it.attempt
		it.row.Error = fmt.Sprintf("the handler did not return within its timeout of %s", s.sub.timeout)
		it.row.FailedAt = now
		if it.entry != nil {
			s.done(it.entry)
			s.moved()
		}
		if it.row.Lane != "" {
			s.block(it)
		}
	}
}

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

// save hands what changed to the saver, if it is time and the saver is free.
func (s *session) save() {
	if s.saving || !s.unsaved() || s.fenced {
		return
	}
	now := s.stopping || len(s.dirty) > 0 || s.unacked.unsaved >= saveAfter ||
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
	s.saving = false
	if done.err != nil {
		s.fenced = true // it may be, and what the store has is not known
		s.fail(done.err)
		return
	}
	s.floor = done.floor
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
