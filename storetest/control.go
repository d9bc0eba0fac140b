package storetest

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edupulse-live/pulse"
)

func registerChecks() []check {
	return []check{
		{"Register sets the cursor before start", registerStart},
		{"Register from Now means after the present head", registerNow},
		{"Register beyond the next event is an ErrInvalid and creates nothing", registerBeyond},
		{"Register of an existing subscription returns what is stored and changes nothing", registerAgain},
		{"Register keeps the source, and replaces that of an existing subscription", registerSource},
		{"States returns all subscriptions by name", registerStates},
		{"a cursor ahead of the log shows as a negative lag", registerAhead},
		{"Register with a cancelled context creates nothing", registerCancelled},
	}
}

func controlChecks() []check {
	return []check{
		{"a pause is kept until a time, with its reason", controlPause},
		{"a pause can be forever", controlForever},
		{"Resume ends a pause", controlResume},
		{"Replay starts a new generation before From, without deliveries", controlReplay},
		{"Replay fences the writes of the lease taken before", controlReplayFences},
		{"Replay fences a write at the same time, or undoes it", controlReplayBeside},
		{"Replay from beyond the next event is an ErrInvalid and changes nothing", controlReplayBeyond},
		{"Drop removes the subscription and all it left", controlDrop},
		{"Control of one subscription leaves the others alone", controlOthers},
		{"Control of an unknown subscription is an ErrNotFound", controlUnknown},
		{"each Control grows the Revision", controlRevision},
		{"Control of what has changed since it was Seen is an ErrFenced and changes nothing", controlSeen},
		{"of several Controls decided on the same Revision one is made", controlSeenOnce},
	}
}

func registerStart(h *harness) {
	s := h.subscriptions()
	recs := h.records(4)
	h.append(recs...)
	h.info()
	for _, c := range []struct {
		name  string
		start pulse.Position
		want  pulse.Position
	}{{"from-beginning", pulse.Beginning, 0}, {"from-three", 3, 2}, {"from-head", 4, 3}, {"from-next", 5, 4}} {
		state, err := s.Register(h.ctx, pulse.Registration{Name: c.name, Start: c.start})
		h.ok(err)
		want := pulse.Cursor{Epoch: h.info().Epoch, Position: c.want}
		if c.want > 0 {
			want.Commitment = recs[c.want-1].Commitment
		}
		if state.Cursor != want {
			h.Fatalf("%s: cursor is %+v, want %+v", c.name, state.Cursor, want)
		}
		if state.Name != c.name || state.Generation != 1 || state.Head != 4 || state.Lag() != int64(4-c.want) || state.Holder != "" || !state.PausedUntil.IsZero() {
			h.Fatalf("a new subscription is %+v", state)
		}
		if stored := s.state(c.name); stored != state {
			h.Fatalf("States gives %+v, Register gave %+v", stored, state)
		}
	}
}

func registerNow(h *harness) {
	s := h.subscriptions()
	state, err := s.Register(h.ctx, pulse.Registration{Name: "of-an-empty-log", Start: pulse.Now})
	h.ok(err)
	if state.Cursor.Position != 0 {
		h.Fatalf("from now on in an empty log: cursor is %+v", state.Cursor)
	}
	recs := h.records(3)
	h.append(recs...)
	state, err = s.Register(h.ctx, pulse.Registration{Name: "mailer", Start: pulse.Now})
	h.ok(err)
	h.append(h.record())
	if state.Cursor.Position != 3 || state.Cursor.Commitment != recs[2].Commitment {
		h.Fatalf("from now on after 3 events: cursor is %+v", state.Cursor)
	}
	h.info()
	if state := s.state("mailer"); state.Lag() != 1 {
		h.Fatalf("lag is %d after one more event", state.Lag())
	}
}

