package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

func readChecks() []check {
	return []check{
		{"Read selects by name and pattern", readNames},
		{"Read selects by any of several names", readAnyName},
		{"Read selects by any of thousands of names", readManyNames},
		{"Read selects by key, actor and correlation", readWho},
		{"Read selects by the time of occurrence, Since included, Until not", readTime},
		{"Read selects by position, After not included, Through included", readPosition},
		{"the conditions of a query are joined by and", readAnd},
		{"pages of any size together are the selection", readPages},
		{"Next skips what does not match and never exceeds the head", readNext},
		{"Next stays at After when there is nothing beyond", readNothingBeyond},
		{"a store that chooses the page size reads everything", readUnlimited},
		{"the caller owns a page", readOwned},
		{"Read with a cancelled context fails", readCancelled},
	}
}

func readNames(h *harness) {
	names := []string{
		"lesson.published", "lesson.withdrawn", "lesson.plan.published", "lesson", "lessons.published",
		"lesson_x.published", "lessonax.published", "quiz.published", "badge.lesson.published",
	}
	for _, name := range names {
		h.append(h.record(named(name)))
	}
	for pattern, want := range map[string][]string{
		"":                       names,
		"lesson.published":       {"lesson.published"},
		"lesson.*":               {"lesson.published", "lesson.withdrawn"},
		"lesson.>":               {"lesson.published", "lesson.withdrawn", "lesson.plan.published"},
		"*.published":            {"lesson.published", "lessons.published", "lesson_x.published", "lessonax.published", "quiz.published"},
		"*":                      {"lesson"},
		">":                      names,
		"*.*.published":          {"lesson.plan.published", "badge.lesson.published"},
		"lesson.*.published":     {"lesson.plan.published"},
		"lesson_x.*":             {"lesson_x.published"},
		"*.plan.>":               {"lesson.plan.published"},
		"lesson.published.>":     nil,
		"lesson.published.*":     nil,
		"nothing.of.this.is.met": nil,
	} {
		h.selectsNames(pulse.Query{Name: pattern}, want)
	}
}

func readManyNames(h *harness) {
	h.append(h.record(named("lesson.published")), h.record(named("quiz.published")), h.record(named("badge.awarded")))
	q := pulse.Query{Names: []string{"lesson.*"}}
	for i := range 3000 {
		q.Names = append(q.Names, fmt.Sprintf("course.n%d", i))
	}
	q.Names = append(q.Names, "badge.awarded")
	h.selectsNames(q, []string{"lesson.published", "badge.awarded"})
}

// selectsNames ends the case unless q selects exactly the events of these names.
func (h *harness) selectsNames(q pulse.Query, want []string) {
	h.Helper()
	var got []string
	for _, env := range h.log(q) {
		got = append(got, env.Name)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		h.Fatalf("%+v selects\n     %v\nwant %v", q, got, want)
	}
}

func readAnyName(h *harness) {
	for _, name := range []string{"lesson.published", "quiz.submitted", "badge.awarded", "lesson.withdrawn"} {
		h.append(h.record(named(name)))
	}
	h.selectsNames(pulse.Query{Names: []string{"quiz.*", "badge.awarded"}}, []string{"quiz.submitted", "badge.awarded"})
	h.selectsNames(pulse.Query{Name: "lesson.withdrawn", Names: []string{"quiz.>"}}, []string{"quiz.submitted", "lesson.withdrawn"})
	h.selectsNames(pulse.Query{Names: []string{"lesson.*", "*.published"}}, []string{"lesson.published", "lesson.withdrawn"})
	h.selectsNames(pulse.Query{Names: []string{"x"}}, nil)
}

