package pulse

import (
	"cmp"
	"context"
	"time"
)

// Bounds of a session.
const (
	window    = 2048                   // deliveries between the saved cursor and the newest one read, or two batches if that is more; what a crash repeats at most
	maxBytes  = 16 << 20               // size of what was read and is not acknowledged; then reading stops
	maxRows   = 10_000                 // deliveries waiting for a retry or behind one; then reading stops
	pageLimit = 512                    // envelopes in one read
	saveEvery = 50 * time.Millisecond  // how long a moved cursor may stay unsaved
	hungGrace = 100 * time.Millisecond // what a handler gets to return after its timeout
	turnWait  = 20 * time.Millisecond  // between two looks at whether it is a suspect's turn

	restFrom = 64                    // events of its last batch from which a relay rests
	mostRest = 10 * time.Millisecond // between two batches
)

// session is one active instance of a subscription: it reads the log, hands deliveries to its workers and keeps the
// books. All fields are owned by the goroutine of run, except the channels.
type session struct {
	*runner
	lease Lease

	window  int   // see the constant
	epoch   int64 // of the log as the bus saw it last when the session began
	cursor  Cursor
	unacked unacked
	rows    map[Position]*item    // deliveries with a row, except dead ones that hold up nobody
	passed  map[Position]struct{} // positions after the cursor that need no handling any more
	lanes   map[string]*lane      // ordered subscriptions only
	held    map[*lane]struct{}    // to be advanced after the batch under way
	ready   []*item               // to be handed to a worker
	due     dueHeap               // rows waiting for their time
	running map[*item]struct{}    // handed to a worker
	busy    int                   // workers that have something
	careful careful               // after an unclean stop
	rest    rest                  // between two batches of a relay
	suspect *item                 // whose turn it is, of the suspects of all subscriptions; nil: none of this one's

	dirty      map[Position]struct{} // rows changed since the last save
	recording  []*item               // get ready once their row is saved
	recorded   []*item               // those whose row is in the save under way
	saving     bool
	savingRows bool      // some of it rows
	gaveUp     bool      // SkipFailed: there is a dead letter to be saved that lets its key go on
	savingDead bool      // or one being saved
	saveDue    time.Time // zero: nothing to save

	revision int64  // of the subscription, as the lease last told
	reloaded int64  // the revision whose changes the session knows
	stopping bool   // hands out nothing more
	pause    string // why the subscription pauses itself, "" when it does not
	paused   bool   // it has done so
	failed   error  // what ends the session at once
	fenced   bool   // saves nothing more: another instance may be active, or the log is another
	trouble  error  // what ends it when all that runs is handled and saved

	feed    Feed     // nil when fed from the log
	reached Position // how far the log was read
	acks    []uint64 // receipts of what is handled, to be acknowledged with the next save
	lastRow Position // the last one with a row when the session began
	savedTo Position // the cursor as it was saved last
	healing Position // of a relay: once the cursor is there nothing is missing at the destination

	work    chan []*item
	intakes chan intake
	saves   chan saveJob
	saved   chan error
	renewed chan Lease
	lost    chan error
	broken  chan error // the feed failed
}

// rest is what a relay makes between two batches, for the next one to grow.
type rest struct {
	size   int           // of the last one
	handed time.Time     // when it was handed out
	from   time.Time     // when it came back, or the session began
	took   time.Duration // what lay between
	until  time.Time
	waits  bool // there is work, and nothing else in its way
}

// careful is the mode after an unclean stop: the deliveries that may have been running then are handled one by one,
// each attempt written first, so that a handler that kills the process is found.
type careful struct {
	through Position // the head of the log when the session began
	left    int      // at most a window of deliveries was running
}

func (c *careful) covers(it *item) bool { return c.left > 0 && it.env.Position <= c.through }

func newSession(r *runner, lease Lease, cursor Cursor) *session {
	return &session{
		runner:   r,
		lease:    lease,
		window:   max(window, 2*r.sub.maxBatch()),
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
		reached:  cursor.Position,
		rest:     rest{from: time.Now()},
		intakes:  make(chan intake),
		saves:    make(chan saveJob, 1),
		saved:    make(chan error, 1),
		renewed:  make(chan Lease),
		lost:     make(chan error, 1),
		broken:   make(chan error, 1),
	}
}