func registerBeyond(h *harness) {
	s := h.subscriptions()
	h.append(h.records(2)...) // without an Info: what is stored counts, whether it has its position yet or not
	for _, start := range []pulse.Position{4, 1 << 40} {
		_, err := s.Register(h.ctx, pulse.Registration{Name: "mailer", Start: start})
		if !errors.Is(err, pulse.ErrInvalid) || !strings.Contains(err.Error(), "3") {
			h.Fatalf("registered from %d in a log of 2: error is %v, want an ErrInvalid that tells the next position", start, err)
		}
	}
	states, err := s.States(h.ctx)
	h.ok(err)
	if len(states) != 0 {
		h.Fatalf("a refused Register left %+v", states)
	}
	s.register("mailer")
	_, err = s.Register(h.ctx, pulse.Registration{Name: "mailer", Start: 9})
	h.ok(err) // it exists: the start is not looked at
}

func registerAgain(h *harness) {
	s := h.subscriptions()
	h.append(h.records(9)...)
	h.info()
	lease := s.register("mailer")
	p := s.to(2)
	p.Put = []pulse.DeliveryState{row(2, pulse.StatusRetry, "k")}
	s.advance(lease, p)
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Pause: &pulse.Pause{Until: pulse.Forever, Reason: "test"}}))
	before := s.state("mailer")
	for _, start := range []pulse.Position{pulse.Now, pulse.Beginning, 5} {
		state, err := s.Register(h.ctx, pulse.Registration{Name: "mailer", Start: start})
		h.ok(err)
		if state != before {
			h.Fatalf("registered again:\n     %+v\nwant %+v", state, before)
		}
	}
	if after := s.state("mailer"); after != before {
		h.Fatalf("registered again, States gives\n     %+v\nwant %+v", after, before)
	}
	s.advance(lease, s.to(3))
}

func registerSource(h *harness) {
	s := h.subscriptions()
	for _, source := range []string{"nats", "", "kafka"} {
		state, err := s.Register(h.ctx, pulse.Registration{Name: "mailer", Start: pulse.Beginning, Source: source})
		h.ok(err)
		if state.Source != source || s.state("mailer").Source != source {
			h.Fatalf("registered with source %q: Register gives %q, States %q", source, state.Source, s.state("mailer").Source)
		}
	}
}

func registerStates(h *harness) {
	s := h.subscriptions()
	states, err := s.States(h.ctx)
	h.ok(err)
	if len(states) != 0 {
		h.Fatalf("a new store has %+v", states)
	}
	for _, name := range []string{"search", "analytics", "mailer"} {
		_, err := s.Register(h.ctx, pulse.Registration{Name: name, Start: pulse.Now})
		h.ok(err)
	}
	states, err = s.States(h.ctx)
	h.ok(err)
	var names []string
	for _, state := range states {
		names = append(names, state.Name)
	}
	if got := strings.Join(names, " "); got != "analytics mailer search" {
		h.Fatalf("States returns %s", got)
	}
}

func registerAhead(h *harness) {
	s := h.subscriptions()
	h.append(h.records(2)...)
	h.info()
	lease := s.register("mailer")
	s.advance(lease, s.to(7))
	if lag := func() int64 { st := s.state("mailer"); return st.Lag() }(); lag != -5 {
		h.Fatalf("lag is %d with the cursor at 7 and the head at 2, want -5", lag)
	}
}

func registerCancelled(h *harness) {
	s := h.subscriptions()
	if _, err := s.Register(h.cancelled(), pulse.Registration{Name: "mailer", Start: pulse.Now}); err == nil {
		h.Fatal("registered with a cancelled context")
	}
	states, err := s.States(h.ctx)
	h.ok(err)
	if len(states) != 0 {
		h.Fatalf("a refused Register left %+v", states)
	}
}

func controlPause(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	until := time.Date(2031, 7, 1, 12, 0, 0, 123_456_000, time.FixedZone("east", 7200))
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Pause: &pulse.Pause{Until: until, Reason: "the mail server is down"}}))
	state := s.state("mailer")
	if !state.PausedUntil.Equal(until) || state.PausedUntil.Location() != time.UTC || state.PauseReason != "the mail server is down" {
		h.Fatalf("paused until %s: %+v", until, state)
	}
	s.advance(lease, s.to(1)) // what is in flight may still end
	later := until.Add(time.Hour)
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Pause: &pulse.Pause{Until: later}}))
	if state := s.state("mailer"); !state.PausedUntil.Equal(later) || state.PauseReason != "" {
		h.Fatalf("paused again until %s: %+v", later, state)
	}
}

