package demo

import "github.com/google/uuid"

// What happens on the platform. What belongs to a course is in the course's order, what a student does in the student's.
type (
	// CourseOpened begins a course.
	CourseOpened struct {
		Course string `json:"course" pulse:"key"`
		Title  string `json:"title,omitempty"`
		Days   int    `json:"days,omitempty"` // how long it takes
	}

	// LessonPublished makes learning material available.
	LessonPublished struct {
		Course string `json:"course" pulse:"key"`
		Lesson string `json:"lesson"`
		Title  string `json:"title,omitempty"`
		Kind   string `json:"kind,omitempty"`
	}

	// QuizPublished announces a quiz and when it is due.
	QuizPublished struct {
		Course string `json:"course" pulse:"key"`
		Quiz   string `json:"quiz"`
		Title  string `json:"title,omitempty"`
		Kind   string `json:"kind,omitempty"`
		Due    string `json:"due,omitempty"` // date, when there is one
		Weight string `json:"weight,omitempty"`
	}

	// StudentEnrolled says that a student joined a course. Who the student is (gender, region, education, age, disability) is left out
	// on purpose: an event stays in the log for ever, so personal data enters it only once it can be sealed and erased.
	StudentEnrolled struct {
		Student uuid.UUID `json:"student" pulse:"key"`
		Course  string    `json:"course"`
	}

	// StudentWithdrawn says that a student left a course before its end.
	StudentWithdrawn struct {
		Student uuid.UUID `json:"student" pulse:"key"`
		Course  string    `json:"course"`
	}

	// QuizSubmitted is a student's answer to a quiz.
	QuizSubmitted struct {
		Student uuid.UUID `json:"student" pulse:"key"`
		Course  string    `json:"course"`
		Quiz    string    `json:"quiz"`
		Score   *int      `json:"score,omitempty"`  // percent; nil when it was not marked
		Banked  bool      `json:"banked,omitempty"` // taken over from an earlier year
	}

	// CourseCompleted says that a student passed a course.
	CourseCompleted struct {
		Student uuid.UUID `json:"student" pulse:"key"`
		Course  string    `json:"course"`
	}

	// BadgeAwarded is what a student may be proud of.
	BadgeAwarded struct {
		Student uuid.UUID `json:"student" pulse:"key"`
		Course  string    `json:"course"`
		Badge   string    `json:"badge"`
	}
)

// The names of the events, by which they are routed.
const (
	courseOpened     = "course.opened"
	lessonPublished  = "lesson.published"
	quizPublished    = "quiz.published"
	studentEnrolled  = "student.enrolled"
	studentWithdrawn = "student.withdrawn"
	quizSubmitted    = "quiz.submitted"
	courseCompleted  = "course.completed"
	badgeAwarded     = "badge.awarded"
)

// EventName returns "course.opened".
func (CourseOpened) EventName() string { return courseOpened }

// EventName returns "lesson.published".
func (LessonPublished) EventName() string { return lessonPublished }

// EventName returns "quiz.published".
func (QuizPublished) EventName() string { return quizPublished }

// EventName returns "student.enrolled".
func (StudentEnrolled) EventName() string { return studentEnrolled }

// EventName returns "student.withdrawn".
func (StudentWithdrawn) EventName() string { return studentWithdrawn }

// EventName returns "quiz.submitted".
func (QuizSubmitted) EventName() string { return quizSubmitted }

// EventName returns "course.completed".
func (CourseCompleted) EventName() string { return courseCompleted }

// EventName returns "badge.awarded".
func (BadgeAwarded) EventName() string { return badgeAwarded }
