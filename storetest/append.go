package storetest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

func appendChecks() []check {
	return []check{
		{"Append stores a unit in the order of its records", appendUnit},
		{"Append of no records does nothing", appendNothing},
		{"Append stores a unit or nothing", appendAtomic},
		{"Append keeps nothing of the records", appendCopies},
		{"the positions that Append tells are those of the log", appendTells},
		{"a repeated id with the same content changes nothing", appendRepeat},
		{"a unit that was stored partly before is completed", appendPartRepeat},
		{"a repeated id may differ in the circumstances of the call", appendCircumstances},
		{"an id with other content is a ConflictError", appendConflict},
		{"an id twice in one unit is stored once, or a conflict", appendTwiceInUnit},
		{"a record of another origin is refused", appendOtherOrigin},
		{"an event of exactly the size limit is stored", appendLargest},
		{"a context cancelled before the call stores nothing", appendCancelled},
		{"a unit of a thousand events is one unit", appendLargeUnit},
	}
}

func appendUnit(h *harness) {
	first, second := h.records(3), h.records(2)
	h.append(first...)
	h.append(second...)
	h.holds(append(first, second...)...)
}

func appendNothing(h *harness) {
	h.append()
	h.holds()
}

func appendAtomic(h *harness) {
	taken := h.record()
	h.append(taken)
	conflict := h.record(identified(taken.ID), data(`{"title":"something else"}`))
	foreign := Record("someone/else")
	for _, bad := range []pulse.Record{conflict, foreign} {
		for at := range 3 {
			unit := h.records(3)
			unit[at] = bad
			if h.store.Append(h.ctx, unit) == nil {
				h.Fatalf("a unit with a bad record at %d was stored", at)
			}
		}
	}
	next := h.record()
	h.append(next)
	h.holds(taken, next)
}

func appendCopies(h *harness) {
	recs := h.records(1, func(r *pulse.Record) { r.Extensions = []byte(`{"region":"north"}`) })
	want := recs[0]
	want.Data, want.Extensions = []byte(string(recs[0].Data)), []byte(string(recs[0].Extensions))
	h.append(recs...)
	clear(recs[0].Data)
	clear(recs[0].Extensions)
	clear(recs[0].Digests)
	recs[0].Name = "changed.afterwards"
	envs := h.log(pulse.Query{})
	if len(envs) != 1 {
		h.Fatalf("%d events, want 1", len(envs))
	}
	h.same(&envs[0], &want)
}

func appendTells(h *harness) {
	first, more, last := h.records(2), h.records(3), h.records(2)
	more[1] = first[1]
	h.append(first...)
	h.append(more...)
	refused := append(h.records(1), Record("someone/else"))
	if h.store.Append(h.ctx, refused) == nil {
		h.Fatalf("a record of another origin was stored")
	}
	h.append(last...)
	envs := h.log(pulse.Query{})
	for _, rec := range slices.Concat(first, more, refused, last) {
		if rec.Position == 0 {
			continue // nothing is told
		}
		if rec.Position < 0 || int(rec.Position) > len(envs) {
			h.Fatalf("event %s is said to be at position %d of a log that ends at %d", rec.ID, rec.Position, len(envs))
		}
		env := &envs[rec.Position-1]
		h.same(env, &rec)
		if !env.RecordedAt.Equal(rec.RecordedAt) {
			h.Fatalf("the event at %d is said to be recorded at %s, and was at %s", rec.Position, rec.RecordedAt, env.RecordedAt)
		}
	}
}

func appendRepeat(h *harness) {
	recs := h.records(2)
	h.append(recs...)
	before := h.log(pulse.Query{})
	h.append(recs...)
	h.append(recs[1])
	next := h.record()
	h.append(next)
	h.holds(recs[0], recs[1], next)
	after := h.log(pulse.Query{})
	for i := range before {
		if !after[i].RecordedAt.Equal(before[i].RecordedAt) || after[i].Commitment != before[i].Commitment {
			h.Fatalf("the event at %d was written anew", before[i].Position)
		}
	}
}

func appendPartRepeat(h *harness) {
	recs := h.records(4)
	h.append(recs[1], recs[3])
	h.append(recs...)
	h.holds(recs[1], recs[3], recs[0], recs[2])
}

