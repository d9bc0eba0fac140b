package simulation

import (
	"context"
	"time"

	"github.com/edupulse-live/pulse"
)

// A node is the store of its process.
var _ fullStore = (*node)(nil)

func (n *node) Append(ctx context.Context, recs []pulse.Record) error {
	ctx, err := n.enter(ctx)
	if err == nil {
		err = n.store.Append(ctx, recs)
	}
	return n.leave(err)
}

func (n *node) Read(ctx context.Context, q pulse.Query) (page pulse.Page, err error) {
	if ctx, err = n.reading(ctx, "read"); err == nil {
		page, err = n.store.Read(ctx, q)
	}
	return page, n.leave(err)
}

func (n *node) Info(ctx context.Context) (info pulse.Info, err error) {
	if ctx, err = n.reading(ctx, "info"); err == nil {
		info, err = n.store.Info(ctx)
	}
	return info, n.leave(err)
}

func (n *node) Register(ctx context.Context, r pulse.Registration) (state pulse.SubscriptionState, err error) {
	if ctx, err = n.enter(ctx); err == nil {
		state, err = n.store.Register(ctx, r)
	}
	return state, n.leave(err)
}

func (n *node) States(ctx context.Context) (states []pulse.SubscriptionState, err error) {
	if ctx, err = n.reading(ctx, "states"); err == nil {
		states, err = n.store.States(ctx)
	}
	return states, n.leave(err)
}

func (n *node) Control(ctx context.Context, name string, c pulse.Control) error {
	ctx, err := n.enter(ctx)
	if err == nil {
		err = n.store.Control(ctx, name, c)
	}
	return n.leave(err)
}

func (n *node) List(ctx context.Context, q pulse.DeliveryQuery) (rows []pulse.DeliveryState, err error) {
	if ctx, err = n.reading(ctx, "list"); err == nil {
		rows, err = n.store.List(ctx, q)
	}
	return rows, n.leave(err)
}

func (n *node) Settle(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (count int, err error) {
	if ctx, err = n.enter(ctx); err == nil {
		count, err = n.store.Settle(ctx, q, a)
	}
	return count, n.leave(err)
}

func (n *node) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (got pulse.Lease, err error) {
	if ctx, err = n.enter(ctx); err == nil {
		asked := time.Now()
		if got, err = n.store.Acquire(ctx, lease, ttl); err == nil {
			n.w.granted(n, lease, got, asked.Truncate(time.Microsecond).Add(ttl))
		}
	}
	return got, n.leave(err)
}

func (n *node) Release(ctx context.Context, lease pulse.Lease) error {
	ctx, err := n.enter(ctx)
	if err == nil {
		n.w.releasing(n, lease)
		err = n.store.Release(ctx, lease)
	}
	return n.leave(err)
}

func (n *node) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	ctx, err := n.enter(ctx)
	if err == nil {
		n.w.advancing(lease, &p)
		fenced := n.w.isFenced(lease)
		err = n.store.Advance(ctx, lease, p)
		switch {
		case err == nil && fenced:
			n.w.violate("G6: %s saved progress of %q under the lease %d after another instance had taken over", n.name, lease.Name, lease.Token)
		case fenced && n.thawed.Load():
			n.w.cover("a write refused after a freeze")
		}
	}
	return n.leave(err)
}

// transaction is what is remembered of one transaction of a node.
type transaction struct {
	commit int64 // tick of its commit, 0 when there was none; guarded by history.mu
}

func (n *node) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	ctx, err := n.enter(ctx)
	if err == nil {
		ctx = context.WithValue(ctx, txKey{}, &transaction{})
		err = n.store.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
			return fn(ctx, &nodeTx{Tx: tx, node: n})
		})
	}
	return n.leave(err)
}

// nodeTx is a transaction of a process.
type nodeTx struct {
	pulse.Tx
	node *node
}

func (t *nodeTx) Append(ctx context.Context, recs []pulse.Record) error {
	ctx, err := t.node.enter(ctx)
	if err == nil {
		err = t.Tx.Append(ctx, recs)
	}
	return t.node.leave(err)
}

func (t *nodeTx) Mark(ctx context.Context, lease pulse.Lease, positions []pulse.Position) (seen []pulse.Position, err error) {
	if ctx, err = t.node.enter(ctx); err == nil {
		fenced := t.node.w.isFenced(lease)
		if seen, err = t.Tx.Mark(ctx, lease, positions); err == nil && fenced {
			t.node.w.violate("G6: %s marked deliveries of %q under the lease %d after another instance had taken over", t.node.name, lease.Name, lease.Token)
		}
	}
	return seen, t.node.leave(err)
}
