package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

type lessonPublished struct {
	Title string `json:"title"`
}

func (lessonPublished) EventName() string { return "lesson.published" }

func newBus(t testing.TB, store *memstore.Store, opts ...pulse.SubscribeOption) *pulse.Bus {
	t.Helper()
	bus, err := pulse.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
	if len(opts) > 0 {
		if err := bus.Subscribe("mailer", opts...); err != nil {
			t.Fatal(err)
		}
	}
	return bus
}

func TestDo(t *testing.T) {
	store := memstore.New(nil)
	var handled atomic.Int64
	bus := newBus(t, store, pulse.On(func(context.Context, lessonPublished) error {
		handled.Add(1)
		return nil
	}))
	for i := range 4 {
		err := memstore.Do(t.Context(), store, bus, func(tx *memstore.Tx, e pulse.Emitter) error {
			if tx == nil {
				t.Error("no transaction")
			}
			if _, err := e.Emit(t.Context(), lessonPublished{Title: fmt.Sprint("Fractions ", i)}); err != nil {
				return err
			}
			if i%2 == 1 {
				return errFault
			}
			return nil
		})
		if (i%2 == 1) != errors.Is(err, errFault) {
			t.Fatalf("transaction %d: %v", i, err)
		}
	}
	if err := bus.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := handled.Load(); n != 2 {
		t.Fatalf("%d events were handled, want the 2 of the transactions that committed", n)
	}
}

// A handler in a transaction emits into it; emitting beside it does not wait for it.
func TestHandlersInTransactions(t *testing.T) {
	store := memstore.New(nil)
	var bus *pulse.Bus
	bus = newBus(t, store, pulse.OnTx(func(ctx context.Context, _ pulse.Tx, e lessonPublished) error {
		if _, err := bus.Emit(ctx, pulse.Raw{Name: "mail.sent", Data: []byte(`{}`)}); err != nil {
			return err
		}
		_, err := bus.Emit(t.Context(), pulse.Raw{Name: "beside.it", Data: []byte(`{}`)})
		return err
	}))
	if _, err := bus.Emit(t.Context(), lessonPublished{Title: "Fractions"}); err != nil {
		t.Fatal(err)
	}
	if err := bus.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []string
	for env, err := range bus.Log(t.Context(), pulse.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, env.Name)
	}
	if got := fmt.Sprint(names); got != "[lesson.published beside.it mail.sent]" {
		t.Fatalf("the log is %s", got)
	}
}
