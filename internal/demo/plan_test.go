package demo

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestPlanOfASmallYear(t *testing.T) {
	p, err := readPlan(smallTables().write(t))
	if err != nil {
		t.Fatal(err)
	}
	names := newPseudonyms(p, newHasher([]byte("a secret")))
	called := map[uuid.UUID]string{names.students[0]: "7001", names.students[1]: "7002"}
	var got []string
	for i := range p.events {
		e := &p.events[i]
		ev := p.event(e, names)
		data, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for id, name := range called {
			text = strings.ReplaceAll(text, id.String(), name)
		}
		got = append(got, fmt.Sprintf("%s %s %s", p.at(e.day).Format(time.DateOnly), ev.EventName(), text))
	}
	want := []string{
		// Without a date: said to have happened on the first day of all, the earliest enrolment.
		`2013-09-21 course.opened {"course":"AAA-2013J","days":100}`,
		`2013-09-21 course.opened {"course":"BBB-2014B","days":50}`,
		`2013-09-21 lesson.published {"course":"AAA-2013J","lesson":"901","kind":"resource"}`,
		`2013-09-21 lesson.published {"course":"BBB-2014B","lesson":"902","kind":"oucontent"}`,
		`2013-09-21 lesson.published {"course":"AAA-2013J","lesson":"903","kind":"resource"}`,
		`2013-09-21 quiz.published {"course":"AAA-2013J","quiz":"51","kind":"TMA","due":"2013-10-20","weight":"10"}`,
		`2013-09-21 quiz.published {"course":"AAA-2013J","quiz":"52","kind":"Exam","weight":"100"}`,
		`2013-09-21 quiz.published {"course":"BBB-2014B","quiz":"53","kind":"CMA","due":"2014-02-13","weight":"12.5"}`,
		`2013-09-21 student.enrolled {"student":"7002","course":"AAA-2013J"}`,
		`2013-09-21 student.enrolled {"student":"7001","course":"AAA-2013J"}`,
		`2013-10-19 quiz.submitted {"student":"7001","course":"AAA-2013J","quiz":"51","score":78}`,
		`2013-10-19 quiz.submitted {"student":"7002","course":"AAA-2013J","quiz":"51","banked":true}`,
		`2013-10-31 student.withdrawn {"student":"7002","course":"AAA-2013J"}`,
		`2013-12-30 quiz.submitted {"student":"7001","course":"AAA-2013J","quiz":"52","score":0}`,
		`2014-01-09 course.completed {"student":"7001","course":"AAA-2013J"}`,
		`2014-01-09 badge.awarded {"student":"7001","course":"AAA-2013J","badge":"distinction"}`,
		// A later year, and both on one day: in the order of the file.
		`2014-01-27 student.enrolled {"student":"7001","course":"BBB-2014B"}`,
		`2014-01-27 student.withdrawn {"student":"7001","course":"BBB-2014B"}`,
		`2014-03-23 course.completed {"student":"7001","course":"BBB-2014B"}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("the plan is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestIDsAreOfTheRunAndTheRow(t *testing.T) {
	p, err := readPlan(manyTables(200).write(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.events) != manyEvents(200) {
		t.Fatalf("%d events planned, the dataset has %d", len(p.events), manyEvents(200))
	}
	mine, again, other := newHasher([]byte("mine")), newHasher([]byte("mine")), newHasher([]byte("other"))
	seen := map[uuid.UUID]bool{}
	for i := range p.events {
		e := &p.events[i]
		id := mine.event(p, e)
		switch {
		case id != again.event(p, e):
			t.Fatalf("event %d has two ids under one secret", i)
		case seen[id]:
			t.Fatalf("event %d shares its id", i)
		case id == other.event(p, e):
			t.Fatalf("event %d has the same id under another secret", i)
		case id.Version() != 7 || id.Variant() != uuid.RFC4122:
			t.Fatalf("%s is of version %d, %s", id, id.Version(), id.Variant())
		}
		if sec, nsec := id.Time().UnixTime(); !time.Unix(sec, nsec).UTC().Equal(p.at(e.day)) {
			t.Fatalf("%s is of %s, the event of %s", id, time.Unix(sec, nsec).UTC(), p.at(e.day))
		}
		seen[id] = true
	}
	a, b := newPseudonyms(p, mine), newPseudonyms(p, other)
	for i := range a.students {
		if a.students[i] == b.students[i] || seen[a.students[i]] {
			t.Fatalf("student %d is called %s under every secret", i, a.students[i])
		}
		seen[a.students[i]] = true
	}
}

// TestPlanOfTheRealYear counts what the real dataset holds, where it is at hand.
func TestPlanOfTheRealYear(t *testing.T) {
	dir := os.Getenv("PULSE_OULAD")
	if dir == "" {
		t.Skip("not applicable: PULSE_OULAD does not name the directory of the dataset")
	}
	p, err := readPlan(dir)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[kind]int{}
	for i := range p.events {
		counts[p.events[i].kind]++
	}
	want := map[kind]int{
		kindCourse: 22, kindLesson: 6364, kindQuiz: 206, kindEnrolled: 32593, kindWithdrawn: 10072,
		kindSubmitted: 173912, kindCompleted: 15385, kindBadge: 3024,
	}
	for k, n := range want {
		if counts[k] != n {
			t.Errorf("kind %d: %d events, want %d", k, counts[k], n)
		}
	}
	if len(p.events) != 241578 || len(p.students) != 28785 {
		t.Errorf("%d events of %d students, want 241578 of 28785", len(p.events), len(p.students))
	}
}