func controlForever(h *harness) {
	s := h.subscriptions()
	s.register("mailer")
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Pause: &pulse.Pause{Until: pulse.Forever}}))
	if got := s.state("mailer").PausedUntil; !got.Equal(pulse.Forever) {
		h.Fatalf("paused until %s, want %s", got, pulse.Forever)
	}
}

func controlResume(h *harness) {
	s := h.subscriptions()
	s.register("mailer")
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Pause: &pulse.Pause{Until: pulse.Forever, Reason: "maintenance"}}))
	for range 2 {
		h.ok(s.Control(h.ctx, "mailer", pulse.Control{Resume: true}))
		if state := s.state("mailer"); !state.PausedUntil.IsZero() || state.PauseReason != "" {
			h.Fatalf("resumed: %+v", state)
		}
	}
}

func controlReplay(h *harness) {
	s := h.subscriptions()
	recs := h.records(6)
	h.append(recs...)
	h.info()
	lease := s.register("mailer")
	for i, c := range []struct{ from, want pulse.Position }{{pulse.Beginning, 0}, {4, 3}, {pulse.Beginning, 0}} {
		p := s.to(6)
		p.Put = []pulse.DeliveryState{row(1, pulse.StatusDead, ""), row(2, pulse.StatusRetry, "k"), row(3, pulse.StatusWaiting, "k"), row(4, pulse.StatusRunning, "")}
		s.advance(lease, p)
		h.ok(s.Control(h.ctx, "mailer", pulse.Control{Replay: &pulse.Replay{From: c.from}}))
		s.positions(pulse.DeliveryQuery{})
		state := s.state("mailer")
		if state.Generation != i+2 || state.Cursor.Position != c.want || state.Retries+state.Waiting+state.Blocked+state.Dead != 0 {
			h.Fatalf("replayed from %d: %+v", c.from, state)
		}
		if c.want > 0 && state.Cursor.Commitment != recs[c.want-1].Commitment {
			h.Fatalf("replayed from %d: the cursor is not that of the event at %d", c.from, c.want)
		}
		h.ok(s.Release(h.ctx, lease))
		lease = s.take("mailer", "instance-a")
		if lease.Generation != i+2 || lease.Unclean {
			h.Fatalf("the lease after replay %d is %+v", i+1, lease)
		}
	}
}

func controlReplayBeyond(h *harness) {
	s := h.subscriptions()
	h.append(h.records(3)...)
	h.info()
	lease := s.register("mailer")
	p := s.to(2)
	p.Put = []pulse.DeliveryState{row(2, pulse.StatusRetry, "k")}
	s.advance(lease, p)
	before := s.state("mailer")
	for _, from := range []pulse.Position{5, 1 << 40} {
		if err := s.Control(h.ctx, "mailer", pulse.Control{Replay: &pulse.Replay{From: from}}); !errors.Is(err, pulse.ErrInvalid) {
			h.Fatalf("replayed from %d in a log of 3: error is %v, want an ErrInvalid", from, err)
		}
	}
	if after := s.state("mailer"); after != before {
		h.Fatalf("a refused replay left\n     %+v\nwant %+v", after, before)
	}
	s.advance(lease, s.to(3))
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Replay: &pulse.Replay{From: 4}}))
	if state := s.state("mailer"); state.Cursor.Position != 3 {
		h.Fatalf("replayed from the next event: %+v", state)
	}
}

func controlReplayFences(h *harness) {
	s := h.subscriptions()
	old := s.register("mailer")
	s.advance(old, s.to(5))
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Replay: &pulse.Replay{From: pulse.Beginning}}))
	s.fenced(old, "after a replay")
	h.ok(s.Release(h.ctx, old))
	lease := s.take("mailer", "instance-b")
	s.fenced(old, "after another instance took the lease of the new generation")
	s.advance(lease, s.to(1))
}

