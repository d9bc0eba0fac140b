package demo

import (
	"fmt"
	"io"
	"sync"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// view shows what happens, a line each. Its methods may be called concurrently.
type view struct {
	colour bool

	mu  sync.Mutex
	out io.Writer
}

// Colours of a terminal, as SGR parameters.
const (
	cyan   = "36"
	blue   = "34"
	green  = "32"
	yellow = "33"
	red    = "31"
	faint  = "2"
)

func (v *view) emitted(ev pulse.Event) {
	v.line(cyan, "→", "emitted", ev.EventName(), describe(ev))
}

func (v *view) published(env *pulse.Envelope) {
	v.line(blue, "⇢", "published", env.Name, "the broker has it")
}

func (v *view) handled(subscription string, d *pulse.Delivery, what string) {
	if d.Attempt > 1 {
		what = fmt.Sprintf("%s, at attempt %d", what, d.Attempt)
	}
	v.line(green, "✓", subscription, d.Name, what)
}

func (v *view) batch(subscription string, ds []pulse.Delivery) {
	if len(ds) == 1 {
		v.line(green, "✓", subscription, ds[0].Name, "counted")
		return
	}
	v.line(green, "✓", subscription, fmt.Sprintf("%d events", len(ds)), "counted")
}

func (v *view) retry(subscription string, d *pulse.Delivery, err error) {
	v.line(yellow, "↻", subscription, d.Name, fmt.Sprintf("attempt %d failed: %v; will try again", d.Attempt, err))
}

func (v *view) dead(subscription string, d *pulse.Delivery, err error) {
	v.line(red, "✗", subscription, d.Name, fmt.Sprintf("attempt %d failed: %v; gave up: a dead letter", d.Attempt, err))
}

// line writes one line. An error of the terminal ends nothing: the events matter, not the picture of them.
func (v *view) line(colour, sign, who, event, detail string) {
	text := fmt.Sprintf("%s %-10s %-18s %s", sign, who, event, detail)
	if v.colour {
		text = fmt.Sprintf("\x1b[%sm%s %-10s\x1b[0m %-18s \x1b[%sm%s\x1b[0m", colour, sign, who, event, faint, detail)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	fmt.Fprintln(v.out, text)
}

// describe says in a few words what an event is about.
func describe(ev pulse.Event) string {
	switch e := ev.(type) {
	case CourseOpened:
		return e.Title
	case LessonPublished:
		return e.Title
	case QuizPublished:
		return e.Title
	case StudentEnrolled:
		return fmt.Sprintf("student %s, course %s", short(e.Student), e.Course)
	case StudentWithdrawn:
		return fmt.Sprintf("student %s, course %s", short(e.Student), e.Course)
	case QuizSubmitted:
		return fmt.Sprintf("student %s, %s of course %s: %d %%", short(e.Student), e.Quiz, e.Course, *e.Score)
	case CourseCompleted:
		return fmt.Sprintf("student %s, course %s", short(e.Student), e.Course)
	case BadgeAwarded:
		return fmt.Sprintf("student %s: %s", short(e.Student), e.Badge)
	}
	return ""
}

func short(id uuid.UUID) string { return id.String()[:8] }
