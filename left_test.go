package pulse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// stuck is a subscription whose first call for the event a/0 does not return before it is told what to answer, and does not listen to
// its context.
type stuck struct {
	*pulse.Bus
	store   *memstore.Store
	got     seen
	answer  chan error
	calls   atomic.Int32 // for a/0
	attempt atomic.Int32 // of the last of them
	failing atomic.Bool  // the store refuses to save, handlers of "c" fail, and what those of "down" need is down
	refused atomic.Int32 // how often
	running atomic.Int32 // handlers
	most    atomic.Int32 // of them at once
}

func newStuck(t *testing.T, batch bool, opts ...pulse.SubscribeOption) *stuck {
	t.Helper()
	s := &stuck{answer: make(chan error)}
	s.Bus, s.store = faultyBus(t, func(_ context.Context, point string) error {
		if point == memstore.AdvanceBefore && s.failing.Load() {
			s.refused.Add(1)
			return errors.New("the disk is full")
		}
		return nil
	})
	handler := pulse.OnDelivery("lesson.>", s.handle)
	if batch {
		handler = pulse.OnBatch("lesson.>", 1, func(ctx context.Context, ds []pulse.Delivery) error { return s.handle(ctx, &ds[0]) })
	}
	subscribe(t, s.Bus, "index", append(opts, pulse.Timeout(5*time.Second), pulse.Concurrency(3), handler)...)
	return s
}

func (s *stuck) handle(_ context.Context, d *pulse.Delivery) error {
	var e lesson
	if err := json.Unmarshal(d.Data, &e); err != nil {
		return err
	}
	s.most.Store(max(s.most.Load(), s.running.Add(1)))
	defer s.running.Add(-1)
	if e == (lesson{"a", 0}) {
		s.attempt.Store(int32(d.Attempt))
		if s.calls.Add(1) == 1 {
			return <-s.answer
		}
	}
	switch {
	case e.ID == "down" && s.failing.Load():
		return pulse.Unavailable(errors.New("smtp is down"))
	case e.ID == "c" && s.failing.Load():
		return errors.New("so that there is something to save")
	}
	time.Sleep(time.Millisecond)
	s.got.add(e)
	return nil
}

// ends are the ways in which a session may end under a handler that hangs.
func ends() map[string]func(t *testing.T, s *stuck) {
	return map[string]func(t *testing.T, s *stuck){
		"a save fails": func(t *testing.T, s *stuck) {
			s.failing.Store(true)
			emit(t, s.Bus, lesson{"c", 0})
			time.Sleep(time.Second)
			s.failing.Store(false)
			if s.refused.Load() == 0 {
				t.Error("nothing was to be saved")
			}
		},
		"a handler finds what it needs down": func(t *testing.T, s *stuck) {
			s.failing.Store(true)
			emit(t, s.Bus, lesson{"down", 0})
			time.Sleep(time.Second)
			s.failing.Store(false)
		},
		"a person pauses it": func(t *testing.T, s *stuck) {
			err := s.Pause(t.Context(), "index", "test")
			time.Sleep(time.Minute)
			if err := errors.Join(err, s.Resume(t.Context(), "index")); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// TestASessionEndsWithoutWhatHangs: the others go on, in new sessions. What hangs is called no second time beside itself, its key waits,
// and when it returns in the end it is handled again, with no attempt spent.
func TestASessionEndsWithoutWhatHangs(t *testing.T) {
	once := pulse.Retry(pulse.RetryPolicy{Attempts: 1})
	for _, c := range []struct {
		name    string
		ordered bool
		batch   bool
		opts    []pulse.SubscribeOption
	}{
		{"unordered", false, false, []pulse.SubscribeOption{once}},
		{"unordered batches", false, true, []pulse.SubscribeOption{once}},
		{"ordered", true, false, []pulse.SubscribeOption{once, pulse.Ordered()}},
		{"skipping", true, false, []pulse.SubscribeOption{once, pulse.Ordered(), pulse.SkipFailed()}},
	} {
		for end, by := range ends() {
			for when, hung := range map[string]time.Duration{"at once": 0, "when it hangs": 10 * time.Second} {
				for answer, err := range map[string]error{"success": nil, "an error": errors.New("not now")} {
					t.Run(c.name+"/"+end+" "+when+"/it returns "+answer, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							testStuck(t, newStuck(t, c.batch, c.opts...), c.ordered, by, hung, err)
						})
					})
				}
			}
		}
	}
}

