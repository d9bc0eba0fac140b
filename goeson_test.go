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

// outage is a store whose log cannot be looked at while it is down.
type outage struct {
	*memstore.Store
	down *atomic.Bool
}

func (s outage) Info(ctx context.Context) (pulse.Info, error) {
	if s.down.Load() {
		return pulse.Info{}, errors.New("connection refused")
	}
	return s.Store.Info(ctx)
}

// An operator who reads that something fails reads once that it works again.
func TestTheLogSaysWhatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down, busy atomic.Bool
		var logged bytes.Buffer
		bus, err := pulse.New(outage{memstore.New(nil), &down}, &pulse.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		if err != nil {
			t.Fatal(err)
		}
		subscribe(t, bus, "mailer", pulse.On(func(context.Context, lesson) error {
			if busy.Load() {
				return pulse.Unavailable(errors.New("smtp is down"))
			}
			return nil
		}))
		stop := (&relayed{Bus: bus}).running(t)
		busy.Store(true)
		emit(t, bus, lesson{"a", 1})
		time.Sleep(time.Second)
		busy.Store(false)
		time.Sleep(time.Minute)
		down.Store(true)
		time.Sleep(time.Second)
		down.Store(false)
		emit(t, bus, lesson{"a", 2})
		time.Sleep(time.Minute)
		stop()
		for _, want := range []string{"a subscription goes on", "the log cannot be looked at", "the log can be looked at again"} {
			if n := strings.Count(logged.String(), want); n != 1 {
				t.Errorf("%d times %q in\n%s", n, want, logged.String())
			}
		}
	})
}
