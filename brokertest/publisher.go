package brokertest

import (
	"context"

	"github.com/edupulse-live/pulse"
)

func publisherChecks() []check {
	return []check{
		{"PublishBatch returns one result for each envelope, in order", publishResults},
		{"PublishBatch of no envelopes returns no results", publishNothing},
		{"a batch of MaxBatch envelopes is published", publishLargestBatch},
		{"PublishBatch keeps nothing of the envelopes", publishKeepsNothing},
		{"messages first appear in the order of publishing", publishOrder},
		{"an oversize message is Rejected, what is before it Acked, what is behind it Withheld and published when it comes again", publishOversize},
		{"a message of exactly the limit is published", publishLargest},
		{"a cancelled context gives Unknown, and loses nothing that was Acked", publishCancelled},
		{"publishing again after a cancelled context is complete and in order", publishAgain},
		{"nobody listening is not an error", publishUnheard},
		{"Last reports the highest position published and its commitment, also behind messages that came late", publishLast},
		{"Capabilities are constant", publishCapabilities},
	}
}

func publishResults(h *harness) {
	n := min(5, h.Publisher.Capabilities().MaxBatch)
	last := uint64(0)
	for range 3 {
		for i, r := range h.batch(h.ctx, h.envelopes(n)) {
			if r.Outcome != pulse.Acked {
				h.Fatalf("envelope %d: %+v", i, r)
			}
			if r.Sequence != 0 && r.Sequence <= last {
				h.Fatalf("sequence number %d follows %d", r.Sequence, last)
			}
			last = r.Sequence
		}
	}
}

func publishNothing(h *harness) {
	f := h.openIfAny()
	h.batch(h.ctx, nil)
	if f != nil {
		f.nothing("an empty batch was published")
	}
}

// openIfAny opens a feed when there is a source.
func (h *harness) openIfAny() *feed {
	h.Helper()
	if h.Source == nil {
		return nil
	}
	return h.open(pulse.FeedConfig{})
}

func publishLargestBatch(h *harness) {
	f := h.openIfAny()
	envs := h.envelopes(min(5000, h.Publisher.Capabilities().MaxBatch))
	h.publish(envs...)
	for f != nil && len(envs) > 0 {
		n := min(500, len(envs))
		f.expect(envs[:n]...)
		envs = envs[n:]
	}
}

func publishKeepsNothing(h *harness) {
	f := h.openIfAny()
	envs := h.envelopes(1, func(e *pulse.Envelope) { e.Extensions = []byte(`{"region":"north"}`) })
	want := envs[0]
	want.Data = []byte(string(envs[0].Data))
	h.publish(envs...)
	clear(envs[0].Data)
	clear(envs[0].Extensions)
	envs[0].Name = "changed.afterwards"
	if f != nil {
		h.same(&f.take(1)[0], &want)
	}
}

func publishOrder(h *harness) {
	f := h.open(pulse.FeedConfig{})
	var envs []pulse.Envelope
	for i := range 60 {
		envs = append(envs, h.envelopes(1, keyed([]string{"a", "b", "", "c"}[i%4]), named([]string{"lesson.published", "quiz.submitted"}[i%2]))...)
	}
	for rest := envs; len(rest) > 0; {
		n := min(7, len(rest))
		h.publish(rest[:n]...)
		rest = rest[n:]
	}
	f.expect(envs...)
}

// sized is an edit that gives an envelope its size on the wire.
func sized(bytes int) func(*pulse.Envelope) {
	return func(e *pulse.Envelope) {
		e.Data = []byte(`""`)
		text := make([]byte, bytes-e.Size())
		for i := range text {
			text[i] = 'x'
		}
		e.Data = []byte(`"` + string(text) + `"`)
	}
}

// limit returns the size limit; it skips the case when there is none within reason.
func (h *harness) limit() int {
	h.Helper()
	limit := h.Publisher.Capabilities().MaxBytes
	if limit == 0 || limit > 64<<20 {
		h.Skipf("not applicable: the destination takes messages of any size up to %d bytes", limit)
	}
	return limit
}

