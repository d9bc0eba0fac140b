package pulse_test

import (
	"context"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// cancellable is a store that reads nothing for a context that has ended, as databases do.
type cancellable struct{ *memstore.Store }

func (s cancellable) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	if err := ctx.Err(); err != nil {
		return pulse.Page{}, err
	}
	return s.Store.Read(ctx, q)
}

func TestRunStopsInTheMiddleOfABacklog(t *testing.T) {
	bus, err := pulse.New(cancellable{memstore.New(nil)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	handling, release := make(chan struct{}, 1), make(chan struct{})
	subscribe(t, bus, "slow", pulse.Concurrency(1), pulse.On(func(context.Context, lesson) error {
		select {
		case handling <- struct{}{}:
		default:
		}
		<-release
		return nil
	}))
	backlog := make([]pulse.Event, 10_000) // more than a session keeps in memory: its reader waits
	for i := range backlog {
		backlog[i] = lesson{N: i}
	}
	if _, err := bus.EmitAll(t.Context(), backlog); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- bus.Run(ctx) }()
	<-handling
	stop()
	close(release)
	select {
	case err := <-ran:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run did not return after its context ended")
	}
	state := one(t, bus)
	if lag := state.Lag(); lag < 1000 {
		t.Errorf("%d events were left: a stopped subscription went on reading", lag)
	}
}
