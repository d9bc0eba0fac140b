package brokertest

import (
	"context"
	"errors"
	"time"

	"github.com/edupulse-live/pulse"
)

func feedChecks() []check {
	return []check{
		{"Fetch waits for a message", feedWaits},
		{"Fetch that waits ends with its context", feedContext},
		{"a Fetch that ended without messages loses none", feedAfterContext},
		{"Fetch returns up to max messages", feedMax},
		{"no more than Window messages are out without acknowledgement", feedWindow},
		{"names and patterns select", feedNames},
		{"each subscription gets all messages", feedSubscriptions},
		{"the caller owns a message", feedOwned},
		{"Fetch after Close fails", feedClosed},
		{"Open with a cancelled context fails", feedOpenCancelled},
	}
}

func feedWaits(h *harness) {
	f := h.open(pulse.FeedConfig{})
	envs := h.envelopes(1)
	started := make(chan struct{})
	fetched := make(chan []pulse.Message, 1)
	go func() {
		ctx, cancel := context.WithTimeout(h.ctx, h.options.patience)
		defer cancel()
		close(started)
		msgs, err := f.Fetch(ctx, 10)
		if err != nil {
			h.Errorf("Fetch that waits: %v", err)
		}
		fetched <- msgs
	}()
	<-started
	select {
	case msgs := <-fetched:
		h.Fatalf("Fetch returned %d messages before one was published", len(msgs))
	case <-time.After(h.options.Quiet):
	}
	h.publish(envs...)
	if msgs := <-fetched; len(msgs) != 1 || msgs[0].ID != envs[0].ID {
		h.Fatalf("Fetch returned %v, want the message published", positions(msgs))
	}
}

func feedContext(h *harness) {
	f := h.open(pulse.FeedConfig{})
	f.nothing("nothing was published")
	ctx, cancel := context.WithCancel(h.ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := f.Fetch(ctx, 1)
		ended <- err
	}()
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			h.Fatalf("Fetch whose context was cancelled gives %v, want a context.Canceled", err)
		}
	case <-time.After(h.options.patience):
		h.Fatal("Fetch did not end with its context")
	}
}

func feedAfterContext(h *harness) {
	f := h.open(pulse.FeedConfig{})
	envs := h.envelopes(10)
	for _, env := range envs {
		ctx, cancel := context.WithTimeout(h.ctx, 5*time.Millisecond)
		if msgs, err := f.Fetch(ctx, 10); err == nil {
			h.Fatalf("%v came before it was published", positions(msgs))
		}
		cancel()
		h.publish(env)
		f.expect(env)
	}
}

func feedMax(h *harness) {
	f := h.open(pulse.FeedConfig{})
	envs := h.envelopes(7)
	h.publish(envs...)
	ctx, cancel := context.WithTimeout(h.ctx, h.options.patience)
	defer cancel()
	msgs, err := f.Fetch(ctx, 3)
	h.ok(err)
	if len(msgs) < 1 || len(msgs) > 3 {
		h.Fatalf("Fetch of up to 3 messages returned %d", len(msgs))
	}
	f.ack(msgs...)
	f.expect(envs[len(msgs):]...)
}

func feedWindow(h *harness) {
	f := h.open(pulse.FeedConfig{Window: 3})
	envs := h.envelopes(5)
	h.publish(envs...)
	msgs := f.inOrder(envs[:3]...)
	f.nothing("the window is full")
	f.ack(msgs[1])
	msgs = append(msgs, f.inOrder(envs[3])...)
	f.nothing("the window is full again")
	f.ack(msgs[0], msgs[2], msgs[3])
	f.expect(envs[4])
}

func feedNames(h *harness) {
	cases := map[string][]string{
		"one-name": {"quiz.submitted"},
		"patterns": {"lesson.*", "badge.>"},
		"deep":     {"*.plan.published", "lesson.withdrawn"},
		"all":      nil,
	}
	feeds := make(map[string]*feed)
	for subscription, names := range cases {
		feeds[subscription] = h.open(pulse.FeedConfig{Subscription: subscription, Names: names})
	}
	var envs []pulse.Envelope
	for _, name := range []string{
		"lesson.published", "quiz.submitted", "lesson.plan.published", "badge.awarded", "badge.x.y", "lesson.withdrawn", "quiz.submitted.late", "lesson",
	} {
		envs = append(envs, h.one(named(name)))
	}
	h.publish(envs...)
	feeds["one-name"].expect(envs[1])
	feeds["patterns"].expect(envs[0], envs[3], envs[4], envs[5])
	feeds["deep"].expect(envs[2], envs[5])
	feeds["all"].expect(envs...)
	for subscription, f := range feeds {
		f.nothing("subscription " + subscription + " has all it wants")
	}
}

func feedSubscriptions(h *harness) {
	mailer := h.open(pulse.FeedConfig{Subscription: "mailer"})
	search := h.open(pulse.FeedConfig{Subscription: "search"})
	envs := h.envelopes(4)
	h.publish(envs...)
	mailer.expect(envs...)
	search.expect(envs...)
}

func feedOwned(h *harness) {
	envs := h.envelopes(1)
	want := envs[0]
	want.Data = []byte(string(want.Data))
	first := h.open(pulse.FeedConfig{})
	h.publish(envs...)
	msg := first.take(1)[0]
	h.same(&msg, &want)
	clear(msg.Data)
	first.close()
	again := h.open(pulse.FeedConfig{}).take(1)[0]
	h.same(&again, &want)
}

func feedClosed(h *harness) {
	f := h.open(pulse.FeedConfig{})
	h.publish(h.envelopes(1)...)
	f.close()
	ctx, cancel := context.WithTimeout(h.ctx, h.options.patience)
	defer cancel()
	if msgs, err := f.Fetch(ctx, 1); err == nil || ctx.Err() != nil {
		h.Fatalf("Fetch after Close gives %v and %v, want an error at once", positions(msgs), err)
	}
}

func feedOpenCancelled(h *harness) {
	if h.Source == nil {
		h.Skip("not applicable: the adapter has no pulse.Source")
	}
	ctx, cancel := context.WithCancel(h.ctx)
	cancel()
	f, err := h.Source.Open(ctx, pulse.FeedConfig{Subscription: "mailer", Start: pulse.Beginning, Window: 10})
	if err == nil {
		_ = f.Close()
		h.Fatal("Open with a cancelled context succeeded")
	}
}
