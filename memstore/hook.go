package memstore

import (
	"context"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// Hook is called around each write, at the point named. An error it returns before the write makes the call
// fail with nothing done. An error it returns after the write is reported although the write was done: as
// an ErrUnknown where events were appended, as an ErrStore otherwise. It may block, and may use the store.
type Hook func(ctx context.Context, point string) error

// The points at which a Hook is called.
const (
	AppendBefore = "append.before" // Store.Append
	AppendAfter  = "append.after"

	TransactBegin        = "transact.begin"        // before the function runs
	TransactBeforeCommit = "transact.beforeCommit" // the function returned nil; an error rolls back
	TransactAfterCommit  = "transact.afterCommit"

	TxAppendBefore = "tx.append.before" // Tx.Append
	TxAppendAfter  = "tx.append.after"
	MarkBefore     = "mark.before" // Tx.Mark
	MarkAfter      = "mark.after"

	LeaseBefore   = "lease.before" // Acquire
	LeaseAfter    = "lease.after"
	ReleaseBefore = "release.before"
	ReleaseAfter  = "release.after"

	RegisterBefore = "register.before"
	RegisterAfter  = "register.after"
	ControlBefore  = "control.before"
	ControlAfter   = "control.after"

	AdvanceBefore = "advance.before"
	AdvanceAfter  = "advance.after"
	SettleBefore  = "settle.before"
	SettleAfter   = "settle.after"
)

// hook calls the user's hook; its error becomes an ErrStore.
func (s *Store) hook(ctx context.Context, point string) error {
	return s.fault(ctx, point, pulse.ErrStore)
}

// fault calls the user's hook; its error is wrapped as the sentinel.
func (s *Store) fault(ctx context.Context, point string, sentinel error) error {
	if s.opts.Hook == nil {
		return nil
	}
	if err := s.opts.Hook(ctx, point); err != nil {
		return fmt.Errorf("memstore: fault at %s: %w: %w", point, sentinel, err)
	}
	return nil
}
