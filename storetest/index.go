package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

func indexChecks() []check {
	return []check{
		{"Index comes to an end", indexEnds},
		{"Index changes no answer, however far it got", indexChangesNothing},
		{"Index with a cancelled context fails", indexCancelled},
	}
}

// indexer returns the store's index; it skips the case when it has none.
func (h *harness) indexer() pulse.Indexer {
	h.Helper()
	ix, ok := h.store.(pulse.Indexer)
	if !ok {
		h.Skip("not applicable: the store is no pulse.Indexer")
	}
	return ix
}

// index lets the index catch up, a few events at a time, and calls between after each step.
func (h *harness) index(limit int, between func()) {
	h.Helper()
	ix := h.indexer()
	head := int(h.info().Head)
	for range head/limit + 2 {
		more, err := ix.Index(h.ctx, limit)
		h.ok(err)
		between()
		if !more {
			return
		}
	}
	h.Fatalf("Index has not caught up with %d events after %d steps of %d", head, head/limit+2, limit)
}

func indexEnds(h *harness) {
	h.index(10, func() {})
	for range 3 {
		h.append(h.records(25)...)
		h.index(10, func() {})
		h.index(1000, func() {})
	}
}

func indexChangesNothing(h *harness) {
	ann := uuid.New()
	names := []string{"lesson.published", "quiz.submitted", "lesson.plan.published"}
	add := func(n int) (recs []pulse.Record) {
		for i := range n {
			recs = append(recs, h.record(named(names[i%3]), keyed(fmt.Sprint("k", i%4)), func(r *pulse.Record) {
				r.Correlation = fmt.Sprint("c", i%5)
				if i%2 == 0 {
					r.Actor = ann
				}
			}))
		}
		h.append(recs...)
		return recs
	}
	recs := add(30)
	same := func() {
		h.selects(pulse.Query{Name: "quiz.submitted"}, selected(recs, func(r *pulse.Record) bool { return r.Name == "quiz.submitted" })...)
		h.selects(pulse.Query{Name: "lesson.>", Limit: 3}, selected(recs, func(r *pulse.Record) bool { return r.Name != "quiz.submitted" })...)
		h.selects(pulse.Query{Key: "k1"}, selected(recs, func(r *pulse.Record) bool { return r.Key == "k1" })...)
		h.selects(pulse.Query{Actor: ann, Limit: 1}, selected(recs, func(r *pulse.Record) bool { return r.Actor == ann })...)
		h.selects(pulse.Query{Correlation: "c2", Key: "k3"}, selected(recs, func(r *pulse.Record) bool { return r.Correlation == "c2" && r.Key == "k3" })...)
		h.selects(pulse.Query{Key: "no such"})
		h.selects(pulse.Query{Key: "k0", After: 17, Through: 26}, selected(recs[17:26], func(r *pulse.Record) bool { return r.Key == "k0" })...)
	}
	same()
	h.index(7, same)
	recs = append(recs, add(10)...) // these the index does not have yet
	same()
	h.index(4, same)
}

// selected returns those of recs that which is true for.
func selected(recs []pulse.Record, which func(r *pulse.Record) bool) (some []pulse.Record) {
	for i := range recs {
		if which(&recs[i]) {
			some = append(some, recs[i])
		}
	}
	return some
}

func indexCancelled(h *harness) {
	ix := h.indexer()
	h.append(h.records(3)...)
	if _, err := ix.Index(h.cancelled(), 10); !errors.Is(err, context.Canceled) {
		h.Fatalf("error is %v, want a context.Canceled", err)
	}
}
