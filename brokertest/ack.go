package brokertest

import (
	"sync"

	"github.com/edupulse-live/pulse"
)

func ackChecks() []check {
	return []check{
		{"an acknowledged message does not come again", ackEnds},
		{"an unacknowledged message comes again after Close", ackMissing},
		{"Ack acknowledges exactly the messages with these receipts", ackExactly},
		{"Ack of no messages acknowledges none", ackNothing},
		{"Ack may run beside Fetch", ackBesideFetch},
		{"a message may come again many times", ackNever},
	}
}

func ackEnds(h *harness) {
	envs := h.envelopes(5)
	f := h.open(pulse.FeedConfig{})
	h.publish(envs...)
	f.expect(envs...)
	f.nothing("all is acknowledged")
	f.close()
	h.open(pulse.FeedConfig{}).nothing("all was acknowledged before")
}

func ackMissing(h *harness) {
	envs := h.envelopes(5)
	f := h.open(pulse.FeedConfig{})
	h.publish(envs...)
	f.inOrder(envs...)
	f.close()
	again := h.open(pulse.FeedConfig{})
	again.expect(envs...)
	again.nothing("all is acknowledged")
}

func ackExactly(h *harness) {
	envs := h.envelopes(6)
	f := h.open(pulse.FeedConfig{})
	h.publish(envs...)
	msgs := f.inOrder(envs...)
	f.ack(msgs[4])
	f.ack(msgs[1], msgs[2])
	f.close()
	again := h.open(pulse.FeedConfig{})
	again.expect(envs[0], envs[3], envs[5])
	again.nothing("the others were acknowledged")
}

func ackNothing(h *harness) {
	envs := h.envelopes(2)
	f := h.open(pulse.FeedConfig{})
	h.publish(envs...)
	f.inOrder(envs...)
	f.ack()
	f.close()
	h.open(pulse.FeedConfig{}).inOrder(envs...)
}

func ackBesideFetch(h *harness) {
	envs := h.envelopes(200)
	f := h.open(pulse.FeedConfig{Window: 20})
	h.publish(envs...)
	f.ackBeside(envs)
	f.close()
	h.open(pulse.FeedConfig{}).nothing("all was acknowledged")
}

// ackBeside takes envs, while another goroutine acknowledges what came.
func (f *feed) ackBeside(envs []pulse.Envelope) {
	f.Helper()
	fetched := make(chan pulse.Message, len(envs))
	var acks sync.WaitGroup
	defer acks.Wait()
	defer close(fetched)
	acks.Go(func() {
		for msg := range fetched {
			if err := f.Ack(f.ctx, []uint64{msg.Receipt}); err != nil {
				f.Errorf("ack: %v", err)
			}
		}
	})
	for _, env := range envs {
		msgs := f.take(1)
		if msgs[0].ID != env.ID {
			f.Errorf("position %d came, want %d", msgs[0].Position, env.Position)
		}
		fetched <- msgs[0]
	}
}

func ackNever(h *harness) {
	env := h.one()
	first := h.open(pulse.FeedConfig{})
	h.publish(env)
	h.same(&first.take(1)[0], &env)
	first.close()
	for range 3 {
		f := h.open(pulse.FeedConfig{})
		h.same(&f.take(1)[0], &env)
		f.close()
	}
}
