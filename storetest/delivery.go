package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edupulse-live/pulse"
)

func advanceChecks() []check {
	return []check{
		{"Advance puts rows, and each field comes back", advancePut},
		{"Advance replaces rows by position", advanceReplace},
		{"Advance removes rows, also those that are not there", advanceRemove},
		{"Advance moves the cursor; position 0 leaves it", advanceCursor},
		{"Advance writes cursor, puts and removes as one unit", advanceUnit},
		{"Advance that is fenced writes nothing", advanceFenced},
		{"Advance takes an error text of any bytes", advanceText},
		{"Advance with a cancelled context writes nothing", advanceCancelled},
		{"States counts deliveries", advanceCounts},
	}
}

func listChecks() []check {
	return []check{
		{"List returns rows in order of position", listOrder},
		{"List selects by subscription, positions, statuses, name pattern and After", listSelects},
		{"List selects rows that have a lane", listBlocking},
		{"List with a Limit returns the first", listLimit},
	}
}

func advancePut(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	full := row(3, pulse.StatusRetry, "lesson-17")
	full.Key, full.Stack = "a key that is not the lane", "goroutine 1 [running]:\nmain.main()\n\t/app/main.go:7"
	rows := []pulse.DeliveryState{
		full, row(4, pulse.StatusDead, ""), row(5, pulse.StatusRunning, "a"), row(6, pulse.StatusWaiting, "a"),
		{Subscription: "mailer", Position: 7, Status: pulse.StatusWaiting, Name: "lesson.published"},
	}
	s.advance(lease, pulse.Progress{Put: rows})
	got := s.list(pulse.DeliveryQuery{})
	if len(got) != len(rows) {
		h.Fatalf("%d rows, want %d", len(got), len(rows))
	}
	for i := range rows {
		if !sameRow(got[i], rows[i]) {
			h.Errorf("row\n     %+v\nwant %+v", got[i], rows[i])
		}
	}
}

// sameRow compares rows; times by the instant, as a store may return them with another location pointer.
func sameRow(a, b pulse.DeliveryState) bool {
	times := a.Due.Equal(b.Due) && a.FailedAt.Equal(b.FailedAt)
	a.Due, a.FailedAt, b.Due, b.FailedAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return times && a == b
}

func advanceReplace(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	first, second := row(3, pulse.StatusRetry, "k"), row(3, pulse.StatusDead, "")
	second.Attempt, second.Error, second.Stack = 9, "gave up", "stack"
	s.advance(lease, pulse.Progress{Put: []pulse.DeliveryState{first}})
	s.advance(lease, pulse.Progress{Put: []pulse.DeliveryState{second}})
	got := s.list(pulse.DeliveryQuery{})
	if len(got) != 1 || !sameRow(got[0], second) {
		h.Fatalf("rows %+v, want %+v", got, second)
	}
}

func advanceRemove(h *harness) {
	s := h.subscriptions()
	mailer, search := s.register("mailer"), s.register("search")
	other := row(2, pulse.StatusDead, "")
	other.Subscription = "search"
	s.advance(search, pulse.Progress{Put: []pulse.DeliveryState{other}})
	s.advance(mailer, pulse.Progress{Put: []pulse.DeliveryState{row(1, pulse.StatusDead, ""), row(2, pulse.StatusDead, ""), row(3, pulse.StatusDead, "")}})
	s.advance(mailer, pulse.Progress{Remove: []pulse.Position{2, 3, 77}})
	s.positions(pulse.DeliveryQuery{Subscription: "mailer"}, 1)
	s.positions(pulse.DeliveryQuery{Subscription: "search"}, 2)
}

func advanceCursor(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	cursor := pulse.Cursor{Epoch: 3, Position: 1 << 40, Commitment: [32]byte{0, 1, 254, 255, 31: 7}}
	s.advance(lease, pulse.Progress{Cursor: cursor})
	s.advance(lease, pulse.Progress{})
	s.advance(lease, pulse.Progress{Put: []pulse.DeliveryState{row(1, pulse.StatusRetry, "")}})
	if got := s.state("mailer").Cursor; got != cursor {
		h.Fatalf("cursor %+v, want %+v", got, cursor)
	}
	cursor.Position, cursor.Commitment = cursor.Position+1, [32]byte{}
	s.advance(lease, pulse.Progress{Cursor: cursor})
	if got := s.state("mailer").Cursor; got != cursor {
		h.Fatalf("cursor %+v, want %+v", got, cursor)
	}
}

