package pulsetest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pulsetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type badgeAwarded struct {
	Student string    `json:"student" pulse:"key"`
	Badge   string    `json:"badge"`
	When    time.Time `json:"when,omitzero"`
}

func (badgeAwarded) EventName() string { return "badge.awarded" }

type quizSubmitted struct {
	Quiz string `json:"quiz"`
}

func (quizSubmitted) EventName() string { return "quiz.submitted" }

// fake is a test that notes how it failed.
type fake struct {
	testing.TB
	limit   time.Duration
	failure string
}

func (f *fake) Helper() {}

func (f *fake) Fatalf(format string, args ...any) {
	f.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (f *fake) Deadline() (time.Time, bool) { return time.Now().Add(f.limit), f.limit > 0 }

// failure runs fn with a test that may fail and returns how it did, "" when it did not.
func failure(t *testing.T, limit time.Duration, fn func(t testing.TB)) string {
	f := &fake{TB: t, limit: limit}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(f)
	}()
	<-done
	return f.failure
}

func emit(t *testing.T, to pulse.Emitter, evs ...pulse.Event) {
	t.Helper()
	for _, ev := range evs {
		if _, err := to.Emit(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEmittedReturnsItsTypeInOrder(t *testing.T) {
	bus := pulsetest.New(t)
	emit(t, bus, badgeAwarded{Student: "ada", Badge: "first"}, quizSubmitted{"q1"}, badgeAwarded{Student: "ada", Badge: "second"})
	got := pulsetest.Emitted[badgeAwarded](t, bus)
	if len(got) != 2 || got[0].Badge != "first" || got[1].Badge != "second" {
		t.Errorf("emitted %+v", got)
	}
}

func TestRequireEmitted(t *testing.T) {
	bus := pulsetest.New(t)
	now := time.Now() // with a monotonic reading, which JSON does not keep
	emit(t, bus, badgeAwarded{"ada", "first", now}, badgeAwarded{Student: "bob", Badge: "first"})
	for name, tc := range map[string]struct {
		want []badgeAwarded
		fail string
	}{
		"equal":       {[]badgeAwarded{{"ada", "first", now}, {Student: "bob", Badge: "first"}}, ""},
		"one missing": {[]badgeAwarded{{"ada", "first", now}}, "emitted 2 events"},
		"other order": {[]badgeAwarded{{Student: "bob", Badge: "first"}, {"ada", "first", now}}, "wanted 2"},
		"other field": {[]badgeAwarded{{"ada", "first", now}, {Student: "bob", Badge: "second"}}, `"badge":"second"`},
		"none wanted": {nil, "wanted 0"},
		"one more":    {[]badgeAwarded{{"ada", "first", now}, {Student: "bob", Badge: "first"}, {}}, "wanted 3"},
	} {
		t.Run(name, func(t *testing.T) {
			got := failure(t, 0, func(t testing.TB) { pulsetest.RequireEmitted(t, bus, tc.want...) })
			if tc.fail == "" && got != "" || !strings.Contains(got, tc.fail) {
				t.Errorf("failed with %q, want %q", got, tc.fail)
			}
		})
	}
	pulsetest.RequireEmitted[quizSubmitted](t, bus)
}

func TestEmittedFailsOnAnotherShape(t *testing.T) {
	bus := pulsetest.New(t)
	emit(t, bus, pulse.Raw{Name: "badge.awarded", Data: []byte(`{"student":7}`)})
	got := failure(t, 0, func(t testing.TB) { pulsetest.Emitted[badgeAwarded](t, bus) })
	if !strings.Contains(got, "position 1") {
		t.Errorf("failed with %q", got)
	}
}

func TestDrainRunsTheHandlers(t *testing.T) {
	bus := pulsetest.New(t)
	err := bus.Subscribe("praise", pulse.On(func(ctx context.Context, e badgeAwarded) error {
		_, err := bus.Emit(ctx, quizSubmitted{"after " + e.Badge})
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	emit(t, bus, badgeAwarded{Student: "ada", Badge: "first"})
	pulsetest.Drain(t, bus)
	pulsetest.RequireEmitted(t, bus, quizSubmitted{"after first"})
}

func TestDrainSaysWhatHangs(t *testing.T) {
	bus := pulsetest.New(t)
	err := bus.Subscribe("praise",
		pulse.Retry(pulse.RetryPolicy{First: time.Hour, Max: time.Hour}),
		pulse.On(func(context.Context, badgeAwarded) error { return errors.New("the printer is out of paper") }))
	if err != nil {
		t.Fatal(err)
	}
	emit(t, bus, badgeAwarded{Student: "ada", Badge: "first"})
	got := failure(t, time.Second, func(t testing.TB) { pulsetest.Drain(t, bus) })
	for _, want := range []string{`"praise" has handled up to position 1 of 1`, "retry after 1 attempts", "out of paper"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in the failure: %q", want, got)
		}
	}
}

func TestDrainSaysWhatIsPaused(t *testing.T) {
	bus := pulsetest.New(t)
	err := bus.Subscribe("praise", pulse.On(func(context.Context, badgeAwarded) error { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Pause(t.Context(), "praise", "holidays"); err != nil {
		t.Fatal(err)
	}
	emit(t, bus, badgeAwarded{Student: "ada", Badge: "first"})
	got := failure(t, 0, func(t testing.TB) { pulsetest.Drain(t, bus) })
	if !strings.Contains(got, "is paused (holidays)") {
		t.Errorf("failed with %q", got)
	}
}

func TestNewIsClosedWithItsTest(t *testing.T) {
	var bus *pulse.Bus
	t.Run("of a test that ended", func(t *testing.T) { bus = pulsetest.New(t) })
	if _, err := bus.Emit(t.Context(), quizSubmitted{"q1"}); !errors.Is(err, pulse.ErrClosed) {
		t.Errorf("emit after the test: %v, want ErrClosed", err)
	}
}

func TestRecorder(t *testing.T) {
	var rec pulsetest.Recorder
	actor := uuid.New()
	ctx := pulse.WithActor(t.Context(), actor)
	id, err := rec.Emit(ctx, badgeAwarded{Student: "ada", Badge: "first"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rec.EmitAll(ctx, []pulse.Event{quizSubmitted{"q1"}, quizSubmitted{"q2"}}); err != nil {
		t.Fatal(err)
	}
	events := rec.Events()
	if len(events) != 3 || events[0] != (badgeAwarded{Student: "ada", Badge: "first"}) || events[2] != (quizSubmitted{"q2"}) {
		t.Errorf("recorded %v", events)
	}
	envs, err := rec.Envelopes()
	if err != nil || len(envs) != 3 || envs[0].ID != id || envs[0].Actor != actor || envs[0].Key != "ada" {
		t.Errorf("envelopes %+v, %v", envs, err)
	}
}

func TestRecorderThatNothingWasGiven(t *testing.T) {
	var rec pulsetest.Recorder
	envs, err := rec.Envelopes()
	if len(rec.Events()) != 0 || len(envs) != 0 || err != nil {
		t.Errorf("events %v, envelopes %v, %v", rec.Events(), envs, err)
	}
}

func TestRecorderFailsOnDemand(t *testing.T) {
	full := errors.New("the disk is full")
	rec := pulsetest.Recorder{Err: full}
	if _, err := rec.Emit(t.Context(), quizSubmitted{"q1"}); !errors.Is(err, full) {
		t.Errorf("emit: %v, want %v", err, full)
	}
	if ids, err := rec.EmitAll(t.Context(), []pulse.Event{quizSubmitted{"q1"}, quizSubmitted{"q2"}}); len(ids) != 2 || !errors.Is(err, full) {
		t.Errorf("emit all: %v, %v", ids, err)
	}
	rec.Err = nil
	emit(t, &rec, quizSubmitted{"q3"})
	if got := rec.Events(); len(got) != 1 || got[0] != (quizSubmitted{"q3"}) {
		t.Errorf("recorded %v", got)
	}
}

// Code that does not know whether its event was stored emits it again with the id it got: so a bus has it, and so the Recorder.
func TestRecorderThatFailsGivesIDs(t *testing.T) {
	rec := pulsetest.Recorder{Err: pulse.ErrUnknown}
	id, err := rec.Emit(t.Context(), quizSubmitted{"q1"})
	if !errors.Is(err, pulse.ErrUnknown) || id == uuid.Nil {
		t.Fatalf("emit: id %s, %v, want an id and ErrUnknown", id, err)
	}
	given := uuid.New()
	if got, err := rec.Emit(t.Context(), quizSubmitted{"q2"}, pulse.ID(given)); got != given || !errors.Is(err, pulse.ErrUnknown) {
		t.Errorf("emit with an id: %s, %v, want %s and ErrUnknown", got, err, given)
	}
	rec.Err = nil
	if again, err := rec.Emit(t.Context(), quizSubmitted{"q1"}, pulse.ID(id)); again != id || err != nil {
		t.Errorf("emit again: %s, %v, want %s", again, err, id)
	}
	if envs, err := rec.Envelopes(); err != nil || len(envs) != 1 || envs[0].ID != id {
		t.Errorf("envelopes %+v, %v, want what was emitted again", envs, err)
	}
}

func TestRecorderRefusesWhatABusRefuses(t *testing.T) {
	var rec pulsetest.Recorder
	_, err := rec.Emit(t.Context(), pulse.Raw{Name: "Not A Name", Data: []byte(`{}`)})
	if !errors.Is(err, pulse.ErrInvalid) {
		t.Errorf("a wrong name: %v, want ErrInvalid", err)
	}
	_, err = rec.Emit(t.Context(), quizSubmitted{"\xff"})
	if !errors.Is(err, pulse.ErrSerialization) {
		t.Errorf("invalid UTF-8: %v, want ErrSerialization", err)
	}
	if got := rec.Events(); len(got) != 0 {
		t.Errorf("recorded %v", got)
	}
}