func readWho(h *harness) {
	ann, bob := uuid.New(), uuid.New()
	recs := []pulse.Record{
		h.record(keyed("k1"), func(r *pulse.Record) { r.Actor, r.Correlation = ann, "c1" }),
		h.record(keyed("K1"), func(r *pulse.Record) { r.Actor, r.Correlation = bob, "C1" }),
		h.record(keyed("k1 "), func(r *pulse.Record) { r.Actor, r.Correlation = ann, "c1 " }),
		h.record(keyed("k1"), func(r *pulse.Record) { r.Correlation = "c2" }),
		h.record(),
	}
	h.append(recs...)
	h.selects(pulse.Query{Key: "k1"}, recs[0], recs[3])
	h.selects(pulse.Query{Key: "K1"}, recs[1])
	h.selects(pulse.Query{Key: "k"})
	h.selects(pulse.Query{Key: "k%"})
	h.selects(pulse.Query{Actor: ann}, recs[0], recs[2])
	h.selects(pulse.Query{Actor: uuid.New()})
	h.selects(pulse.Query{Correlation: "c1"}, recs[0])
	h.selects(pulse.Query{Correlation: "C1"}, recs[1])
	h.selects(pulse.Query{Key: "k1", Actor: ann, Correlation: "c1"}, recs[0])
	h.selects(pulse.Query{Key: "k1", Actor: bob})
}

func readTime(h *harness) {
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	tick := time.Microsecond
	recs := []pulse.Record{
		h.record(at(noon)), h.record(at(noon.Add(-tick))), h.record(at(noon.Add(tick))), h.record(at(noon.Add(time.Hour))),
	}
	h.append(recs...)
	h.selects(pulse.Query{Since: noon}, recs[0], recs[2], recs[3])
	h.selects(pulse.Query{Until: noon}, recs[1])
	h.selects(pulse.Query{Since: noon, Until: noon.Add(tick)}, recs[0])
	h.selects(pulse.Query{Since: noon, Until: noon})
	h.selects(pulse.Query{Since: noon.In(time.FixedZone("west", -7*3600)), Until: noon.Add(2 * tick)}, recs[0], recs[2])
	h.selects(pulse.Query{Since: noon.Add(time.Hour + tick)})
	// No event is as old or as new as these.
	old, far := time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC)
	h.selects(pulse.Query{Since: old, Until: far}, recs...)
	h.selects(pulse.Query{Since: far})
	h.selects(pulse.Query{Until: old})
}

func readPosition(h *harness) {
	recs := h.records(6)
	h.append(recs...)
	h.selects(pulse.Query{After: 4}, recs[4:]...)
	h.selects(pulse.Query{Through: 2}, recs[:2]...)
	h.selects(pulse.Query{After: 2, Through: 4}, recs[2:4]...)
	h.selects(pulse.Query{After: 3, Through: 3})
	h.selects(pulse.Query{After: 5, Through: 3})
	h.selects(pulse.Query{Through: 100}, recs...)
	h.selects(pulse.Query{After: 6})
	h.selects(pulse.Query{After: 100})
}

func readAnd(h *harness) {
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	hit := []func(*pulse.Record){named("quiz.submitted"), keyed("k"), at(noon), func(r *pulse.Record) { r.Correlation = "c" }}
	var recs []pulse.Record
	for _, miss := range []func(*pulse.Record){
		func(*pulse.Record) {}, named("quiz.started"), keyed("other"), at(noon.Add(time.Hour)), func(r *pulse.Record) { r.Correlation = "d" }, func(*pulse.Record) {},
	} {
		recs = append(recs, h.record(append(hit, miss)...))
	}
	h.append(recs...)
	q := pulse.Query{Names: []string{"quiz.submitted", "badge.*"}, Key: "k", Correlation: "c", Since: noon, Until: noon.Add(time.Minute)}
	h.selects(q, recs[0], recs[5])
	q.After = 1
	h.selects(q, recs[5])
	q.Through = 5
	h.selects(q)
}

