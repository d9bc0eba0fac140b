package demo

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// screen is a View that can be looked at while it is written to.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
	on  func(line string) // called for each line, if not nil
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on != nil {
		s.on(string(p))
	}
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func TestLiveShowsEverythingThatSubscriptionsCanDo(t *testing.T) {
	for name, broker := range map[string]bool{"from the log": false, "from the broker": true} {
		t.Run(name, func(t *testing.T) { showsEverything(t, broker) })
	}
}

func showsEverything(t *testing.T, broker bool) {
	data, shown, logs := filepath.Join(t.TempDir(), "data"), &screen{}, &screen{}
	logger := slog.New(slog.NewTextHandler(logs, nil))
	s, err := Live(t.Context(), LiveOptions{
		Data: data, Open: openSQLite, Broker: brokerOf(broker), Events: 300, Seed: 7, View: shown, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	log := logged(t, data)
	if want := wantPublished(broker, len(log)); s.Published != want || strings.Count(shown.String(), "⇢ published") != want {
		t.Errorf("%d published, %d shown, want %d", s.Published, strings.Count(shown.String(), "⇢ published"), want)
	}
	for name, state := range statesIn(t, data) {
		if relay := pulse.RelayName("nats"); name != relay && (state.Source == "nats") != broker {
			t.Errorf("%s reads from %q", name, state.Source)
		}
		if state.Lag() != 0 || state.Retries+state.Waiting != 0 {
			t.Errorf("the demo ended with %d events and %d retries to do for %s", state.Lag(), state.Retries, name)
		}
	}
	if s.Emitted != len(log) || len(log) <= 300 {
		t.Errorf("%d emitted by the summary, %d in the log, of which 300 by people", s.Emitted, len(log))
	}
	want := expectedOf(log)
	for name, n := range want {
		if s.Handled[name] != n {
			t.Errorf("%s handled %d, the log has %d for it", name, s.Handled[name], n)
		}
	}
	if s.Handled[mailer]+s.Dead != wantedMail(log) || s.Dead == 0 || s.Retries <= s.Dead {
		t.Errorf("%d mails sent, %d dead, %d retries; the log has %d for it", s.Handled[mailer], s.Dead, s.Retries, wantedMail(log))
	}
	text := shown.String()
	for _, part := range []string{
		"→ emitted    course.opened", "→ emitted    badge.awarded", "✓ mailer", "✓ search", "✓ notifier", "✓ analytics",
		"↻ mailer", "✗ mailer", "at attempt 2",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not shown", part)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("colours are shown without being asked for")
	}
	if logs.String() != "" {
		t.Errorf("what the demo does on purpose is logged as an error:\n%s", logs)
	}
	checkTree(t, log, s.Trace)
}

// expectedOf counts the events of the log for those subscriptions that never fail.
func expectedOf(log []pulse.Envelope) map[string]int {
	want := map[string]int{analytics: len(log)}
	for _, env := range log {
		published := strings.HasSuffix(env.Name, ".published")
		if published || env.Name == courseOpened {
			want[search]++
		}
		if published || env.Name == badgeAwarded {
			want[notifier]++
		}
		if env.Name == quizSubmitted || env.Name == courseCompleted {
			want[tutor]++
		}
	}
	return want
}

func wantedMail(log []pulse.Envelope) (n int) {
	for _, env := range log {
		if strings.HasPrefix(env.Name, "student.") || env.Name == courseCompleted || env.Name == badgeAwarded {
			n++
		}
	}
	return n
}

// checkTree finds quiz.submitted → course.completed → badge.awarded in a correlation.
func checkTree(t *testing.T, log []pulse.Envelope, correlation string) {
	t.Helper()
	byName := map[string]pulse.Envelope{}
	for _, env := range log {
		if env.Correlation == correlation && (env.Name != badgeAwarded || strings.Contains(string(env.Data), "graduate")) {
			byName[env.Name] = env
		}
	}
	quiz, completed, badge := byName[quizSubmitted], byName[courseCompleted], byName[badgeAwarded]
	if quiz.Position == 0 || completed.Causation != quiz.ID || badge.Causation != completed.ID {
		t.Errorf("correlation %q is no tree of a quiz, a completed course and a badge: %v", correlation, byName)
	}
	if badge.Actor != quiz.Actor || badge.Key != quiz.Key {
		t.Errorf("the badge goes to %s, the quiz was submitted by %s", badge.Key, quiz.Key)
	}
}

func TestLiveStopsWellAndGoesOnLater(t *testing.T) {
	for name, broker := range map[string][2]bool{
		"from the log": {false, false}, "from the broker": {true, true}, "from the broker, then from the log": {true, false}, "from the log, then from the broker": {false, true},
	} {
		t.Run(name, func(t *testing.T) { stopsWellAndGoesOnLater(t, brokerOf(broker[0]), brokerOf(broker[1])) })
	}
}

func stopsWellAndGoesOnLater(t *testing.T, first, second BrokerOpener) {
	data := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	lines := 0
	s, err := Live(ctx, LiveOptions{Data: data, Open: openSQLite, Broker: first, Rate: 500, View: &screen{on: func(string) {
		if lines++; lines == 50 {
			cancel()
		}
	}}})
	if err != nil {
		t.Fatalf("stopping it is an error: %v", err)
	}
	if s.Emitted == 0 || s.Emitted != len(logged(t, data)) {
		t.Errorf("%d emitted by the summary, %d in the log", s.Emitted, len(logged(t, data)))
	}
	again, err := Live(t.Context(), LiveOptions{Data: data, Open: openSQLite, Broker: second, Duration: 100 * time.Millisecond, Rate: 100})
	if err != nil {
		t.Fatal(err)
	}
	all := len(logged(t, data))
	if again.Emitted == 0 || all != s.Emitted+again.Emitted {
		t.Errorf("%d and %d emitted, %d in the log", s.Emitted, again.Emitted, all)
	}
	if counted := s.Handled[analytics] + again.Handled[analytics]; counted < all {
		t.Errorf("analytics counted %d events of %d: some were lost between the runs", counted, all)
	}
	if want := all; second != nil && s.Published+again.Published < want {
		t.Errorf("%d and %d published of %d", s.Published, again.Published, want)
	}
}

func TestLiveRate(t *testing.T) {
	start := time.Now()
	s, err := Live(t.Context(), LiveOptions{Data: t.TempDir(), Open: openSQLite, Rate: 50, Events: 26, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 500*time.Millisecond {
		t.Errorf("26 events at 50 a second took %s", took)
	}
	if s.Emitted < 26 {
		t.Errorf("%d events emitted", s.Emitted)
	}
}

func TestPlatformIsASchool(t *testing.T) {
	p, again := newPlatform(3, "x"), newPlatform(3, "x")
	names := map[string]int{}
	enrolled, taken := map[string]bool{}, map[string]bool{}
	for range 5000 {
		a := p.next()
		if b := again.next(); b.actor != a.actor || b.correlation != a.correlation || b.event.EventName() != a.event.EventName() {
			t.Fatalf("the same seed does something else: %+v, %+v", a, b)
		}
		names[a.event.EventName()]++
		switch e := a.event.(type) {
		case StudentEnrolled:
			enrolled[e.Student.String()+e.Course] = true
		case StudentWithdrawn:
			id := e.Student.String() + e.Course
			for _, quiz := range []string{quizName(1), quizName(2), quizName(3)} {
				delete(taken, id+quiz) // who comes back begins anew
			}
			delete(enrolled, id)
		case QuizSubmitted:
			id := e.Student.String() + e.Course
			if !enrolled[id] {
				t.Fatalf("%+v by somebody who is not in the course", e)
			}
			if taken[id+e.Quiz] {
				t.Fatalf("%+v is submitted twice", e)
			}
			taken[id+e.Quiz] = true
			if *e.Score < 0 || *e.Score > 100 {
				t.Fatalf("score %d", *e.Score)
			}
		}
	}
	if len(p.courses) != mostCourses || len(p.students) != mostStudents {
		t.Errorf("after a long time there are %d courses and %d students", len(p.courses), len(p.students))
	}
	for _, name := range []string{courseOpened, lessonPublished, quizPublished, studentEnrolled, studentWithdrawn, quizSubmitted} {
		if names[name] == 0 {
			t.Errorf("nobody ever does %s: %v", name, names)
		}
	}
}

func TestViewWithColours(t *testing.T) {
	out := &screen{}
	v := &view{out: out, colour: true}
	v.emitted(CourseOpened{Course: "c", Title: "Volcanoes"})
	want := "\x1b[36m→ emitted   \x1b[0m course.opened      \x1b[2mVolcanoes\x1b[0m\n"
	if got := out.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
