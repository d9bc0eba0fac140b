package pulse_test

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
	"github.com/edupulse-live/pulse/memstore"
)

// What a user gets wrong is an ErrInvalid, and no panic.
func TestMistakes(t *testing.T) {
	bus, _ := newBus(t)
	emit(t, bus, lesson{"a", 1})
	load := func(_ any, err error) error { return err }
	first := func(seq func(func(pulse.Loaded[pulse.Raw], error) bool)) (err error) {
		seq(func(_ pulse.Loaded[pulse.Raw], e error) bool { err = e; return false })
		return err
	}
	byPointer := func() (err error) {
		for _, err = range pulse.Load[*lesson](t.Context(), bus, pulse.Query{}) {
			break
		}
		return err
	}
	handler := pulse.On(func(context.Context, lesson) error { return nil })
	for name, err := range map[string]error{
		"an option of an emit":         load(bus.Emit(t.Context(), lesson{"a", 1}, nil)),
		"an option of a subscription":  bus.Subscribe("mailer", handler, nil),
		"an option of a destination":   bus.Publish("nats", membroker.New(nil).Publisher("nats"), nil),
		"a middleware":                 bus.Subscribe("mailer", handler, pulse.Use(nil)),
		"a transaction":                load(bus.In(nil).Emit(t.Context(), lesson{"a", 1})),
		"a longest wait that is short": bus.Subscribe("mailer", handler, pulse.Retry(pulse.RetryPolicy{First: time.Hour, Max: time.Minute})),
		"a type loaded by pointer":     byPointer(),
		"a type loaded without a name": first(pulse.Load[pulse.Raw](t.Context(), bus, pulse.Query{Name: "lesson.changed"})),
	} {
		if !errors.Is(err, pulse.ErrInvalid) {
			t.Errorf("%s: %v, want an ErrInvalid", name, err)
		}
	}
}

// room has a key that may be nothing.
type room struct {
	Number encoding.TextMarshaler `json:"number" pulse:"key"`
}

func (room) EventName() string { return "room.opened" }

func TestKeyOfNothing(t *testing.T) {
	bus, _ := newBus(t)
	if _, err := bus.Emit(t.Context(), room{}); err != nil {
		t.Fatal(err)
	}
	for env, err := range bus.Log(t.Context(), pulse.Query{}) {
		if err != nil || env.Key != "" {
			t.Errorf("key %q, %v", env.Key, err)
		}
	}
}

// curt answers for one event less than it gets, so for none of one.
type curt struct{ pulse.Publisher }

func (c curt) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	rs := c.Publisher.PublishBatch(ctx, envs)
	return rs[:len(rs)-1]
}

// A publisher that gives fewer answers than it got events has the others published again.
func TestPublisherOfTooFewAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		broker := membroker.New(nil)
		if err := bus.Publish("nats", curt{broker.Publisher("nats")}); err != nil {
			t.Fatal(err)
		}
		emit(t, bus, lesson{"a", 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := bus.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if s := one(t, bus); s.Cursor.Position != 0 || !strings.Contains(s.PauseReason, "0 answers for 1 events") {
			t.Errorf("the relay is at position %d, paused because %q", s.Cursor.Position, s.PauseReason)
		}
	})
}

// panicking is a publisher with a mistake in it.
type panicking struct{ pulse.Publisher }

func (panicking) PublishBatch(context.Context, []pulse.Envelope) []pulse.Result {
	panic("index out of range")
}

// A publisher that panics has not answered: other subscriptions of the process go on.
func TestPublisherThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := pulse.New(memstore.New(nil), quiet)
		if err != nil {
			t.Fatal(err)
		}
		var handled atomic.Int32
		subscribe(t, bus, "mailer", pulse.On(func(context.Context, lesson) error { handled.Add(1); return nil }))
		if err := bus.Publish("nats", panicking{membroker.New(nil).Publisher("nats")}); err != nil {
			t.Fatal(err)
		}
		stop := (&relayed{Bus: bus}).running(t)
		emit(t, bus, lesson{"a", 1})
		time.Sleep(time.Minute)
		stop()
		states, err := bus.Subscriptions(t.Context())
		if err != nil || handled.Load() != 1 {
			t.Fatalf("%d handled, %v", handled.Load(), err)
		}
		for _, s := range states {
			if relay := s.Name == pulse.RelayName("nats"); relay && (s.Cursor.Position != 0 || !strings.Contains(s.PauseReason, "panicked: index out of range")) {
				t.Errorf("the relay is at position %d, paused because %q", s.Cursor.Position, s.PauseReason)
			}
		}
	})
}

// Also when they are republished.
func TestRepublishWithTooFewAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n, err := s.bus.Republish(ctx, "memory", curt{s.broker.Publisher("memory")}, pulse.Query{}, nil)
		if n != 3 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d of 20 were taken, %v, want three of the first four, and the last one of them again and again", n, err)
		}
	})
}

// Events that the destination refuses hold up only those of their keys.
func TestRefusalsAreNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := pulse.New(memstore.New(nil), quiet)
		if err != nil {
			t.Fatal(err)
		}
		if err := bus.Publish("nats", picky{membroker.New(nil).Publisher("nats")}); err != nil {
			t.Fatal(err)
		}
		for i := range 500 {
			emit(t, bus, lesson{fmt.Sprint(i), i})
		}
		start := time.Now()
		drain(t, bus)
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// picky refuses every tenth event.
type picky struct{ pulse.Publisher }

func (p picky) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	for i := range envs {
		if envs[i].Position%10 == 0 {
			rs := p.Publisher.PublishBatch(ctx, envs[:i])
			rs = append(rs, pulse.Result{Outcome: pulse.Rejected, Err: errors.New("not this one")})
			for range envs[i+1:] {
				rs = append(rs, pulse.Result{Outcome: pulse.Withheld, Err: errors.New("not tried")})
			}
			return rs
		}
	}
	return p.Publisher.PublishBatch(ctx, envs)
}

// Close ends all that was begun before it with an ErrClosed.
func TestClosedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, store := newBus(t)
		subscribe(t, bus, "mailer", pulse.On(func(context.Context, lesson) error { return errors.New("no") }))
		emit(t, bus, lesson{"a", 1})
		drained := make(chan error)
		go func() { drained <- bus.Drain(t.Context()) }()
		time.Sleep(10 * time.Millisecond)
		if err := bus.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-drained; !errors.Is(err, pulse.ErrClosed) {
			t.Errorf("Drain: %v", err)
		}
		if _, err := bus.In(store).Emit(t.Context(), lesson{"a", 2}); !errors.Is(err, pulse.ErrClosed) {
			t.Errorf("Emit in a transaction: %v", err)
		}
	})
}

// While Close waits for the handlers they can emit, in their transactions too.
func TestCloseLetsHandlersEmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		handle := func(ctx context.Context) error {
			time.Sleep(time.Second)
			_, err := bus.Emit(ctx, quiz{})
			return err
		}
		subscribe(t, bus, "plain", pulse.On(func(ctx context.Context, _ lesson) error { return handle(ctx) }))
		subscribe(t, bus, "tx", pulse.OnTx(func(ctx context.Context, _ pulse.Tx, _ lesson) error { return handle(ctx) }))
		emit(t, bus, lesson{"a", 1})
		(&relayed{Bus: bus}).running(t)
		time.Sleep(500 * time.Millisecond)
		if err := bus.Close(); err != nil {
			t.Fatal(err)
		}
		if rows, err := bus.Deliveries(t.Context(), pulse.DeliveryQuery{}); len(rows) != 0 || err != nil {
			t.Errorf("handlers failed: %+v, %v", rows, err)
		}
		if n := len(logOf(t, bus)); n != 3 {
			t.Errorf("%d events in the log, want that of each handler behind the first", n)
		}
	})
}
