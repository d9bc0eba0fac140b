package demo

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/edupulse-live/pulse"
)

// kind is what a planned event is, in the order in which kinds are read.
type kind uint8

const (
	kindCourse kind = iota
	kindLesson
	kindQuiz
	kindEnrolled
	kindWithdrawn
	kindSubmitted
	kindCompleted
	kindBadge
)

// planned is one event of the year, small because there are a quarter of a million of them.
type planned struct {
	day    int32 // since 1970, or undated
	line   int32 // in its file: with the kind, what identifies it
	who    int32 // index of the student; -1 when it is no student's
	what   int32 // index of the lesson or quiz
	course uint16
	score  int16 // -1 when there is none
	kind   kind
	banked bool
}

// plan is the year as it will be played: its events in order, and what they refer to.
type plan struct {
	events   []planned
	students []int32 // their numbers in the dataset, which never leave this struct
	courses  []course
	lessons  []lesson
	quizzes  []quiz
	kinds    []string // of lessons
	first    int32    // the first day; when undated events are said to have happened
}

type course struct {
	name  string
	start int32 // day
	days  int32
}

type lesson struct {
	id   int32
	kind uint8
}

type quiz struct {
	id     int32
	course uint16
	due    int32 // day, or undated
	kind   string
	weight string
}

// keys is the number of ordering keys: one for each student and each course.
func (p *plan) keys() int { return len(p.students) + len(p.courses) }

// key numbers the ordering key of e.
func (p *plan) key(e *planned) int {
	if e.who >= 0 {
		return int(e.who)
	}
	return len(p.students) + int(e.course)
}

// readPlan reads the dataset in dir. Courses, lessons and quizzes have no date of publication (a quiz's date is when it is due) and so
// come first; then everything in order of its date, and of one date in the order of the files.
func readPlan(dir string) (*plan, error) {
	r := planReader{plan: &plan{}, courses: map[[2]string]uint16{}, students: map[int32]int32{}, quizzes: map[int32]int32{}, kinds: map[string]uint8{}}
	steps := []struct {
		table   string
		columns []string
		each    func(*row)
	}{
		{"courses.csv.gz", []string{"code_module", "code_presentation", "module_presentation_length"}, r.course},
		{"vle.csv.gz", []string{"code_module", "code_presentation", "id_site", "activity_type"}, r.lesson},
		{"assessments.csv.gz", []string{"code_module", "code_presentation", "id_assessment", "assessment_type", "date", "weight"}, r.quiz},
		{"studentRegistration.csv.gz", []string{"code_module", "code_presentation", "id_student", "date_registration", "date_unregistration"}, r.registration},
		{"studentAssessment.csv.gz", []string{"id_assessment", "id_student", "date_submitted", "is_banked", "score"}, r.submission},
		{"studentInfo.csv.gz", []string{"code_module", "code_presentation", "id_student", "final_result"}, r.result},
	}
	for _, s := range steps {
		if err := readTable(dir, s.table, s.columns, s.each); err != nil {
			return nil, fmt.Errorf("dataset: %w", err)
		}
	}
	p := r.plan
	slices.SortStableFunc(p.events, func(a, b planned) int { return cmp.Compare(a.day, b.day) })
	if i := slices.IndexFunc(p.events, func(e planned) bool { return e.day != undated }); i >= 0 {
		p.first = p.events[i].day
	}
	return p, nil
}

// planReader fills a plan.
type planReader struct {
	*plan
	courses  map[[2]string]uint16 // module and presentation -> index
	students map[int32]int32      // number -> index
	quizzes  map[int32]int32      // number -> index
	kinds    map[string]uint8     // of lessons -> index
}

func (p *planReader) add(r *row, e planned) {
	e.line = int32(r.line)
	p.events = append(p.events, e)
}

func (p *planReader) course(r *row) {
	module, presentation := r.text(0), r.text(1)
	start, err := presentationStart(presentation)
	if err != nil {
		r.fail("%v", err)
		return
	}
	i := uint16(len(p.plan.courses))
	p.courses[[2]string{module, presentation}] = i
	p.plan.courses = append(p.plan.courses, course{name: module + "-" + presentation, start: start, days: r.required(2)})
	p.add(r, planned{kind: kindCourse, day: undated, who: -1, course: i})
}

// presentationStart returns the day a presentation such as 2013B begins: B on 1 February, J on 1 October.
func presentationStart(presentation string) (int32, error) {
	if len(presentation) == 5 {
		month, known := map[byte]time.Month{'B': time.February, 'J': time.October}[presentation[4]]
		if year, err := strconv.Atoi(presentation[:4]); err == nil && known {
			return dayOf(time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)), nil
		}
	}
	return 0, fmt.Errorf("presentation %q is not a year and B or J", presentation)
}

func dayOf(t time.Time) int32        { return int32(t.Unix() / 86400) }
func timeOf(day int32) time.Time     { return time.Unix(int64(day)*86400, 0).UTC() }
func (p *plan) at(d int32) time.Time { return timeOf(max(d, p.first)) }