func advanceUnit(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // looks on: it must never see the row without the cursor or the other way round
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			states, err := s.States(h.ctx)
			if err != nil || len(states) != 1 {
				h.Errorf("States: %v, %v", states, err)
				return
			}
			if state := states[0]; state.Dead != int(state.Cursor.Position)%2 {
				h.Errorf("saw %d dead letters with the cursor at %d", state.Dead, state.Cursor.Position)
				return
			}
		}
	}()
	for i := range pulse.Position(40) {
		p := s.to(i + 1)
		if i%2 == 0 {
			p.Put = []pulse.DeliveryState{row(i+1, pulse.StatusDead, "")}
		} else {
			p.Remove = []pulse.Position{i}
		}
		if err := s.Advance(h.ctx, lease, p); err != nil {
			h.Errorf("advance: %v", err)
			break
		}
	}
	close(stop)
	<-done
}

func advanceFenced(h *harness) {
	s := h.subscriptions()
	old := s.register("mailer")
	p := s.to(4)
	p.Put = []pulse.DeliveryState{row(3, pulse.StatusRetry, "k")}
	s.advance(old, p)
	s.steal(old, "instance-b")
	before := s.state("mailer")
	late := s.to(9)
	late.Put, late.Remove = []pulse.DeliveryState{row(8, pulse.StatusDead, "")}, []pulse.Position{3}
	if err := s.Advance(h.ctx, old, late); !errors.Is(err, pulse.ErrFenced) {
		h.Fatalf("error is %v, want an ErrFenced", err)
	}
	if after := s.state("mailer"); after != before {
		h.Fatalf("a fenced Advance changed\n   %+v\nto %+v", before, after)
	}
	s.positions(pulse.DeliveryQuery{}, 3)
}

func advanceText(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	for i, text := range []string{"a zero \x00 byte", "broken \xff\xfe UTF-8", "żółw 学校", strings.Repeat("long ", 20_000)} {
		r := row(pulse.Position(i+1), pulse.StatusDead, "")
		r.Error, r.Stack = text, text
		s.advance(lease, pulse.Progress{Put: []pulse.DeliveryState{r}})
		rows := s.list(pulse.DeliveryQuery{Positions: []pulse.Position{r.Position}})
		if len(rows) != 1 || len(rows[0].Error) < 5 || len(rows[0].Stack) < 5 {
			h.Fatalf("error text %.20q: rows %+v", text, rows)
		}
		if i == 2 && rows[0].Error != text {
			h.Fatalf("the error text %q came back as %q", text, rows[0].Error)
		}
	}
}

func advanceCancelled(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	before := s.state("mailer")
	err := s.Advance(h.cancelled(), lease, s.to(3))
	if !errors.Is(err, context.Canceled) {
		h.Fatalf("error is %v, want a context.Canceled", err)
	}
	if after := s.state("mailer"); after != before {
		h.Fatalf("a cancelled Advance changed\n   %+v\nto %+v", before, after)
	}
}

func advanceCounts(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	other := s.register("search")
	put := []pulse.DeliveryState{
		row(1, pulse.StatusRetry, "a"), row(2, pulse.StatusWaiting, "a"), row(3, pulse.StatusWaiting, "a"),
		row(4, pulse.StatusDead, "b"), row(5, pulse.StatusWaiting, "b"),
		row(6, pulse.StatusDead, ""), row(7, pulse.StatusRunning, ""), row(8, pulse.StatusRetry, ""),
		row(9, pulse.StatusRunning, "c"), row(10, pulse.StatusRetry, "d"),
	}
	s.advance(lease, pulse.Progress{Put: put})
	elsewhere := row(1, pulse.StatusDead, "z")
	elsewhere.Subscription = "search"
	s.advance(other, pulse.Progress{Put: []pulse.DeliveryState{elsewhere}})
	s.counts("mailer", 5, 3, 4, 2)
	s.counts("search", 0, 0, 1, 1)
	s.advance(lease, pulse.Progress{Remove: []pulse.Position{1, 4, 6}, Put: []pulse.DeliveryState{row(2, pulse.StatusRetry, "a")}})
	s.counts("mailer", 6, 1, 3, 0) // 5 has nothing before it any more: it will be tried
}

// counts ends the case unless the subscription's deliveries are counted like this.
func (s *subscriber) counts(name string, retries, waiting, blocked, dead int) {
	s.Helper()
	state := s.state(name)
	got := fmt.Sprint(state.Retries, " retries ", state.Waiting, " waiting ", state.Blocked, " blocked ", state.Dead, " dead")
	if want := fmt.Sprint(retries, " retries ", waiting, " waiting ", blocked, " blocked ", dead, " dead"); got != want {
		s.Fatalf("%s has %s, want %s", name, got, want)
	}
}

