package failpoint

import (
	"context"
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
)

// Full is a store with the abilities that subscriptions need.
type Full interface {
	pulse.Store
	pulse.Transactor
	pulse.Leases
	pulse.Subscriptions
	pulse.Deliveries
}

// Wrap returns store with the points in its writes. A store that lacks an ability of Full is an error; it may be an Indexer, and
// then the result is one too.
func Wrap(store pulse.Store, points *Points) (pulse.Store, error) {
	full, ok := store.(Full)
	if !ok {
		return nil, fmt.Errorf("failpoint: %w: %T lacks an ability that subscriptions need", pulse.ErrInvalid, store)
	}
	w := &wrapped{Full: full, points: points}
	if ix, ok := store.(pulse.Indexer); ok {
		return &wrappedIndexer{w, ix}, nil
	}
	return w, nil
}

type wrapped struct {
	Full
	points *Points
}

type wrappedIndexer struct {
	*wrapped
	pulse.Indexer
}

// around runs fn between two points. What fails before is an ErrStore; what fails after is an ErrUnknown, since it happened.
func (w *wrapped) around(before, after string, fn func() error) error {
	if err := w.points.Hit(before); err != nil {
		return fmt.Errorf("%w: %w", pulse.ErrStore, err)
	}
	if err := fn(); err != nil {
		return err
	}
	if err := w.points.Hit(after); err != nil {
		return fmt.Errorf("%w: %w", pulse.ErrUnknown, err)
	}
	return nil
}

func (w *wrapped) Append(ctx context.Context, recs []pulse.Record) error {
	return w.around(AppendBefore, AppendAfter, func() error { return w.Full.Append(ctx, recs) })
}

func (w *wrapped) Transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	return w.around(TransactBefore, TransactAfter, func() error {
		return w.Full.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
			if err := fn(ctx, tx); err != nil {
				return err
			}
			return w.points.Hit(TransactAfterHandler)
		})
	})
}

func (w *wrapped) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	return w.around(AdvanceBefore, AdvanceAfter, func() error { return w.Full.Advance(ctx, lease, p) })
}

func (w *wrapped) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (got pulse.Lease, err error) {
	err = w.around(LeaseBefore, LeaseAfter, func() error {
		got, err = w.Full.Acquire(ctx, lease, ttl)
		return err
	})
	return got, err
}