// courseOf finds the course that the first two columns name.
func (p *planReader) courseOf(r *row) uint16 {
	i, ok := p.courses[[2]string{r.text(0), r.text(1)}]
	if !ok {
		r.fail("course %s %s is not in courses.csv.gz", r.text(0), r.text(1))
	}
	return i
}

func (p *planReader) lesson(r *row) {
	k, known := p.kinds[r.text(3)]
	if !known {
		k = uint8(len(p.kinds))
		p.kinds[r.text(3)] = k
		p.plan.kinds = append(p.plan.kinds, r.text(3))
	}
	p.add(r, planned{kind: kindLesson, day: undated, who: -1, course: p.courseOf(r), what: int32(len(p.lessons))})
	p.lessons = append(p.lessons, lesson{id: r.required(2), kind: k})
}

func (p *planReader) quiz(r *row) {
	q := quiz{id: r.required(2), course: p.courseOf(r), due: undated, kind: r.text(3), weight: r.text(5)}
	if days, ok := r.number(4); ok && r.err == nil {
		q.due = p.plan.courses[q.course].start + days
	}
	i := int32(len(p.plan.quizzes))
	p.quizzes[q.id] = i
	p.plan.quizzes = append(p.plan.quizzes, q)
	p.add(r, planned{kind: kindQuiz, day: undated, who: -1, course: q.course, what: i})
}

// student finds or enters a student by number.
func (p *planReader) student(number int32) int32 {
	i, known := p.students[number]
	if !known {
		i = int32(len(p.plan.students))
		p.students[number] = i
		p.plan.students = append(p.plan.students, number)
	}
	return i
}

// day is a date column: days after the start of the course.
func (p *planReader) day(r *row, column int, course uint16) int32 {
	days, ok := r.number(column)
	if !ok || r.err != nil {
		return undated
	}
	return p.plan.courses[course].start + days
}

func (p *planReader) registration(r *row) {
	c, who := p.courseOf(r), p.student(r.required(2))
	if r.err != nil {
		return
	}
	p.add(r, planned{kind: kindEnrolled, day: p.day(r, 3, c), who: who, course: c})
	if left := p.day(r, 4, c); left != undated {
		p.add(r, planned{kind: kindWithdrawn, day: left, who: who, course: c})
	}
}

func (p *planReader) submission(r *row) {
	number, who := r.required(0), p.student(r.required(1))
	i, ok := p.quizzes[number]
	if !ok {
		r.fail("assessment %d is not in assessments.csv.gz", number)
		return
	}
	c := p.plan.quizzes[i].course
	e := planned{kind: kindSubmitted, day: p.day(r, 2, c), who: who, course: c, what: i, score: -1, banked: r.text(3) == "1"}
	if score, ok := r.number(4); ok {
		e.score = int16(score)
	}
	p.add(r, e)
}

// result is how a student left a course. Who passed has completed it on its last day.
func (p *planReader) result(r *row) {
	c, who, result := p.courseOf(r), p.student(r.required(2)), r.text(3)
	if r.err != nil || result != "Pass" && result != "Distinction" {
		return
	}
	end := p.plan.courses[c].start + p.plan.courses[c].days
	p.add(r, planned{kind: kindCompleted, day: end, who: who, course: c})
	if result == "Distinction" {
		p.add(r, planned{kind: kindBadge, day: end, who: who, course: c})
	}
}

// event makes the event that e stands for, with the pseudonyms of names.
func (p *plan) event(e *planned, names *pseudonyms) pulse.Event {
	course := p.courses[e.course].name
	switch e.kind {
	case kindCourse:
		return CourseOpened{Course: course, Days: int(p.courses[e.course].days)}
	case kindLesson:
		l := p.lessons[e.what]
		return LessonPublished{Course: course, Lesson: strconv.Itoa(int(l.id)), Kind: p.kinds[l.kind]}
	case kindQuiz:
		q := p.quizzes[e.what]
		ev := QuizPublished{Course: course, Quiz: strconv.Itoa(int(q.id)), Kind: q.kind, Weight: q.weight}
		if q.due != undated {
			ev.Due = timeOf(q.due).Format(time.DateOnly)
		}
		return ev
	}
	student := names.students[e.who]
	switch e.kind {
	case kindEnrolled:
		return StudentEnrolled{student, course}
	case kindWithdrawn:
		return StudentWithdrawn{student, course}
	case kindCompleted:
		return CourseCompleted{student, course}
	case kindBadge:
		return BadgeAwarded{student, course, "distinction"}
	}
	ev := QuizSubmitted{Student: student, Course: course, Quiz: strconv.Itoa(int(p.quizzes[e.what].id)), Banked: e.banked}
	if e.score >= 0 {
		score := int(e.score)
		ev.Score = &score
	}
	return ev
}
