package demo

import (
	"context"
	"errors"
	"hash/fnv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// The subscriptions of the small platform.
const (
	mailer    = "mailer"
	search    = "search"
	notifier  = "notifier"
	analytics = "analytics"
	tutor     = "tutor"
)

// effects are the stand-ins for what a platform does outside: they do nothing but say so and sometimes fail.
type effects struct {
	bus  *pulse.Bus
	view *view

	handled map[string]*atomic.Int64 // by subscription; the map does not change
	retries atomic.Int64             // attempts that failed and will be repeated
	dead    atomic.Int64
	emitted atomic.Int64 // by the tutor, beside what the platform emits
}

func newEffects(bus *pulse.Bus, v *view) *effects {
	e := &effects{bus: bus, view: v, handled: map[string]*atomic.Int64{}}
	for _, name := range []string{mailer, search, notifier, analytics, tutor} {
		e.handled[name] = &atomic.Int64{}
	}
	return e
}

// Mail that fails is tried this often in all.
const mailAttempts = 3

// subscribe registers four side effects, of which the mailer has troubles, and the tutor, who is part of the platform. from says where
// they read: nothing, for the log, or the option of a broker.
func (e *effects) subscribe(from []pulse.SubscribeOption) error {
	mail := e.mail
	quick := pulse.Retry(pulse.RetryPolicy{Attempts: mailAttempts, First: 400 * time.Millisecond, Max: 2 * time.Second})
	subscribe := func(name string, opts ...pulse.SubscribeOption) error {
		return e.bus.Subscribe(name, append(opts, from...)...)
	}
	return errors.Join(
		subscribe(mailer, quick, pulse.OnDelivery("student.*", mail), pulse.OnDelivery(courseCompleted, mail), pulse.OnDelivery(badgeAwarded, mail)),
		subscribe(search, pulse.OnDelivery(courseOpened, e.does(search, "indexed")), pulse.OnDelivery("*.published", e.does(search, "indexed"))),
		subscribe(notifier, pulse.OnDelivery("*.published", e.does(notifier, "told the course")), pulse.OnDelivery(badgeAwarded, e.does(notifier, "told friends"))),
		subscribe(analytics, pulse.OnBatch(">", 100, e.count)),
		subscribe(tutor, pulse.Ordered(), pulse.OnTx(e.mark), pulse.OnTx(e.graduate)),
	)
}

// does is a side effect that always works.
func (e *effects) does(subscription, what string) pulse.Handler {
	return func(_ context.Context, d *pulse.Delivery) error {
		e.done(subscription, d, what)
		return nil
	}
}

func (e *effects) done(subscription string, d *pulse.Delivery, what string) {
	e.handled[subscription].Add(1)
	e.view.handled(subscription, d, what)
}

// mail is a side effect with a mail server that is busy now and then, and people whose mailbox is gone. When and who that is follows from
// the event's id and from its key, the student, so that trying again helps in the first case and not in the second.
func (e *effects) mail(_ context.Context, d *pulse.Delivery) error {
	const goneOneIn, busyOneIn = 50, 12
	who := fnv.New32a()
	who.Write([]byte(d.Key))
	when := int(d.ID[15])<<8 | int(d.ID[14])
	var err error
	switch {
	case who.Sum32()%goneOneIn == 11:
		err = errors.New("550 no such mailbox")
	case when%busyOneIn == 5 && d.Attempt == 1:
		err = errors.New("451 server busy, try again later")
	default:
		e.done(mailer, d, "sent mail")
		return nil
	}
	if d.Attempt >= mailAttempts {
		e.dead.Add(1)
		e.view.dead(mailer, d, err)
	} else {
		e.retries.Add(1)
		e.view.retry(mailer, d, err)
	}
	return err
}

// count takes many events at once.
func (e *effects) count(_ context.Context, ds []pulse.Delivery) error {
	e.handled[analytics].Add(int64(len(ds)))
	e.view.batch(analytics, ds)
	return nil
}

// passed is the score from which on a final quiz completes a course.
const passed = 50

// mark lets a quiz lead to more. What it emits with ctx is in the same transaction as the note that the quiz was handled: there is one
// badge, however often the process dies. It also carries on the correlation and names its cause.
func (e *effects) mark(ctx context.Context, _ pulse.Tx, q QuizSubmitted) error {
	e.handled[tutor].Add(1)
	if q.Score == nil {
		return nil
	}
	if *q.Score == 100 {
		if err := e.emit(ctx, BadgeAwarded{Student: q.Student, Course: q.Course, Badge: "perfect score"}, q.Student); err != nil {
			return err
		}
	}
	if q.Quiz == finalQuiz && *q.Score >= passed {
		return e.emit(ctx, CourseCompleted{Student: q.Student, Course: q.Course}, q.Student)
	}
	return nil
}

func (e *effects) graduate(ctx context.Context, _ pulse.Tx, c CourseCompleted) error {
	e.handled[tutor].Add(1)
	return e.emit(ctx, BadgeAwarded{Student: c.Student, Course: c.Course, Badge: "graduate"}, c.Student)
}

func (e *effects) emit(ctx context.Context, ev pulse.Event, by uuid.UUID) error {
	if _, err := e.bus.Emit(ctx, ev, pulse.By(by)); err != nil {
		return err
	}
	e.emitted.Add(1)
	e.view.emitted(ev)
	return nil
}
