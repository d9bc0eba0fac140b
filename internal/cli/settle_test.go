package cli

import (
	"context"
	"io"
	"slices"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// deadStore is a store of which only the dead letters of one subscription matter.
type deadStore struct {
	failpoint.Full
	dead    []pulse.Position
	settled []pulse.Position // what the last Settle selected
}

func (s *deadStore) States(context.Context) ([]pulse.SubscriptionState, error) {
	return []pulse.SubscriptionState{{Name: "mailer", Dead: len(s.dead)}}, nil
}

func (s *deadStore) List(_ context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
	var rows []pulse.DeliveryState
	for _, p := range s.dead {
		if q.Positions == nil || slices.Contains(q.Positions, p) {
			rows = append(rows, pulse.DeliveryState{Subscription: "mailer", Position: p, Name: "a.b", Status: pulse.StatusDead})
		}
	}
	return rows, nil
}

func (s *deadStore) Settle(ctx context.Context, q pulse.DeliveryQuery, _ pulse.Settlement) (int, error) {
	rows, err := s.List(ctx, q)
	s.settled = positionsOf(rows)
	return len(rows), err
}

// readFunc answers a question, and does something before.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// TestDropOnlyWhatWasConfirmed lets a dead letter come while the person thinks.
func TestDropOnlyWhatWasConfirmed(t *testing.T) {
	store := &deadStore{dead: []pulse.Position{3, 5}}
	a := openMemory(t, func(s pulse.Store) pulse.Store { store.Full = s.(failpoint.Full); return store })
	env, stdout, _ := testEnvironment("")
	env.stdinTerminal, env.stderrTerminal = true, true
	env.stdin = readFunc(func(p []byte) (int, error) {
		store.dead = append(store.dead, 8)
		return copy(p, "y\n"), io.EOF
	})
	f := deadFilter{all: true}
	q, err := f.query("mailer")
	if err != nil {
		t.Fatal(err)
	}
	if err := env.settle(t.Context(), a, q, pulse.SettleDrop, false); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(store.settled, []pulse.Position{3, 5}) || stdout.String() != "2 dead letters of mailer dropped\n" {
		t.Errorf("dropped %v, said %q", store.settled, stdout)
	}
}
