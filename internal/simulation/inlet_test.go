package simulation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/edupulse-live/pulse"
)

// inlet is the Source of one process.
type inlet struct {
	source    pulse.Source
	delivered *sync.Map // a delivery for each that was
	node      *node
	w         *world
}

// delivery is that of an event to a subscription.
type delivery struct {
	subscription string
	position     pulse.Position
}

func (d *destination) inlet(n *node) *inlet {
	return &inlet{source: d.broker.Source(school), delivered: &d.delivered, node: n, w: d.w}
}

// troubled lets a call to the broker fail now and then.
func (in *inlet) troubled(what string) error {
	if err := in.node.gate(); err != nil {
		return err
	}
	if !in.w.isHealed() && in.node.draw(what, in.w.plan.broker.read) {
		in.w.cover(what + " that failed")
		return fmt.Errorf("%w: no answer", pulse.ErrBroker)
	}
	return nil
}

// leave brings an answer of the broker to the process, if it still lives. A feed the broker has closed is a lost connection.
func (in *inlet) leave(err error) error {
	if killed := in.node.gate(); killed != nil {
		return killed
	}
	if errors.Is(err, pulse.ErrClosed) {
		return fmt.Errorf("%w: the broker has closed the connection", pulse.ErrBroker)
	}
	return err
}

func (in *inlet) Open(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
	if err := in.troubled("an opening"); err != nil {
		return nil, err
	}
	feed, err := in.source.Open(ctx, cfg)
	if err != nil {
		return nil, in.leave(err)
	}
	f := &inletFeed{inlet: in, feed: feed, subscription: cfg.Subscription, closed: make(chan struct{})}
	go f.end()
	if err := in.leave(nil); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// inletFeed is an open feed of a process.
type inletFeed struct {
	*inlet
	feed         pulse.Feed
	subscription string
	once         sync.Once
	closed       chan struct{}
}

// patience is how long the broker waits for a process it hears nothing of.
const patience = 3 * time.Second

// end closes the feed on the broker's side when its process has died, or is frozen for long.
func (f *inletFeed) end() {
	select {
	case <-f.closed:
	case <-f.node.dead:
	case <-f.node.silent():
		f.w.cover("a feed closed on a frozen process")
	}
	_ = f.feed.Close()
}

func (f *inletFeed) Fetch(ctx context.Context, max int) ([]pulse.Message, error) {
	if err := f.troubled("a fetch"); err != nil {
		return nil, err
	}
	msgs, err := f.feed.Fetch(ctx, max)
	for i := range msgs {
		f.w.cover("a message delivered")
		if _, again := f.delivered.LoadOrStore(delivery{f.subscription, msgs[i].Position}, true); again {
			f.w.cover("a message redelivered")
		}
	}
	return msgs, f.leave(err)
}

func (f *inletFeed) Ack(ctx context.Context, receipts []uint64) error {
	if err := f.troubled("an acknowledgement"); err != nil {
		return err
	}
	err := f.feed.Ack(ctx, receipts)
	if err == nil && !f.w.isHealed() && f.node.draw("acknowledged", f.w.plan.broker.read) {
		f.w.cover("an acknowledgement reported as failed")
		err = fmt.Errorf("%w: no answer", pulse.ErrBroker)
	}
	return f.leave(err)
}

func (f *inletFeed) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.feed.Close()
}
