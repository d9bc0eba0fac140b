package pulse_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

var errRefused = errors.New("connection refused")

// outage is a store that does not tell anything while it is down.
type outage struct {
	*memstore.Store
	down *atomic.Bool
}

func (s outage) States(ctx context.Context) ([]pulse.SubscriptionState, error) {
	if s.down.Load() {
		return nil, errRefused
	}
	return s.Store.States(ctx)
}

func (s outage) Info(ctx context.Context) (pulse.Info, error) {
	if s.down.Load() {
		return pulse.Info{}, errRefused
	}
	return s.Store.Info(ctx)
}

// An operator who reads that something fails reads once that it works again.
func TestTheLogSaysWhatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down, busy atomic.Bool
		var logged bytes.Buffer
		store := outage{memstore.New(&memstore.Options{Hook: func(_ context.Context, point string) error {
			if point == memstore.AdvanceBefore && down.Load() {
				return errRefused
			}
			return nil
		}}), &down}
		bus, err := pulse.New(store, &pulse.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		if err != nil {
			t.Fatal(err)
		}
		subscribe(t, bus, "mailer", pulse.On(func(context.Context, lesson) error {
			time.Sleep(time.Second)
			if busy.Load() {
				return pulse.Unavailable(errors.New("smtp is down"))
			}
			return nil
		}))
		stop := (&relayed{Bus: bus}).running(t)
		busy.Store(true)
		emit(t, bus, lesson{"a", 1})
		time.Sleep(1500 * time.Millisecond)
		busy.Store(false)
		time.Sleep(time.Minute)
		emit(t, bus, lesson{"a", 2})
		time.Sleep(time.Second / 2)
		down.Store(true)
		time.Sleep(time.Minute)
		down.Store(false)
		time.Sleep(time.Minute)
		stop()
		for want, times := range map[string]int{
			"a subscription pauses": 1, "a subscription goes on": 2, "the log cannot be looked at": 1, "the log can be looked at again": 1, "will start again": 2,
		} {
			if n := strings.Count(logged.String(), want); n != times {
				t.Errorf("%d times %q, want %d, in\n%s", n, want, times, logged.String())
			}
		}
	})
}
