package demo

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// platform decides what people do next on the small learning platform. It is used by one goroutine.
type platform struct {
	random   *rand.Rand
	courses  []*liveCourse
	students []*liveStudent
	opened   int // courses so far
	requests int // for correlations
	run      string
}

type liveCourse struct {
	name, title string
	teacher     uuid.UUID
	lessons     int
	quizzes     int
}

type liveStudent struct {
	id      uuid.UUID
	courses []*attendance
}

// attendance is a student in a course.
type attendance struct {
	course  *liveCourse
	student *liveStudent
	taken   int // quizzes
}

// action is what somebody did: an event, by whom, in which request.
type action struct {
	event       pulse.Event
	actor       uuid.UUID
	correlation string
}

// The shape of a course: after its last quiz, the final, it is completed or not.
const (
	lessonsInCourse = 8
	quizzesInCourse = 3
	finalQuiz       = "final"
)

// The school stays small, however long it is played: the oldest course and the oldest student leave for new ones, without a word.
const (
	mostCourses  = 6
	mostStudents = 300
)

// newPlatform returns an empty platform. run tells its courses and requests from those of other runs in the same log.
func newPlatform(seed uint64, run string) *platform {
	return &platform{random: rand.New(rand.NewPCG(seed, 0)), run: run}
}

// next is the next thing that happens.
func (p *platform) next() action {
	p.requests++
	a := p.act()
	a.correlation = fmt.Sprintf("web-%s-%d", p.run, p.requests)
	return a
}

// act lets teachers publish as long as there is little to learn, then mostly students learn.
func (p *platform) act() action {
	n := p.random.IntN(100)
	switch {
	case len(p.courses) == 0, n < 2:
		return p.open()
	case n < 20 || len(p.students) == 0 && n < 50:
		if a, ok := p.publish(); ok {
			return a
		}
	case n < 24:
		if a, ok := p.withdraw(); ok {
			return a
		}
	case n < 75:
		if a, ok := p.submit(); ok {
			return a
		}
	}
	return p.enroll()
}

// titles are the courses that teachers think of.
func titles() []string {
	return []string{"Fractions", "Ancient Rome", "Photosynthesis", "Spoken Spanish", "Music Theory", "Volcanoes", "Probability", "Haiku"}
}

func (p *platform) open() action {
	c := &liveCourse{title: titles()[p.opened%len(titles())], teacher: p.newID()}
	p.opened++
	c.name = fmt.Sprintf("%s-%d", p.run, p.opened)
	p.courses = newest(append(p.courses, c), mostCourses)
	return action{event: CourseOpened{Course: c.name, Title: c.title}, actor: c.teacher}
}

// publish adds a lesson or a quiz to a course that is not complete yet.
func (p *platform) publish() (action, bool) {
	open := slices.DeleteFunc(slices.Clone(p.courses), func(c *liveCourse) bool {
		return c.lessons == lessonsInCourse && c.quizzes == quizzesInCourse
	})
	if len(open) == 0 {
		return action{}, false
	}
	c := pick(p.random, open)
	if c.quizzes < quizzesInCourse && c.lessons >= 2*(c.quizzes+1) || c.lessons == lessonsInCourse {
		c.quizzes++
		quiz := quizName(c.quizzes)
		return action{event: QuizPublished{Course: c.name, Quiz: quiz, Title: c.title + ": " + quiz}, actor: c.teacher}, true
	}
	c.lessons++
	lesson := fmt.Sprintf("lesson-%d", c.lessons)
	return action{event: LessonPublished{Course: c.name, Lesson: lesson, Title: fmt.Sprintf("%s, part %d", c.title, c.lessons)}, actor: c.teacher}, true
}

func quizName(n int) string {
	if n == quizzesInCourse {
		return finalQuiz
	}
	return fmt.Sprintf("quiz-%d", n)
}

// enroll lets a new student, or one who wants more, join a course.
func (p *platform) enroll() action {
	c := pick(p.random, p.courses)
	if p.random.IntN(3) == 0 {
		for _, s := range p.students {
			if !slices.ContainsFunc(s.courses, func(a *attendance) bool { return a.course == c }) {
				return s.join(c)
			}
		}
	}
	s := &liveStudent{id: p.newID()}
	p.students = newest(append(p.students, s), mostStudents)
	return s.join(c)
}

func (s *liveStudent) join(c *liveCourse) action {
	s.courses = append(s.courses, &attendance{course: c, student: s})
	return action{event: StudentEnrolled{Student: s.id, Course: c.name}, actor: s.id}
}

// attending are those who still have something to do in a course.
func (p *platform) attending(can func(a *attendance) bool) []*attendance {
	var all []*attendance
	for _, s := range p.students {
		for _, a := range s.courses {
			if can(a) {
				all = append(all, a)
			}
		}
	}
	return all
}

// submit lets a student take the next quiz of a course.
func (p *platform) submit() (action, bool) {
	able := p.attending(func(a *attendance) bool { return a.taken < a.course.quizzes })
	if len(able) == 0 {
		return action{}, false
	}
	a := pick(p.random, able)
	a.taken++
	score := min(100, 35+p.random.IntN(80))
	return action{
		event: QuizSubmitted{Student: a.student.id, Course: a.course.name, Quiz: quizName(a.taken), Score: &score},
		actor: a.student.id,
	}, true
}

// withdraw lets a student leave a course.
func (p *platform) withdraw() (action, bool) {
	able := p.attending(func(a *attendance) bool { return a.taken < quizzesInCourse })
	if len(able) < 5 {
		return action{}, false
	}
	a := pick(p.random, able)
	a.student.courses = slices.DeleteFunc(a.student.courses, func(other *attendance) bool { return other == a })
	return action{event: StudentWithdrawn{Student: a.student.id, Course: a.course.name}, actor: a.student.id}, true
}

// newID makes an id out of the platform's own randomness, so that a seed repeats everything.
func (p *platform) newID() uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(p.random.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// newest keeps at most n of list.
func newest[T any](list []T, n int) []T {
	return slices.Delete(list, 0, max(0, len(list)-n))
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }
