// Package pulsetest helps to test applications that use Pulse. Its functions fail the test they are given instead of
// returning errors.
//
// To test code that emits, give it a Recorder. To test it together with its handlers, give it a bus:
//
//	bus := pulsetest.New(t)
//	err := bus.Subscribe("mailer", pulse.On(mailer.Welcome))
//	school.Enroll(ctx, bus, student)
//	pulsetest.RequireEmitted(t, bus, StudentEnrolled{…})
//	pulsetest.Drain(t, bus)
//
// The functions take any bus, also one over a store on disk. What they see of its log is what was committed.
package pulsetest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// drainLimit is how long Drain waits, unless the test itself must end earlier.
const drainLimit = 30 * time.Second

// New returns a bus over an empty store in memory, whose log goes to the test's output. It is closed when the test ends.
func New(t testing.TB) *pulse.Bus {
	t.Helper()
	store := memstore.New(nil)
	bus, err := pulse.New(store, &pulse.Options{
		Source: "/test",
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatalf("pulsetest: %v", err)
	}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Errorf("pulsetest: close the bus: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Errorf("pulsetest: close the store: %v", err)
		}
	})
	return bus
}

// Emitted returns the events of type E in the log of bus, in the order they were emitted.
func Emitted[E pulse.Event](t testing.TB, bus *pulse.Bus) []E {
	t.Helper()
	var all []E
	for l, err := range pulse.Load[E](t.Context(), bus, pulse.Query{}) {
		if err != nil {
			t.Fatalf("pulsetest: %v", err)
		}
		all = append(all, l.Event)
	}
	return all
}

// RequireEmitted fails the test unless exactly want was emitted of type E, in this order. Events are equal when
// their JSON is; what was emitted and has no field in E does not count. Without want nothing of type E may have been emitted: RequireEmitted[E](t, bus).
func RequireEmitted[E pulse.Event](t testing.TB, bus *pulse.Bus, want ...E) {
	t.Helper()
	got, wanted := lines(t, Emitted[E](t, bus)), lines(t, want)
	if slices.Equal(got, wanted) {
		return
	}
	t.Fatalf("pulsetest: emitted %d events of type %T:\n%swanted %d:\n%s",
		len(got), *new(E), strings.Join(got, ""), len(wanted), strings.Join(wanted, ""))
}

// lines is each event as JSON on a line.
func lines[E pulse.Event](t testing.TB, events []E) []string {
	t.Helper()
	var all []string
	for _, e := range events {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatalf("pulsetest: %v", err)
		}
		all = append(all, "\t"+string(data)+"\n")
	}
	return all
}

// Drain runs the subscriptions of bus until everything emitted so far is handled, a dead letter or behind one. When that
// does not come to an end it fails the test and says what each subscription is waiting for.
func Drain(t testing.TB, bus *pulse.Bus) {
	t.Helper()
	limit := drainLimit
	if dt, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, ok := dt.Deadline(); ok {
			limit = min(limit, time.Until(end)*9/10) // there is time to say why
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := bus.Drain(ctx); err != nil {
		t.Fatalf("pulsetest: %v\n%s", err, unfinished(bus))
	}
}

// unfinished describes what the subscriptions of bus have not handled.
func unfinished(bus *pulse.Bus) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var b strings.Builder
	states, err := bus.Subscriptions(ctx)
	for _, s := range states {
		fmt.Fprintf(&b, "subscription %q has handled up to position %d of %d", s.Name, s.Cursor.Position, s.Head)
		if time.Until(s.PausedUntil) > 0 {
			fmt.Fprintf(&b, ", is paused (%s)", s.PauseReason)
		}
		fmt.Fprintln(&b)
	}
	rows, listErr := bus.Deliveries(ctx, pulse.DeliveryQuery{Limit: 20})
	for _, d := range rows {
		fmt.Fprintf(&b, "\t%s at position %d: %s after %d attempts in %q: %s\n", d.Name, d.Position, d.Status, d.Attempt, d.Subscription, d.Error)
	}
	for _, err := range []error{err, listErr} {
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
		}
	}
	return b.String()
}
