package brokertest

import "github.com/edupulse-live/pulse"

func orderChecks() []check {
	return []check{
		{"an ordered subscription delivers to one open feed at a time", orderOneFeed},
		{"an ordered feed goes on in order where the last one ended", orderGoesOn},
		{"an existing subscription goes on after what was acknowledged, whatever Start says", startExisting},
	}
}

func startChecks() []check {
	return []check{
		{"a new subscription from the beginning gets what was published before", startBeginning},
		{"a new subscription from a position gets nothing before it", startPosition},
		{"a new subscription from now on gets nothing published before", startNow},
		{"First is the position of the oldest message, 0 when there is none", startFirst},
	}
}

func orderOneFeed(h *harness) {
	first := h.open(pulse.FeedConfig{Ordered: true})
	second := h.open(pulse.FeedConfig{Ordered: true})
	envs := h.envelopes(6, keyed("k"))
	h.publish(envs[:4]...)
	msgs := first.inOrder(envs[:4]...)
	second.nothing("another feed of the ordered subscription is open")
	first.ack(msgs[0], msgs[1])
	h.publish(envs[4:]...)
	second.nothing("another feed of the ordered subscription is open still")
	first.close()
	second.expect(envs[2:]...)
	second.nothing("all is acknowledged")
}

func orderGoesOn(h *harness) {
	envs := h.envelopes(30)
	f := h.open(pulse.FeedConfig{Ordered: true})
	h.publish(envs...)
	for done := 0; done < len(envs); done += 5 {
		msgs := f.inOrder(envs[done:min(done+8, len(envs))]...)
		f.ack(msgs[:5]...)
		f.close()
		f = h.open(pulse.FeedConfig{Ordered: true})
	}
	f.nothing("all is acknowledged")
}

func startBeginning(h *harness) {
	envs := h.envelopes(5)
	h.publish(envs...)
	h.open(pulse.FeedConfig{Start: pulse.Beginning, Ordered: true}).expect(envs...)
}

func startPosition(h *harness) {
	h.next = 1000
	envs := h.envelopes(8)
	h.publish(envs...)
	f := h.open(pulse.FeedConfig{Subscription: "middle", Start: 1003, Ordered: true})
	f.expect(envs[3:]...)
	later := h.open(pulse.FeedConfig{Subscription: "later", Start: 1010, Ordered: true})
	early := h.open(pulse.FeedConfig{Subscription: "early", Start: 7, Ordered: true})
	more := h.envelopes(4)
	h.publish(more...)
	later.expect(more[2:]...)
	early.expect(append(envs, more...)...)
	f.expect(more...)
}

func startNow(h *harness) {
	h.publish(h.envelopes(5)...)
	f := h.open(pulse.FeedConfig{Start: pulse.Now, Ordered: true})
	f.nothing("everything was published before")
	envs := h.envelopes(3)
	h.publish(envs...)
	f.expect(envs...)
	f.close()
	more := h.envelopes(2)
	h.publish(more...)
	h.open(pulse.FeedConfig{Start: pulse.Now, Ordered: true}).expect(more...)
}

func startFirst(h *harness) {
	if h.Source == nil {
		h.Skip("not applicable: the adapter has no pulse.Source")
	}
	first := func(want pulse.Position) {
		h.Helper()
		got, err := h.Source.First(h.ctx)
		h.ok(err)
		if got != want {
			h.Fatalf("First is %d, want %d", got, want)
		}
	}
	first(0)
	h.next = 17
	h.publish(h.envelopes(1)...)
	first(17)
	h.publish(h.envelopes(3)...)
	first(17)
}

func startExisting(h *harness) {
	envs := h.envelopes(5)
	f := h.open(pulse.FeedConfig{Ordered: true})
	h.publish(envs...)
	msgs := f.inOrder(envs...)
	f.ack(msgs[:2]...)
	f.close()
	for _, start := range []pulse.Position{pulse.Now, 5, pulse.Beginning} {
		f := h.open(pulse.FeedConfig{Start: start, Ordered: true})
		f.inOrder(envs[2:]...)
		f.close()
	}
}
