package pgstore_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
)

// The benchmarks here compare in one run, in turns, so that what else the machine does matters less. Run them with -benchtime 10x: that many turns.

const turn = time.Second / 2

// BenchmarkEmitAgainstRaw compares single emits by 256 callers with inserts of a thousand such rows at a time by one connection.
func BenchmarkEmitAgainstRaw(b *testing.B) {
	s, dsn := benchmarkStore(b)
	bus := openBus(b, s)
	conn, err := pgx.Connect(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	createRaw(b, conn)
	var raw, emits float64
	for range b.N {
		recs := make([][]pulse.Record, 0, 300)
		for range cap(recs) {
			recs = append(recs, lessons("raw", 1000)) // made before the time counts
		}
		began, n := time.Now(), 0
		for ; n < len(recs) && time.Since(began) < turn; n++ {
			insertRaw(b, conn, recs[n])
		}
		raw += float64(n) * 1000 / time.Since(began).Seconds()
		emits += during(b, 256, func() error { _, err := bus.Emit(b.Context(), lesson()); return err })
	}
	b.ReportMetric(raw/float64(b.N), "raw-events/s")
	b.ReportMetric(emits/float64(b.N), "emits/s")
	b.ReportMetric(emits/raw, "emits/raw")
}

// during calls step from so many goroutines for one turn and returns how often a second.
func during(b *testing.B, callers int, step func() error) float64 {
	var group sync.WaitGroup
	var done atomic.Int64
	began := time.Now()
	for range callers {
		group.Go(func() {
			for time.Since(began) < turn {
				if err := step(); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	return float64(done.Load()) / time.Since(began).Seconds()
}

// BenchmarkTxCost compares a transaction of one statement with the same and an event in it: over 64 connections as fast as they can, and 200 a second.
func BenchmarkTxCost(b *testing.B) {
	s, dsn := benchmarkStore(b)
	bus, pool := openBus(b, s), openPool(b, dsn, "64")
	run(b, pool, "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)")
	with := func() error {
		return pgstore.Do(b.Context(), pool, bus, func(tx pgx.Tx, e pulse.Emitter) error {
			if err := takeNote(b.Context(), tx); err != nil {
				return err
			}
			_, err := e.Emit(b.Context(), lesson())
			return err
		})
	}
	without := func() error { return withoutEvent(b.Context(), pool) }
	during(b, 64, with) // each connection of the server makes its plans
	b.Run("connections=64", func(b *testing.B) {
		var plain, events float64
		for range b.N {
			plain += during(b, 64, without)
			events += during(b, 64, with)
		}
		b.ReportMetric(plain/float64(b.N), "without/s")
		b.ReportMetric(events/float64(b.N), "with/s")
		b.ReportMetric(plain/events, "cost")
	})
	b.Run("rate=200", func(b *testing.B) {
		var plain, events []time.Duration
		for range b.N {
			plain = append(plain, steadily(b, without)...)
			events = append(events, steadily(b, with)...)
		}
		slices.Sort(plain)
		slices.Sort(events)
		milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		b.ReportMetric(milliseconds(plain[len(plain)/2]), "without-p50-ms")
		b.ReportMetric(milliseconds(events[len(events)/2]), "with-p50-ms")
	})
}

func takeNote(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "INSERT INTO notes (note) VALUES ($1)", "read chapter one")
	return err
}

func withoutEvent(ctx context.Context, pool *pgxpool.Pool) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return takeNote(ctx, tx) })
}

// steadily calls step 200 times a second for one turn, whether the former call has returned or not, and returns how long each took.
func steadily(b *testing.B, step func() error) []time.Duration {
	took := make([]time.Duration, 200)
	ticker := time.NewTicker(turn / time.Duration(len(took)))
	defer ticker.Stop()
	var group sync.WaitGroup
	for i := range took {
		<-ticker.C
		group.Go(func() {
			began := time.Now()
			if err := step(); err != nil {
				b.Error(err)
			}
			took[i] = time.Since(began)
		})
	}
	group.Wait()
	return took
}
