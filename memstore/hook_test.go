package memstore_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/storetest"
)

var errFault = errors.New("the disk is on fire")

// faulty is a store whose hook fails at one point.
type faulty struct {
	*memstore.Store
	point string   // where the hook fails; "" for nowhere
	seen  []string // the points passed
	lease pulse.Lease
	rec   pulse.Record
}

// newFaulty returns a store with a subscription, its lease, a dead letter, and no fault yet.
func newFaulty(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{}
	f.Store = memstore.New(&memstore.Options{Hook: func(_ context.Context, point string) error {
		f.seen = append(f.seen, point)
		if point == f.point {
			return errFault
		}
		return nil
	}})
	f.rec = storetest.Record("pulse/mem")
	ctx := t.Context()
	_, err := f.Register(ctx, pulse.Registration{Name: "mailer", Start: pulse.Beginning})
	if err == nil {
		f.lease, err = f.Acquire(ctx, pulse.Lease{Name: "mailer", Holder: "a"}, time.Hour)
	}
	if err == nil {
		err = f.Advance(ctx, f.lease, pulse.Progress{Put: []pulse.DeliveryState{{Position: 1, Status: pulse.StatusDead}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *faulty) state(t *testing.T) pulse.SubscriptionState {
	t.Helper()
	states, err := f.States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Name == "mailer" {
			return s
		}
	}
	t.Fatal("no subscription mailer")
	return pulse.SubscriptionState{}
}

func (f *faulty) head(t *testing.T) pulse.Position {
	t.Helper()
	info, err := f.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.Head
}

// write is one write of the store, with the points around it.
type write struct {
	name   string
	before []string // points at which an error leaves nothing done
	after  string   // point at which an error comes too late
	late   error    // the sentinel of an error at after
	do     func(ctx context.Context, f *faulty) error
	done   func(t *testing.T, f *faulty) bool
}

func writes() []write {
	events := func(t *testing.T, f *faulty) bool { return f.head(t) == 1 }
	appending := func(ctx context.Context, f *faulty) error {
		return f.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
			return tx.Append(ctx, []pulse.Record{f.rec})
		})
	}
	return []write{
		{
			"Append",
			[]string{memstore.AppendBefore},
			memstore.AppendAfter, pulse.ErrUnknown,
			func(ctx context.Context, f *faulty) error { return f.Append(ctx, []pulse.Record{f.rec}) }, events,
		},
		{
			"Transact",
			[]string{memstore.TransactBegin, memstore.TxAppendBefore, memstore.TxAppendAfter, memstore.TransactBeforeCommit},
			memstore.TransactAfterCommit, pulse.ErrUnknown, appending, events,
		},
		{
			"Mark",
			[]string{memstore.MarkBefore, memstore.MarkAfter},
			memstore.TransactAfterCommit, pulse.ErrUnknown,
			func(ctx context.Context, f *faulty) error { _, err := mark(ctx, f, 5); return err },
			func(t *testing.T, f *faulty) bool {
				seen, err := mark(t.Context(), f, 5)
				return err == nil && len(seen) == 1
			},
		},
		{
			"Acquire",
			[]string{memstore.LeaseBefore},
			memstore.LeaseAfter, pulse.ErrStore,
			func(ctx context.Context, f *faulty) error {
				if err := f.Release(ctx, f.lease); err != nil {
					return err
				}
				_, err := f.Acquire(ctx, pulse.Lease{Name: "mailer", Holder: "b"}, time.Hour)
				return err
			},
			func(t *testing.T, f *faulty) bool { return f.state(t).Holder == "b" },
		},
		{
			"Release",
			[]string{memstore.ReleaseBefore},
			memstore.ReleaseAfter, pulse.ErrStore,
			func(ctx context.Context, f *faulty) error { return f.Release(ctx, f.lease) },
			func(t *testing.T, f *faulty) bool { return f.state(t).Holder == "" },
		},
		{
			"Register",
			[]string{memstore.RegisterBefore},
			memstore.RegisterAfter, pulse.ErrStore,
			func(ctx context.Context, f *faulty) error {
				_, err := f.Register(ctx, pulse.Registration{Name: "search", Start: pulse.Now})
				return err
			},
			func(t *testing.T, f *faulty) bool { s, err := f.States(t.Context()); return err == nil && len(s) == 2 },
		},
		{
			"Control",
			[]string{memstore.ControlBefore},
			memstore.ControlAfter, pulse.ErrStore,
			func(ctx context.Context, f *faulty) error {
				return f.Control(ctx, "mailer", pulse.Control{Pause: &pulse.Pause{Until: pulse.Forever}})
			},
			func(t *testing.T, f *faulty) bool { return f.state(t).PausedUntil.Equal(pulse.Forever) },
		},
		{
			"Advance",
			[]string{memstore.AdvanceBefore},
			memstore.AdvanceAfter, pulse.ErrStore,
			func(ctx context.Context, f *faulty) error {
				return f.Advance(ctx, f.lease, pulse.Progress{Cursor: pulse.Cursor{Position: 9}})
			},
			func(t *testing.T, f *faulty) bool { return f.state(t).Cursor.Position == 9 },
		},
		{
			"Settle",
			[]string{memstore.SettleBefore},
			memstore.SettleAfter, pulse.ErrStore,
			func(ctx context.Context, f *faulty) error {
				_, err := f.Settle(ctx, pulse.DeliveryQuery{}, pulse.SettleDrop)
				return err
			},
			func(t *testing.T, f *faulty) bool { return f.state(t).Dead == 0 },
		},
	}
}

func mark(ctx context.Context, f *faulty, p pulse.Position) (seen []pulse.Position, err error) {
	err = f.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
		seen, err = tx.Mark(ctx, f.lease, []pulse.Position{p})
		return err
	})
	return seen, err
}