// controlReplayBeside has the holder of the lease save progress while others replay: none of it may be there afterwards, or events would be
// skipped.
func controlReplayBeside(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	for round := range 50 {
		var holder sync.WaitGroup
		var replayed atomic.Bool
		holder.Go(func() {
			for last := false; !last; { // once more after the replay
				last = replayed.Load()
				if s.Advance(h.ctx, lease, s.to(5)) != nil {
					return
				}
			}
		})
		err := s.Control(h.ctx, "mailer", pulse.Control{Replay: &pulse.Replay{From: pulse.Beginning}})
		replayed.Store(true)
		holder.Wait()
		h.ok(err)
		if at := s.state("mailer").Cursor.Position; at != 0 {
			h.Fatalf("replay %d from the beginning: the cursor is at %d afterwards", round+1, at)
		}
		h.ok(s.Release(h.ctx, lease))
		lease = s.take("mailer", "instance-a")
	}
}

func controlDrop(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	_, transacts := h.store.(pulse.Transactor)
	if transacts {
		s.seen(lease, []pulse.Position{7})
	}
	p := s.to(5)
	p.Put = []pulse.DeliveryState{row(4, pulse.StatusDead, "k")}
	s.advance(lease, p)
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Drop: true}))
	states, err := s.States(h.ctx)
	h.ok(err)
	if len(states) != 0 {
		h.Fatalf("dropped, but States returns %+v", states)
	}
	s.positions(pulse.DeliveryQuery{})
	if err := s.Control(h.ctx, "mailer", pulse.Control{Drop: true}); !errors.Is(err, pulse.ErrNotFound) {
		h.Fatalf("dropped again: error is %v, want an ErrNotFound", err)
	}
	state, err := s.Register(h.ctx, pulse.Registration{Name: "mailer", Start: pulse.Beginning})
	h.ok(err)
	if state.Cursor.Position != 0 || state.Dead != 0 || state.Holder != "" {
		h.Fatalf("registered again after a Drop: %+v", state)
	}
	if transacts {
		s.seen(s.take("mailer", "instance-b"), []pulse.Position{4, 7})
	}
}

func controlOthers(h *harness) {
	s := h.subscriptions()
	s.register("mailer")
	search := s.register("search")
	p := s.to(5)
	p.Put = []pulse.DeliveryState{row(4, pulse.StatusDead, "k")}
	s.advance(search, p)
	before := s.state("search")
	for _, c := range []pulse.Control{
		{Pause: &pulse.Pause{Until: pulse.Forever}}, {Resume: true}, {Replay: &pulse.Replay{From: 1}}, {Drop: true},
	} {
		h.ok(s.Control(h.ctx, "mailer", c))
		if after := s.state("search"); after != before {
			h.Fatalf("Control %+v of mailer changed search from\n   %+v\nto %+v", c, before, after)
		}
	}
	s.positions(pulse.DeliveryQuery{Subscription: "search"}, 4)
	s.advance(search, s.to(6))
}

func controlUnknown(h *harness) {
	s := h.subscriptions()
	for _, c := range []pulse.Control{
		{Pause: &pulse.Pause{Until: pulse.Forever}}, {Resume: true}, {Replay: &pulse.Replay{From: 1}}, {Drop: true},
	} {
		if err := s.Control(h.ctx, "nobody", c); !errors.Is(err, pulse.ErrNotFound) {
			h.Fatalf("Control %+v: error is %v, want an ErrNotFound", c, err)
		}
	}
}

func controlRevision(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	last := s.state("mailer").Revision
	for _, c := range []pulse.Control{
		{Pause: &pulse.Pause{Until: pulse.Forever}}, {Resume: true}, {Replay: &pulse.Replay{From: 1}},
	} {
		h.ok(s.Control(h.ctx, "mailer", c))
		state := s.state("mailer")
		if state.Revision <= last {
			h.Fatalf("Control %+v left Revision at %d after %d", c, state.Revision, last)
		}
		last = state.Revision
	}
	h.ok(s.Release(h.ctx, lease))
	s.advance(s.take("mailer", "instance-a"), s.to(1))
	if state := s.state("mailer"); state.Revision != last {
		h.Fatalf("Advance grew Revision from %d to %d: the instance would reload what it wrote itself", last, state.Revision)
	}
}
