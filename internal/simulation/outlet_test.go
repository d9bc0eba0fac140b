package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
)

// outlet is the Publisher of one process, with all that can happen on the way. A fenced one knows the broker's last message, and
// what it sends is stored only behind that: a message of a former relay is not, and a broker that lost messages is noticed.
type outlet struct {
	*membroker.Publisher
	node *node
	dest *destination

	// guarded by dest.mu
	asked  bool // for the last message, and nothing was stored since
	synced bool // the last message is known
	losses int  // of the destination, then
	last   int  // length of the stream, then
}

func (d *destination) outlet(n *node) *outlet {
	return &outlet{Publisher: d.broker.Publisher(school), node: n, dest: d}
}

// sending is one call of PublishBatch. Between two messages it may hold the destination.
type sending struct {
	*outlet
	gone   func() error // the caller has
	holds  bool
	direct bool // nothing happens on the way any more
}

func (o *outlet) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	if err := o.ready(); err != nil {
		results := make([]pulse.Result, len(envs))
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	s := &sending{outlet: o, gone: ctx.Err}
	results := o.Publisher.PublishBatch(context.WithValue(context.WithoutCancel(ctx), sendingKey{}, s), envs)
	s.release()
	_ = o.node.gate() // what happened to the process is known when the answer would come
	return results
}

// ready is nil when it is known what is there. A loss is an error once: who publishes asks for the last message then.
func (o *outlet) ready() error {
	if err := o.node.gate(); err != nil {
		return err
	}
	d := o.dest
	d.mu.Lock()
	defer d.mu.Unlock()
	if o.synced || d.w.plan.broker.kind != fenced {
		return nil
	}
	lost := o.losses != d.losses
	o.sync()
	if lost {
		return fmt.Errorf("%w: the stream lost messages", pulse.ErrBroker)
	}
	return nil
}

// sync notes what is there. The caller holds dest.mu.
func (o *outlet) sync() { o.synced, o.losses, o.last = true, o.dest.losses, len(o.dest.stream) }

// Last returns the last message, or the one of the highest position, or cannot tell, depending on the kind of broker.
func (o *outlet) Last(ctx context.Context) (pulse.Cursor, bool, error) {
	if err := o.node.gate(); err != nil {
		return pulse.Cursor{}, false, err
	}
	b := o.dest.w.plan.broker
	if !o.dest.w.isHealed() && o.node.draw("last", b.read) {
		o.dest.w.cover("a last message that could not be read")
		return pulse.Cursor{}, false, fmt.Errorf("%w: no answer", pulse.ErrBroker)
	}
	o.dest.mu.Lock()
	last, ok, err := o.Publisher.Last(ctx)
	if err == nil {
		o.asked = true
		o.sync()
		if b.high {
			last = o.dest.highest(last)
		}
	}
	o.dest.mu.Unlock()
	if killed := o.node.gate(); killed != nil {
		return pulse.Cursor{}, false, killed
	}
	if b.kind == blind {
		return pulse.Cursor{}, false, err
	}
	return last, ok, err
}

// highest is the message of the highest position that is there. The caller holds d.mu.
func (d *destination) highest(last pulse.Cursor) pulse.Cursor {
	for _, env := range d.broker.Messages(school) {
		if env.Position > last.Position {
			last = pulse.Cursor{Position: env.Position, Commitment: env.Commitment}
		}
	}
	return last
}

// next lets happen what happens on the way of a message. It leaves the destination locked until its fate has come true.
func (s *sending) next(env *pulse.Envelope) membroker.Fault {
	if s.direct {
		return membroker.None
	}
	s.release()
	fault := s.travel(env)
	d := s.dest
	d.mu.Lock()
	s.holds = true
	switch {
	case s.gone() != nil || s.node.isDead():
		return membroker.Drop
	case d.down:
		d.w.cover("a message while the broker was down")
		return fault
	case d.w.plan.broker.kind == fenced && (s.losses != d.losses || s.last != len(d.stream)):
		d.w.cover("a message fenced off")
		s.synced = false
		return membroker.Drop
	case fault == membroker.Drop:
		return fault
	case d.refuses(env):
		d.w.cover("a message refused")
		return membroker.Refuse
	}
	return s.arrive(env, fault)
}

// arrive notes a message as stored: once or twice, answered or not. The caller holds dest.mu.
func (s *sending) arrive(env *pulse.Envelope, fault membroker.Fault) membroker.Fault {
	d := s.dest
	d.decided(s.outlet)
	if d.note(env, s.node); fault == membroker.Duplicate {
		d.note(env, s.node)
	}
	s.last = len(d.stream)
	s.synced = s.synced && fault != membroker.LostAck
	if s.node.draw("publish/killed", d.w.killRate()) {
		d.w.cover("a relay killed after a message")
		s.node.kill()
	}
	return fault
}

func (s *sending) release() {
	if s.holds {
		s.holds = false
		s.dest.mu.Unlock()
	}
}

// travel takes the time a message needs, and draws what happens to it.
func (s *sending) travel(env *pulse.Envelope) membroker.Fault {
	n, w := s.node, s.dest.w
	b := w.plan.broker
	if n.gate() != nil || w.isHealed() {
		return membroker.None
	}
	if n.draw("publish/slow", b.slow) {
		w.cover("a message delayed")
		_ = n.sleep(context.Background(), n.between("publish/slow", 0, 400*time.Millisecond))
	}
	if n.draw("publish/stall", b.slow/10) {
		w.cover("a message delayed for long")
		_ = n.sleep(context.Background(), n.between("publish/stall", time.Second, 20*time.Second))
	}
	if n.draw("publish/freeze", b.freeze) {
		w.cover("a relay frozen between messages")
		w.trace("%s is frozen between messages, before %d", n.name, env.Position)
		n.suspend(n.between("publish/freeze", 4*time.Second, 9*time.Second))
	}
	if n.name != operatorName && n.draw("publish/kill", w.killRate()) {
		w.cover("a relay killed before a message")
		n.kill()
	}
	switch {
	case n.draw("publish/drop", b.drop):
		w.cover("a message dropped")
		return membroker.Drop
	case n.draw("publish/late", b.drop):
		w.cover("a message late")
		s.late(env)
		return membroker.Drop
	case n.draw("publish/lost", b.lostAck):
		w.cover("an answer lost")
		return membroker.LostAck
	case n.draw("publish/twice", b.twice):
		w.cover("a message doubled")
		return membroker.Duplicate
	}
	return membroker.None
}

// late lets a message arrive when nobody waits for it any more.
func (s *sending) late(env *pulse.Envelope) {
	d, n := s.dest, s.node
	late := &sending{outlet: s.outlet, direct: true}
	after := n.between("publish/late", 0, 8*time.Second)
	copied := *env
	d.mu.Lock()
	losses, last := d.losses, len(d.stream)
	d.mu.Unlock()
	d.w.slots.Go(func() {
		select {
		case <-time.After(after):
		case <-d.w.healed:
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.down || d.w.plan.broker.kind == fenced && (losses != d.losses || last != len(d.stream)) || d.refuses(&copied) {
			return
		}
		d.w.cover("a late message that arrived")
		d.note(&copied, n)
		d.broker.Publisher(school).PublishBatch(context.WithValue(context.Background(), sendingKey{}, late), []pulse.Envelope{copied})
	})
}