func listOrder(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	for _, p := range []pulse.Position{30, 4, 100, 1} {
		s.advance(lease, pulse.Progress{Put: []pulse.DeliveryState{row(p, pulse.StatusRetry, "")}})
	}
	s.positions(pulse.DeliveryQuery{}, 1, 4, 30, 100)
	s.positions(pulse.DeliveryQuery{Subscription: "mailer"}, 1, 4, 30, 100)
}

func listSelects(h *harness) {
	s := h.subscriptions()
	mailer, search := s.register("mailer"), s.register("search")
	var rows []pulse.DeliveryState
	for i, name := range []string{"lesson.published", "lesson.plan.published", "quiz.submitted", "lesson_x.published", "lessonax.published"} {
		r := row(pulse.Position(i+1), []pulse.DeliveryStatus{pulse.StatusRetry, pulse.StatusDead}[i%2], "")
		r.Name = name
		rows = append(rows, r)
	}
	s.advance(mailer, pulse.Progress{Put: rows})
	other := row(7, pulse.StatusDead, "")
	other.Subscription = "search"
	s.advance(search, pulse.Progress{Put: []pulse.DeliveryState{other}})

	s.positions(pulse.DeliveryQuery{}, 1, 2, 3, 4, 5, 7)
	s.positions(pulse.DeliveryQuery{Subscription: "search"}, 7)
	s.positions(pulse.DeliveryQuery{Subscription: "nobody"})
	s.positions(pulse.DeliveryQuery{Positions: []pulse.Position{2, 3, 7, 50}}, 2, 3, 7)
	s.positions(pulse.DeliveryQuery{Subscription: "mailer", Positions: []pulse.Position{2, 7}}, 2)
	s.positions(pulse.DeliveryQuery{Statuses: []pulse.DeliveryStatus{pulse.StatusDead}}, 2, 4, 7)
	s.positions(pulse.DeliveryQuery{Statuses: []pulse.DeliveryStatus{pulse.StatusDead, pulse.StatusRetry}}, 1, 2, 3, 4, 5, 7)
	s.positions(pulse.DeliveryQuery{Statuses: []pulse.DeliveryStatus{pulse.StatusWaiting}})
	s.positions(pulse.DeliveryQuery{Name: "quiz.submitted"}, 3)
	s.positions(pulse.DeliveryQuery{Name: "lesson.*"}, 1, 7)
	s.positions(pulse.DeliveryQuery{Name: "lesson.>"}, 1, 2, 7)
	s.positions(pulse.DeliveryQuery{Name: "lesson_x.*"}, 4)
	s.positions(pulse.DeliveryQuery{After: 3}, 4, 5, 7)
	s.positions(pulse.DeliveryQuery{After: 1, Subscription: "mailer", Name: "*.published", Statuses: []pulse.DeliveryStatus{pulse.StatusRetry}}, 5)
}

func listBlocking(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	s.advance(lease, pulse.Progress{Put: []pulse.DeliveryState{
		row(1, pulse.StatusDead, ""), row(2, pulse.StatusDead, "k"), row(3, pulse.StatusRetry, ""), row(4, pulse.StatusWaiting, "k"),
	}})
	s.positions(pulse.DeliveryQuery{Blocking: true}, 2, 4)
	s.positions(pulse.DeliveryQuery{Blocking: true, Statuses: []pulse.DeliveryStatus{pulse.StatusDead}}, 2)
	s.settle(pulse.DeliveryQuery{Blocking: true}, pulse.SettleSkip, 1)
	s.positions(pulse.DeliveryQuery{Blocking: true}, 4)
}

func listLimit(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	var put []pulse.DeliveryState
	for i := range pulse.Position(10) {
		r := row(i+1, pulse.StatusDead, "")
		r.Name = []string{"lesson.published", "quiz.submitted"}[i%2]
		put = append(put, r)
	}
	s.advance(lease, pulse.Progress{Put: put})
	s.positions(pulse.DeliveryQuery{Limit: 3}, 1, 2, 3)
	s.positions(pulse.DeliveryQuery{Limit: 3, After: 8}, 9, 10)
	s.positions(pulse.DeliveryQuery{Limit: 3, Name: "quiz.*"}, 2, 4, 6)
	s.positions(pulse.DeliveryQuery{Limit: 3, Name: "quiz.*", After: 4}, 6, 8, 10)
}