// run hands out deliveries until ctx ends or the session cannot go on, then lets the running ones finish.
func (s *session) run(ctx context.Context) error {
	bg := context.WithoutCancel(ctx)
	reading, stopReading := context.WithCancel(ctx)
	holding, letGo := context.WithCancel(bg)
	handling, abort := context.WithCancel(bg)
	defer abort()
	helpers := s.start(reading, holding, handling)
	s.loop(ctx)
	stopReading()
	soon, cancel := context.WithTimeout(bg, leaseRenew) // no longer: the loss of the lease is not heeded meanwhile
	_ = s.pauseNow(soon)                                // before what runs returns, for people to see
	cancel()
	s.finish(ctx, abort)
	s.leave()
	s.endTurn(s.suspect) // it was left behind
	letGo()
	close(s.work)
	close(s.saves)
	helpers.Wait()
	return cmp.Or(s.failed, s.pauseNow(bg), s.trouble)
}

// pauseNow pauses the subscription, once, if there is a reason.
func (s *session) pauseNow(ctx context.Context) error {
	if s.pause == "" || s.paused || s.failed != nil {
		return nil
	}
	err := s.pauseSelf(ctx, s.pause, s.sub.pauseFirst, s.sub.pauseMax)
	s.paused = err == nil
	return err
}

// loop is the session while it hands out work.
func (s *session) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	look := time.NewTicker(s.hungLook())
	defer look.Stop()
	for !s.stopping {
		s.reload(ctx)
		if s.bus.epoch.Load() != s.epoch { // it may have read what is not in the log any more
			s.stopping, s.fenced = true, true
			break
		}
		s.promote()
		s.save()
		work, next := s.next()
		timer.Reset(s.nextWake())
		select {
		case work <- next:
			s.handedOut(next)
		case in := <-s.wanted():
			s.arrived(in)
		case rs := <-s.results:
			s.settleAll(rs)
		case err := <-s.saved:
			s.afterSave(err)
		case lease := <-s.renewed:
			s.revision = lease.Revision
		case err := <-s.lost:
			s.fenced = true
			s.fail(err)
		case s.trouble = <-s.broken:
			s.stopping = true
		case <-timer.C:
		case <-look.C:
			s.findHung()
		case <-ctx.Done():
			s.stopping = true
		}
	}
}

// finish waits for running handlers, but not for those that hang, and saves. Once ctx has ended it waits for all, and no longer than the
// drain timeout.
func (s *session) finish(ctx context.Context, abort context.CancelFunc) {
	s.unrecord()
	if s.failed != nil {
		abort() // another instance may be active already
	}
	ended, aborted := ctx.Done(), false
	var limit <-chan time.Time
	look := time.NewTicker(s.hungLook())
	defer look.Stop()
	for gaveUp := false; ; {
		if gaveUp || !s.awaits(ctx) {
			s.passBy()
			if !s.saving && (!s.unsaved() || s.fenced) {
				return
			}
		}
		s.save()
		select {
		case rs := <-s.results:
			s.settleAll(rs)
		case err := <-s.saved:
			s.afterSave(err)
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
				gaveUp = true
				continue
			}
			aborted = true
			abort()
			limit = time.After(time.Second)
		case <-look.C:
			s.findHung()
		}
	}
}

// awaits reports whether handlers run that the end of the session has to wait for.
func (s *session) awaits(ctx context.Context) bool {
	if ctx.Err() != nil {
		return len(s.running)+s.left.workers > 0
	}
	for it := range s.running {
		if !it.hung {
			return true
		}
	}
	return false
}

func (s *session) fail(err error) {
	s.stopping = true
	if s.failed == nil {
		s.failed = err
	}
}

// nextWake is how long the loop may wait for something to happen.
func (s *session) nextWake() time.Duration {
	wake := time.Hour
	if len(s.due) > 0 && !s.outdated() && s.mayRecord() {
		wake = min(wake, time.Until(s.due[0].row.Due))
	}
	if s.rest.waits {
		wake = min(wake, time.Until(s.rest.until))
	}
	if !s.saveDue.IsZero() && !s.saving {
		wake = min(wake, time.Until(s.saveDue))
	}
	return max(wake, 0)
}

// hungLook is how often to look for handlers that hang.
func (s *session) hungLook() time.Duration { return s.sub.timeout/2 + hungGrace }
