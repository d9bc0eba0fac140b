package storetest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// patience is how long a case waits for what must happen.
const patience = 10 * time.Second

// harness is one case at work on its own store.
type harness struct {
	testing.TB
	options Options
	ctx     context.Context
	store   pulse.Store
	origin  string
}

func newHarness(t testing.TB, o Options) *harness {
	t.Helper()
	h := &harness{TB: t, options: o, ctx: t.Context(), store: o.Open(t)}
	h.origin = h.info().Origin
	return h
}

// ok ends the case when err is not nil.
func (h *harness) ok(err error) {
	h.Helper()
	if err != nil {
		h.Fatalf("unexpected error: %v", err)
	}
}

func (h *harness) info() pulse.Info {
	h.Helper()
	info, err := h.store.Info(h.ctx)
	h.ok(err)
	return info
}

// record returns a record for the store at hand.
func (h *harness) record(edits ...func(*pulse.Record)) pulse.Record {
	return Record(h.origin, edits...)
}

// records returns n of them.
func (h *harness) records(n int, edits ...func(*pulse.Record)) []pulse.Record {
	recs := make([]pulse.Record, n)
	for i := range recs {
		recs[i] = h.record(edits...)
	}
	return recs
}

// append stores recs as one unit.
func (h *harness) append(recs ...pulse.Record) {
	h.Helper()
	h.ok(h.store.Append(h.ctx, recs))
}

// log returns the envelopes that q selects, after everything appended has got its position.
func (h *harness) log(q pulse.Query) []pulse.Envelope {
	h.Helper()
	head := h.info().Head
	var envs []pulse.Envelope
	for {
		page, err := h.store.Read(h.ctx, q)
		h.ok(err)
		envs = append(envs, page.Envelopes...)
		if page.Next < q.After {
			h.Fatalf("Next %d lies before After %d", page.Next, q.After)
		}
		if page.Next == q.After {
			return envs
		}
		if page.Next > head {
			if head = h.info().Head; page.Next > head {
				h.Fatalf("Next %d lies beyond the head %d", page.Next, head)
			}
		}
		q.After = page.Next
	}
}

// holds ends the case unless the log consists of exactly recs, in this order, at 1, 2, 3 …
func (h *harness) holds(recs ...pulse.Record) {
	h.Helper()
	h.selects(pulse.Query{}, recs...)
	if head := h.info().Head; head != pulse.Position(len(recs)) {
		h.Fatalf("head is %d after %d events", head, len(recs))
	}
}

// selects ends the case unless q selects exactly recs, in this order.
func (h *harness) selects(q pulse.Query, recs ...pulse.Record) {
	h.Helper()
	envs := h.log(q)
	if len(envs) != len(recs) {
		h.Fatalf("%+v selects %d events, want %d:\n got %v\nwant %v", q, len(envs), len(recs), envelopeIDs(envs), recordIDs(recs))
	}
	for i := range recs {
		if envs[i].ID != recs[i].ID {
			h.Fatalf("%+v selects\n     %v\nwant %v", q, envelopeIDs(envs), recordIDs(recs))
		}
	}
}

func envelopeIDs(envs []pulse.Envelope) []uuid.UUID {
	ids := make([]uuid.UUID, len(envs))
	for i := range envs {
		ids[i] = envs[i].ID
	}
	return ids
}

func recordIDs(recs []pulse.Record) []uuid.UUID {
	ids := make([]uuid.UUID, len(recs))
	for i := range recs {
		ids[i] = recs[i].ID
	}
	return ids
}

// same ends the case unless env is what was recorded as rec, apart from what the store adds.
func (h *harness) same(env *pulse.Envelope, rec *pulse.Record) {
	h.Helper()
	for _, f := range []struct {
		name string
		same bool
		got  any
		want any
	}{
		{"ID", env.ID == rec.ID, env.ID, rec.ID},
		{"Name", env.Name == rec.Name, env.Name, rec.Name},
		{"Version", env.Version == rec.Version, env.Version, rec.Version},
		{"Source", env.Source == rec.Source, env.Source, rec.Source},
		{"OccurredAt", env.OccurredAt.Equal(rec.OccurredAt), env.OccurredAt, rec.OccurredAt},
		{"Actor", env.Actor == rec.Actor, env.Actor, rec.Actor},
		{"Correlation", env.Correlation == rec.Correlation, env.Correlation, rec.Correlation},
		{"Causation", env.Causation == rec.Causation, env.Causation, rec.Causation},
		{"Key", env.Key == rec.Key, env.Key, rec.Key},
		{"Trace", env.Trace == rec.Trace, env.Trace, rec.Trace},
		{"Extensions", bytes.Equal(env.Extensions, rec.Extensions), abridged(env.Extensions), abridged(rec.Extensions)},
		{"Data", bytes.Equal(env.Data, rec.Data), abridged(env.Data), abridged(rec.Data)},
		{"Commitment", env.Commitment == rec.Commitment, env.Commitment, rec.Commitment},
	} {
		if !f.same {
			h.Fatalf("%s came back as\n     %v\nwant %v", f.name, f.got, f.want)
		}
	}
}

// abridged is b for people.
func abridged(b []byte) string {
	if len(b) > 200 {
		return string(b[:200]) + "…"
	}
	return string(b)
}

// pass lets d go by on the store's clock.
func (h *harness) pass(d time.Duration) {
	if h.options.Pass != nil {
		h.options.Pass(h, h.store, d)
		return
	}
	time.Sleep(d)
}

// within returns a context for a call that must not hang.
func (h *harness) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(h.ctx, patience)
}

// cancelled returns a context that is over.
func (h *harness) cancelled() context.Context {
	ctx, cancel := context.WithCancel(h.ctx)
	cancel()
	return ctx
}
