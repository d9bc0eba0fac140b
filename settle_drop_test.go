package pulse_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

var quiet = &pulse.Options{Logger: slog.New(slog.DiscardHandler)}

// audited returns the positions that audit events name.
func audited(t *testing.T, bus *pulse.Bus) (positions []pulse.Position) {
	t.Helper()
	for env, err := range bus.Log(t.Context(), pulse.Query{Name: pulse.DroppedName}) {
		if err != nil {
			t.Fatal(err)
		}
		var audit struct {
			Letters []struct{ Position pulse.Position } `json:"dead_letters"`
		}
		if err := json.Unmarshal(env.Data, &audit); err != nil {
			t.Fatal(err)
		}
		for _, l := range audit.Letters {
			positions = append(positions, l.Position)
		}
	}
	return positions
}

// However many dead letters are dropped, audit events name them all.
func TestDropMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := pulse.New(memstore.New(nil), quiet)
		if err != nil {
			t.Fatal(err)
		}
		const letters = 6000 // more than an event takes
		subscribe(t, bus, "mailer", pulse.PauseAfter(letters+1), pulse.On(func(context.Context, lesson) error { return pulse.Park("no such address") }))
		for i := range letters {
			emit(t, bus, lesson{fmt.Sprint(i), i})
		}
		drain(t, bus)
		n, err := bus.Settle(t.Context(), pulse.DeliveryQuery{Subscription: "mailer"}, pulse.SettleDrop)
		if named := len(audited(t, bus)); n != letters || named != letters || err != nil {
			t.Errorf("%d were dropped and %d audited of %d: %v", n, named, letters, err)
		}
	})
}

// What dies while dead letters are dropped stays: no audit event names it.
func TestDropLeavesWhatIsNotAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bus *pulse.Bus
		var once atomic.Bool
		store := memstore.New(&memstore.Options{Hook: func(_ context.Context, point string) error {
			if point == memstore.SettleBefore && once.CompareAndSwap(false, true) {
				emit(t, bus, lesson{"b", 2})
				time.Sleep(time.Second) // until it is dead too
			}
			return nil
		}})
		bus, err := pulse.New(store, quiet)
		if err != nil {
			t.Fatal(err)
		}
		subscribe(t, bus, "mailer", pulse.On(func(context.Context, lesson) error { return pulse.Park("no such address") }))
		emit(t, bus, lesson{"a", 1})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- bus.Run(ctx) }()
		time.Sleep(time.Second)
		n, err := bus.Settle(t.Context(), pulse.DeliveryQuery{Subscription: "mailer"}, pulse.SettleDrop)
		left, _ := bus.Deliveries(t.Context(), pulse.DeliveryQuery{Statuses: []pulse.DeliveryStatus{pulse.StatusDead}})
		if named := audited(t, bus); n != 1 || err != nil || len(named) != 1 || len(left) != 1 || left[0].Position == named[0] {
			t.Errorf("%d dropped (%v), %v audited, %v left", n, err, named, left)
		}
		cancel()
		<-ran
	})
}

// What a handler drops is dropped whatever becomes of its transaction, and so is its audit event kept.
func TestDropsInATransactionAreAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := pulse.New(memstore.New(nil), quiet)
		if err != nil {
			t.Fatal(err)
		}
		subscribe(t, bus, "mailer", pulse.On(func(context.Context, lesson) error { return pulse.Park("no address") }))
		emit(t, bus, lesson{"a", 1})
		drain(t, bus)
		subscribe(t, bus, "janitor", pulse.OnTx(func(ctx context.Context, _ pulse.Tx, _ quiz) error {
			if n, err := bus.Settle(ctx, pulse.DeliveryQuery{Subscription: "mailer"}, pulse.SettleDrop); n != 1 || err != nil {
				t.Errorf("dropped %d, %v", n, err)
			}
			return pulse.Park("rolled back")
		}))
		if _, err := bus.Emit(t.Context(), quiz{}); err != nil {
			t.Fatal(err)
		}
		drain(t, bus)
		if named := audited(t, bus); len(named) != 1 || named[0] != 1 {
			t.Errorf("audit events name %v, want the first event", named)
		}
	})
}