func publishOversize(h *harness) {
	limit := h.limit()
	f := h.openIfAny()
	envs := h.envelopes(min(5, h.Publisher.Capabilities().MaxBatch))
	large := len(envs) / 2
	sized(limit + 1)(&envs[large])
	for i, r := range h.batch(h.ctx, envs) {
		want := pulse.Acked
		switch {
		case i == large:
			want = pulse.Rejected
		case i > large:
			want = pulse.Withheld
		}
		if r.Outcome != want {
			h.Fatalf("envelope %d of a batch whose envelope %d is over the limit of %d bytes got outcome %d, want %d: %v", i, large, limit, r.Outcome, want, r.Err)
		}
	}
	if f != nil {
		f.expect(envs[:large]...)
		f.nothing("the oversize message came, or one behind it")
	}
	rest := append(envs[large+1:], h.envelopes(1)...)
	for _, env := range rest {
		h.publish(env)
	}
	if f != nil {
		f.expect(rest...)
	}
}

func publishLargest(h *harness) {
	limit := h.limit()
	f := h.openIfAny()
	envs := h.envelopes(1, sized(limit))
	h.publish(envs...)
	if f != nil {
		h.same(&f.take(1)[0], &envs[0])
	}
}

func publishCancelled(h *harness) {
	f := h.openIfAny()
	ctx, cancel := context.WithCancel(h.ctx)
	cancel()
	envs := h.envelopes(min(3, h.Publisher.Capabilities().MaxBatch))
	for i, r := range h.batch(ctx, envs) {
		switch r.Outcome {
		case pulse.Rejected:
			h.Fatalf("envelope %d was Rejected because of a cancelled context: it would be parked for good: %v", i, r.Err)
		case pulse.Acked:
			if f != nil {
				f.expect(envs[i])
			}
		}
	}
}

func publishAgain(h *harness) {
	f := h.open(pulse.FeedConfig{})
	envs := h.envelopes(min(6, h.Publisher.Capabilities().MaxBatch), keyed("k"))
	ctx, cancel := context.WithCancel(h.ctx)
	cancel()
	h.batch(ctx, envs)
	h.publish(envs...)
	// Some may have come by the first attempt already, but the first appearances are in order.
	seen := make(map[pulse.Position]bool)
	for len(seen) < len(envs) {
		msg := f.take(1)[0]
		f.ack(msg)
		if !seen[msg.Position] && msg.ID != envs[len(seen)].ID {
			h.Fatalf("position %d first appeared when %d was next", msg.Position, envs[len(seen)].Position)
		}
		seen[msg.Position] = true
	}
}

func publishUnheard(h *harness) {
	h.publish(h.envelopes(1, named("nobody.listens"))...)
	h.publish(h.envelopes(2, named("nobody.listens.either"))...)
}

func publishLast(h *harness) {
	last, ok, err := h.Publisher.Last(h.ctx)
	h.ok(err)
	if !ok {
		h.Skip("not applicable: the broker cannot tell its last message")
	}
	if last != (pulse.Cursor{}) {
		h.Fatalf("Last of an empty destination is %+v", last)
	}
	for _, n := range []int{1, 3, 1} {
		envs := h.envelopes(n)
		h.publish(envs...)
		h.last(envs[n-1])
	}
	late := h.envelopes(2)
	highest := h.one()
	h.publish(highest)
	h.publish(late...)
	h.last(highest)
	h.publish(highest)
	h.publish(late[0])
	h.last(highest)
	next := h.one()
	h.publish(next)
	h.last(next)
}

// last ends the case unless Last is want.
func (h *harness) last(want pulse.Envelope) {
	h.Helper()
	last, ok, err := h.Publisher.Last(h.ctx)
	h.ok(err)
	if !ok || last.Position != want.Position || last.Commitment != want.Commitment {
		h.Fatalf("Last is %+v, %v, want position %d and commitment %x", last, ok, want.Position, want.Commitment)
	}
}

func publishCapabilities(h *harness) {
	before := h.Publisher.Capabilities()
	if before.MaxBatch < 1 || before.MaxBytes < 0 {
		h.Fatalf("capabilities are %+v", before)
	}
	h.publish(h.envelopes(2)...)
	if after := h.Publisher.Capabilities(); after != before {
		h.Fatalf("capabilities were %+v and are %+v", before, after)
	}
}