func appendCircumstances(h *harness) {
	first := h.record()
	h.append(first)
	again := h.record(identified(first.ID), func(r *pulse.Record) {
		r.Correlation, r.Causation = "correlation-2", uuid.New()
		r.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		r.OccurredAt = first.OccurredAt.Add(time.Hour)
	})
	h.append(again)
	envs := h.log(pulse.Query{})
	if len(envs) != 1 {
		h.Fatalf("%d events, want 1", len(envs))
	}
	h.same(&envs[0], &first)
}

func appendConflict(h *harness) {
	stored := h.record(keyed("k"), at(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)))
	h.append(h.record(), stored)
	h.info()
	for what, edit := range map[string]func(*pulse.Record){
		"data":         data(`{"title":"Decimals"}`),
		"white space":  data(`{"title": "Fractions"}`),
		"name":         named("lesson.withdrawn"),
		"version":      func(r *pulse.Record) { r.Version = 2 },
		"source":       func(r *pulse.Record) { r.Source = "/other" },
		"key":          keyed("other"),
		"actor":        func(r *pulse.Record) { r.Actor = uuid.New() },
		"a given time": at(stored.OccurredAt.Add(time.Second)),
		"extensions":   func(r *pulse.Record) { r.Extensions = []byte(`{"x":"y"}`) },
	} {
		rec := h.record(keyed("k"), at(stored.OccurredAt), identified(stored.ID), edit)
		err := h.store.Append(h.ctx, []pulse.Record{h.record(), rec})
		h.conflict(err, stored.ID, 2, "with other "+what)
	}
	if head := h.info().Head; head != 2 {
		h.Fatalf("head is %d after refused units, want 2", head)
	}
	h.append(h.record())
	if head := h.info().Head; head != 3 {
		h.Fatalf("head is %d, want 3: the refused units left a gap", head)
	}
}

// conflict ends the case unless err is a ConflictError about id at the position.
func (h *harness) conflict(err error, id uuid.UUID, position pulse.Position, what string) {
	h.Helper()
	var conflict *pulse.ConflictError
	if !errors.Is(err, pulse.ErrConflict) || !errors.As(err, &conflict) {
		h.Fatalf("%s: error is %v, want a ConflictError", what, err)
	}
	if conflict.ID != id || conflict.Position != position {
		h.Fatalf("%s: ConflictError names %s at %d, want %s at %d", what, conflict.ID, conflict.Position, id, position)
	}
}

func appendTwiceInUnit(h *harness) {
	rec := h.record()
	h.append(rec, rec)
	h.holds(rec)
	one := h.record()
	other := h.record(identified(one.ID), data(`{"title":"something else"}`))
	if err := h.store.Append(h.ctx, []pulse.Record{one, other}); !errors.Is(err, pulse.ErrConflict) {
		h.Fatalf("one id with two contents in a unit: error is %v, want an ErrConflict", err)
	}
	h.holds(rec)
}

func appendOtherOrigin(h *harness) {
	for _, origin := range []string{"someone/else", h.origin + "/1", ""} {
		rec := Record("someone/else")
		rec.Origin = origin
		if err := h.store.Append(h.ctx, []pulse.Record{rec}); !errors.Is(err, pulse.ErrInvalid) {
			h.Fatalf("a record of origin %q: error is %v, want an ErrInvalid", origin, err)
		}
	}
	h.holds()
}

func appendLargest(h *harness) {
	limit := h.info().MaxBytes
	if limit <= 0 {
		h.Fatalf("Info gives %d as the size limit", limit)
	}
	rec := h.record(data(`""`))
	text := make([]byte, limit-rec.Size())
	for i := range text {
		text[i] = "0123456789abcdef"[i%16]
	}
	rec = h.record(data(`"` + string(text) + `"`))
	if rec.Size() != limit {
		h.Fatalf("the case made an event of %d bytes, wanted %d", rec.Size(), limit)
	}
	h.append(rec)
	envs := h.log(pulse.Query{})
	if len(envs) != 1 {
		h.Fatalf("%d events, want 1", len(envs))
	}
	h.same(&envs[0], &rec)
}

func appendCancelled(h *harness) {
	err := h.store.Append(h.cancelled(), h.records(1))
	if !errors.Is(err, context.Canceled) {
		h.Fatalf("error is %v, want a context.Canceled", err)
	}
	if errors.Is(err, pulse.ErrUnknown) {
		h.Fatalf("error is an ErrUnknown although nothing was tried: %v", err)
	}
	next := h.record()
	h.append(next)
	h.holds(next)
}

func appendLargeUnit(h *harness) {
	recs := h.records(1000)
	h.append(recs...)
	h.holds(recs...)
}
