package pgstore_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

// emitting is one way to emit, with everything a process of its own has.
type emitting struct {
	*testing.B
	bus  *pulse.Bus
	pool *pgxpool.Pool
}

func (e *emitting) emit() error {
	_, err := e.bus.Emit(e.Context(), oneLesson())
	return err
}

func (e *emitting) do() error {
	return pgstore.Do(e.Context(), e.pool, e.bus, func(_ pgx.Tx, to pulse.Emitter) error {
		_, err := to.Emit(e.Context(), oneLesson())
		return err
	})
}

// tx does not tell the bus that it has committed.
func (e *emitting) tx() error {
	return pgx.BeginFunc(e.Context(), e.pool, func(tx pgx.Tx) error {
		_, err := e.bus.In(pgstore.Tx(tx)).Emit(e.Context(), oneLesson())
		return err
	})
}

func oneLesson() pulse.Raw {
	return pulse.Raw{Name: "lesson.published", Key: uuid.NewString(), Data: []byte(lessonData)}
}

// BenchmarkLatency is the time from the begin of an emit to the begin of its handler, at a steady rate. The other process is another pool, store and bus.
func BenchmarkLatency(b *testing.B) {
	for _, way := range []struct {
		name  string
		apart bool
		every time.Duration
		emit  func(e *emitting) error
	}{
		{"emit/same", false, 5 * time.Millisecond, (*emitting).emit},
		{"do/same", false, 5 * time.Millisecond, (*emitting).do},
		{"tx/same", false, 5 * time.Millisecond, (*emitting).tx},
		{"emit/other", true, 5 * time.Millisecond, (*emitting).emit},
		{"tx/other", true, 5 * time.Millisecond, (*emitting).tx},
		{"tx/other/seldom", true, 103 * time.Millisecond, (*emitting).tx},
	} {
		b.Run(way.name, func(b *testing.B) {
			s, dsn := benchmarkStore(b)
			bus := openBus(b, s)
			from := &emitting{b, bus, openPool(b, dsn, "8")}
			if way.apart {
				from.bus = openBus(b, openStore(b, dsn))
			}
			measureLatency(b, bus, way.every, func() error { return way.emit(from) })
		})
	}
}

// measureLatency emits b.N times at a steady rate, whatever becomes of it, and reports when the handler on bus began.
func measureLatency(b *testing.B, bus *pulse.Bus, every time.Duration, emit func() error) {
	handled := make(chan time.Duration, b.N+1)
	err := bus.Subscribe("bench", pulse.OnDelivery("lesson.>", func(_ context.Context, d *pulse.Delivery) error {
		handled <- time.Since(d.Envelope.OccurredAt)
		return nil
	}))
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := bus.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	defer group.Wait()
	defer stop()
	if err := emit(); err != nil { // it has begun when this one is handled
		b.Fatal(err)
	}
	<-handled
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	b.ResetTimer()
	for range b.N {
		<-ticker.C
		group.Go(func() {
			if err := emit(); err != nil {
				b.Error(err)
			}
		})
	}
	took := make([]time.Duration, b.N)
	for i := range took {
		took[i] = <-handled
	}
	b.StopTimer()
	slices.Sort(took)
	milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
	b.ReportMetric(milliseconds(took[len(took)*99/100]), "p99-ms")
}