func readPages(h *harness) {
	var odd []pulse.Record
	for i := range 25 {
		rec := h.record(keyed(fmt.Sprint(i % 2)))
		h.append(rec)
		if i%2 == 1 {
			odd = append(odd, rec)
		}
	}
	for _, limit := range []int{1, 2, 5, 11, 12, 13, 100} {
		q := pulse.Query{Key: "1", Limit: limit}
		h.selects(q, odd...)
		page, err := h.store.Read(h.ctx, q)
		h.ok(err)
		if len(page.Envelopes) > limit {
			h.Fatalf("a page of %d envelopes for a limit of %d", len(page.Envelopes), limit)
		}
		for _, env := range page.Envelopes {
			if env.Position > page.Next {
				h.Fatalf("Next is %d on a page with position %d", page.Next, env.Position)
			}
		}
	}
}

func readNext(h *harness) {
	h.append(h.records(30, named("lesson.published"))...)
	h.append(h.record(named("quiz.submitted")))
	h.append(h.records(30, named("lesson.published"))...)
	h.info()
	for _, q := range []pulse.Query{
		{Name: "quiz.submitted"}, {Name: "quiz.*", Limit: 1}, {Name: "no.such"}, {Key: "no such"}, {Correlation: "no such"}, {Actor: uuid.New()}, {},
	} {
		for _, through := range []pulse.Position{0, 40, 61, 1000} {
			q.Through = through
			h.reaches(q, 61)
		}
	}
}

// reaches ends the case unless reading on and on by Next ends at the head, or at Through where that is before it.
func (h *harness) reaches(q pulse.Query, head pulse.Position) {
	h.Helper()
	end := head
	if q.Through > 0 {
		end = min(end, q.Through)
	}
	for {
		page, err := h.store.Read(h.ctx, q)
		h.ok(err)
		if page.Next > end {
			h.Fatalf("%+v: Next is %d beyond %d", q, page.Next, end)
		}
		if page.Next == q.After {
			break
		}
		q.After = page.Next
	}
	if q.After != end {
		h.Fatalf("%+v: Next ends at %d, want %d", q, q.After, end)
	}
}

func readNothingBeyond(h *harness) {
	h.append(h.records(3)...)
	h.info()
	for _, q := range []pulse.Query{{After: 3}, {After: 3, Limit: 1}, {After: 50}, {After: 2, Through: 2}, {After: 2, Through: 1}, {After: 3, Name: "x.*"}} {
		page, err := h.store.Read(h.ctx, q)
		h.ok(err)
		if page.Next != q.After || len(page.Envelopes) != 0 {
			h.Fatalf("%+v gives Next %d and %d envelopes, want %d and none", q, page.Next, len(page.Envelopes), q.After)
		}
	}
}

func readUnlimited(h *harness) {
	recs := h.records(2500)
	h.append(recs...)
	h.selects(pulse.Query{}, recs...)
	h.selects(pulse.Query{Limit: 5000}, recs...)
}

func readOwned(h *harness) {
	rec := h.record(func(r *pulse.Record) { r.Extensions = []byte(`{"region":"north"}`) })
	h.append(rec)
	rec.Data, rec.Extensions = []byte(string(rec.Data)), []byte(string(rec.Extensions))
	for range 2 {
		envs := h.log(pulse.Query{})
		if len(envs) != 1 {
			h.Fatalf("%d events, want 1", len(envs))
		}
		h.same(&envs[0], &rec)
		clear(envs[0].Data)
		clear(envs[0].Extensions)
		_ = append(envs[0].Data, "overwritten"...)
		envs[0].Name = "overwritten"
	}
}

func readCancelled(h *harness) {
	h.append(h.record())
	if _, err := h.store.Read(h.cancelled(), pulse.Query{}); !errors.Is(err, context.Canceled) {
		h.Fatalf("Read: error is %v, want a context.Canceled", err)
	}
	if _, err := h.store.Info(h.cancelled()); !errors.Is(err, context.Canceled) {
		h.Fatalf("Info: error is %v, want a context.Canceled", err)
	}
}