func testStuck(t *testing.T, s *stuck, ordered bool, by func(*testing.T, *stuck), hung time.Duration, answer error) {
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	emit(t, s.Bus, lesson{"a", 0}, lesson{"a", 1})
	time.Sleep(time.Second + hung)
	for range 2 { // the session after the next knows, too
		by(t, s)
		time.Sleep(time.Minute)
	}
	emit(t, s.Bus, lesson{"a", 2}, lesson{"b", 1}, lesson{"b", 2})
	time.Sleep(10 * time.Second)
	if b := s.got.of("b"); !slices.Equal(slices.Sorted(slices.Values(b)), []int{1, 2}) {
		t.Errorf("of another key %v are handled", b)
	}
	if n := s.calls.Load(); n != 1 || ordered && len(s.got.of("a")) != 0 {
		t.Errorf("%d calls for one delivery, handled behind it: %v", n, s.got.of("a"))
	}
	s.answer <- answer
	time.Sleep(time.Minute)
	if a := s.got.of("a"); ordered && !slices.Equal(a, []int{0, 1, 2}) || !slices.Contains(a, 0) {
		t.Errorf("in the end %v are handled", a)
	}
	if s.calls.Load() != 2 || s.attempt.Load() != 1 {
		t.Errorf("it was called %d times, at last as attempt %d", s.calls.Load(), s.attempt.Load())
	}
	if state := one(t, s.Bus); state.Lag() != 0 || state.Retries+state.Waiting+state.Dead != 0 {
		t.Errorf("in the end the subscription is at %+v", state)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if state := one(t, s.Bus); state.Holder != "" {
		t.Errorf("all have returned, and %s keeps the lease", state.Holder)
	}
}

// TestAHandlerThatHangsIsNoticed by the default timeout too: the cursor passes it, and its row says why.
func TestAHandlerThatHangsIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		release := make(chan struct{})
		subscribe(t, bus, "index", pulse.On(func(context.Context, lesson) error { <-release; return nil }))
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- bus.Run(ctx) }()
		emit(t, bus, lesson{"a", 0})
		time.Sleep(2 * time.Minute)
		if list := rows(t, bus); len(list) != 1 || list[0].Status != pulse.StatusRunning || list[0].Error == "" || one(t, bus).Cursor.Position != 1 {
			t.Errorf("rows %+v, state %+v", list, one(t, bus))
		}
		close(release)
		time.Sleep(time.Second)
		if list := rows(t, bus); len(list) != 0 {
			t.Errorf("it has returned, rows %+v", list)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestWhatHangsKeepsItsPlaceAmongTheConcurrent: also in the next session.
func TestWhatHangsKeepsItsPlaceAmongTheConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStuck(t, false, pulse.Ordered())
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- s.Run(ctx) }()
		emit(t, s.Bus, lesson{"a", 0})
		time.Sleep(10 * time.Second)
		ends()["a person pauses it"](t, s)
		time.Sleep(time.Second)
		for n := range 3 * 3 {
			emit(t, s.Bus, lesson{fmt.Sprint("other", n), 0})
		}
		time.Sleep(time.Minute)
		if n := s.most.Load(); n != 3 {
			t.Errorf("%d handlers ran at once, of 3", n)
		}
		s.answer <- nil
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestTheKeyOfWhatHangsWaits in this process also when another one has given the delivery up meanwhile.
func TestTheKeyOfWhatHangsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStuck(t, false, pulse.Ordered(), pulse.SkipFailed())
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- s.Run(ctx) }()
		emit(t, s.Bus, lesson{"a", 0}, lesson{"a", 1})
		time.Sleep(10 * time.Second)
		if err := s.Pause(t.Context(), "index", "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		crashed(t, s.store, "index", pulse.Progress{Put: []pulse.DeliveryState{row(1, pulse.StatusDead, "", 10)}})
		if err := s.Resume(t.Context(), "index"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if a := s.got.of("a"); len(a) != 0 {
			t.Errorf("beside what hangs %v of its key were handled", a)
		}
		s.answer <- nil
		time.Sleep(time.Minute)
		if a := s.got.of("a"); !slices.Equal(a, []int{1}) {
			t.Errorf("when it had returned %v of its key were handled", a)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}