func TestHookFailsAWriteBeforeOrAfterItIsDone(t *testing.T) {
	for _, w := range writes() {
		for _, point := range w.before {
			t.Run(w.name+" fails at "+point, func(t *testing.T) {
				f := newFaulty(t)
				f.point = point
				err := w.do(t.Context(), f)
				f.point = ""
				if !errors.Is(err, errFault) || !errors.Is(err, pulse.ErrStore) || errors.Is(err, pulse.ErrUnknown) {
					t.Errorf("error is %v, want an ErrStore with the fault", err)
				}
				if w.done(t, f) {
					t.Error("it was done")
				}
			})
		}
		t.Run(w.name+" fails at "+w.after, func(t *testing.T) {
			f := newFaulty(t)
			f.point = w.after
			err := w.do(t.Context(), f)
			f.point = ""
			if !errors.Is(err, errFault) || !errors.Is(err, w.late) {
				t.Errorf("error is %v, want a %v with the fault", err, w.late)
			}
			if !w.done(t, f) {
				t.Error("it was not done")
			}
		})
		t.Run(w.name+" passes its points in order", func(t *testing.T) {
			f := newFaulty(t)
			f.seen = nil
			if err := w.do(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			want := append(slices.Clone(w.before), w.after)
			i := 0
			for _, point := range f.seen {
				if i < len(want) && point == want[i] {
					i++
				}
			}
			if i != len(want) {
				t.Errorf("passed %v, want %v among them in order", f.seen, want)
			}
		})
	}
}

// The hook may use the store it is called from: it is called while the store is unlocked.
func TestHookMayUseTheStore(t *testing.T) {
	var store *memstore.Store
	calls := 0
	store = memstore.New(&memstore.Options{Hook: func(ctx context.Context, _ string) error {
		calls++
		_, err := store.Info(ctx)
		return err
	}})
	err := store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		return tx.Append(ctx, []pulse.Record{storetest.Record("pulse/mem")})
	})
	if err != nil || calls != 5 {
		t.Fatalf("error is %v after %d calls of the hook, want nil after 5", err, calls)
	}
}
