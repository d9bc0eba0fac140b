package memstore

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// The inbox holds no more than what lies above the cursor or still has a row.
func TestInboxIsPruned(t *testing.T) {
	ctx := t.Context()
	s := New(nil)
	if _, err := s.Register(ctx, pulse.Registration{Name: "mailer", Start: pulse.Beginning}); err != nil {
		t.Fatal(err)
	}
	lease, err := s.Acquire(ctx, pulse.Lease{Name: "mailer", Holder: "a"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
		_, err := tx.Mark(ctx, lease, []pulse.Position{1, 2, 3, 4, 5})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	inbox := func(want ...pulse.Position) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(s.subs["mailer"].inbox)); !slices.Equal(got, want) {
			t.Fatalf("the inbox holds %v, want %v", got, want)
		}
	}
	advance := func(p pulse.Progress) {
		t.Helper()
		if err := s.Advance(ctx, lease, p); err != nil {
			t.Fatal(err)
		}
	}
	inbox(1, 2, 3, 4, 5)
	advance(pulse.Progress{
		Cursor: pulse.Cursor{Position: 3},
		Put:    []pulse.DeliveryState{{Position: 2, Status: pulse.StatusRetry}, {Position: 3, Status: pulse.StatusDead}},
	})
	inbox(2, 3, 4, 5)
	advance(pulse.Progress{Remove: []pulse.Position{2}})
	inbox(3, 4, 5)
	if _, err := s.Settle(ctx, pulse.DeliveryQuery{}, pulse.SettleDrop); err != nil {
		t.Fatal(err)
	}
	inbox(4, 5)
	advance(pulse.Progress{Cursor: pulse.Cursor{Position: 10}})
	inbox()
	if len(s.claims) != 0 {
		t.Fatalf("%d claims are left by transactions that are over", len(s.claims))
	}
}
