package brokertest

import "github.com/edupulse-live/pulse"

func orderChecks() []check {
	return []check{
		{"a subscription delivers to one open feed at a time", orderOneFeed},
		{"a feed goes on in order where the last one ended", orderGoesOn},
		{"an existing subscription goes on after what was acknowledged, whatever Start says", startExisting},
	}
}

func startChecks() []check {
	return []check{
		{"a new subscription from the beginning gets what was published before", startBeginning},
		{"a new subscription from a position gets nothing before it", startPosition},
	}
}

func orderOneFeed(h *harness) {
	first := h.open(pulse.FeedConfig{})
	second := h.open(pulse.FeedConfig{})
	envs := h.envelopes(6, keyed("k"))
	h.publish(envs[:4]...)
	msgs := first.inOrder(envs[:4]...)
	second.nothing("another feed of the subscription is open")
	first.ack(msgs[0], msgs[1])
	h.publish(envs[4:]...)
	second.nothing("another feed of the subscription is open still")
	first.close()
	second.expect(envs[2:]...)
	second.nothing("all is acknowledged")
}

func orderGoesOn(h *harness) {
	envs := h.envelopes(30)
	f := h.open(pulse.FeedConfig{})
	h.publish(envs...)
	for done := 0; done < len(envs); done += 5 {
		msgs := f.inOrder(envs[done:min(done+8, len(envs))]...)
		f.ack(msgs[:5]...)
		f.close()
		f = h.open(pulse.FeedConfig{})
	}
	f.nothing("all is acknowledged")
}

func startBeginning(h *harness) {
	envs := h.envelopes(5)
	h.publish(envs...)
	h.open(pulse.FeedConfig{Start: pulse.Beginning}).expect(envs...)
}

func startPosition(h *harness) {
	h.next = 1000
	envs := h.envelopes(8)
	h.publish(envs...)
	f := h.open(pulse.FeedConfig{Subscription: "middle", Start: 1003})
	f.expect(envs[3:]...)
	later := h.open(pulse.FeedConfig{Subscription: "later", Start: 1010})
	early := h.open(pulse.FeedConfig{Subscription: "early", Start: 7})
	more := h.envelopes(4)
	h.publish(more...)
	later.expect(more[2:]...)
	early.expect(append(envs, more...)...)
	f.expect(more...)
}

func startExisting(h *harness) {
	envs := h.envelopes(5)
	f := h.open(pulse.FeedConfig{})
	h.publish(envs...)
	msgs := f.inOrder(envs...)
	f.ack(msgs[:2]...)
	f.close()
	for _, start := range []pulse.Position{100, 5, pulse.Beginning} {
		f := h.open(pulse.FeedConfig{Start: start})
		f.inOrder(envs[2:]...)
		f.close()
	}
}
