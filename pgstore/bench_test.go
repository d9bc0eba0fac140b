package pgstore_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
	"github.com/edupulse-live/pulse/storetest"
)

// lessons returns n records of an ordinary size.
func lessons(origin string, n int) []pulse.Record {
	recs := make([]pulse.Record, n)
	for i := range recs {
		recs[i] = storetest.Record(origin, func(r *pulse.Record) {
			r.Key = "0199c0a2-1111-7000-8000-000000000001"
			r.Actor = r.ID
			r.Correlation = r.ID.String()
			r.Data = []byte(lessonData)
		})
	}
	return recs
}

const lessonData = `{"lesson_id":"0199c0a2-1111-7000-8000-000000000001","course_id":"0199c0a2-2222-7000-8000-000000000001","title":"Introduction to biology, chapter one"}`

// The benchmarks measure events: ns/op is the time for one. The server syncs each commit.

func benchmarkStore(b *testing.B) (*pgstore.Store, string) {
	srv, err := pgtest.Start("fsync=on", "max_wal_size=4GB")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := srv.Remove(); err != nil {
			b.Error(err)
		}
	})
	s, err := pgstore.Open(b.Context(), srv.DSN(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s, srv.DSN()
}

func perSecond(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s") }

// BenchmarkRaw is what the server does without Pulse: rows like those of events, by one connection.
func BenchmarkRaw(b *testing.B) {
	for _, size := range []int{1, 256, 1000} {
		b.Run(fmt.Sprintf("unnest=%d", size), func(b *testing.B) {
			_, dsn := benchmarkStore(b)
			conn, err := pgx.Connect(b.Context(), dsn)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close(context.Background())
			recs := lessons("raw", b.N)
			createRaw(b, conn)
			b.ResetTimer()
			for unit := range slices.Chunk(recs, size) {
				insertRaw(b, conn, unit)
			}
			perSecond(b)
		})
	}
}

// createRaw creates a table like that of events, with the same indexes.
func createRaw(b *testing.B, conn *pgx.Conn) {
	b.Helper()
	run(b, conn, `CREATE TABLE raw (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(), epoch int NOT NULL DEFAULT 1,
		event_id uuid UNIQUE, name text COLLATE "C", version int, source text COLLATE "C",
		occurred_at timestamptz, recorded_at timestamptz DEFAULT clock_timestamp(), actor uuid, correlation text COLLATE "C", key text COLLATE "C",
		fact_salt bytea, link_salt bytea, digests bytea, commitment bytea, format int, data json)`)
	run(b, conn, "CREATE INDEX ON raw (epoch, xid)")
}

// insertRaw inserts rows as one usually does.
func insertRaw(b *testing.B, conn *pgx.Conn, recs []pulse.Record) {
	n := len(recs)
	ids, actors := make([][16]byte, n), make([][16]byte, n)
	names, sources, correlations, keys, data := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	versions, formats, occurred := make([]int32, n), make([]int32, n), make([]time.Time, n)
	facts, links, digests, commitments := make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
	for i := range recs {
		r := &recs[i]
		ids[i], actors[i], names[i], sources[i], correlations[i], keys[i], data[i] = r.ID, r.Actor, r.Name, r.Source, r.Correlation, r.Key, string(r.Data)
		versions[i], formats[i], occurred[i] = int32(r.Version), int32(r.Format), r.OccurredAt
		facts[i], links[i], digests[i], commitments[i] = r.FactSalt[:], r.LinkSalt[:], r.Digests, r.Commitment[:]
	}
	_, err := conn.Exec(b.Context(), `INSERT INTO raw
		(event_id, name, version, source, occurred_at, actor, correlation, key, fact_salt, link_salt, digests, commitment, format, data)
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::int4[], $4::text[], $5::timestamptz[], $6::uuid[], $7::text[], $8::text[],
		$9::bytea[], $10::bytea[], $11::bytea[], $12::bytea[], $13::int4[], $14::json[])`,
		ids, names, versions, sources, occurred, actors, correlations, keys, facts, links, digests, commitments, formats, data)
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAppend is Append of units by one caller.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 256, 1000} {
		b.Run(fmt.Sprintf("unit=%d", size), func(b *testing.B) {
			s, _ := benchmarkStore(b)
			info, err := s.Info(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			recs := lessons(info.Origin, b.N)
			b.ResetTimer()
			for unit := range slices.Chunk(recs, size) {
				if err := s.Append(b.Context(), unit); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b)
		})
	}
}

// BenchmarkEmit is Emit of single events by many callers at once.
func BenchmarkEmit(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, _ := benchmarkStore(b)
			bus, err := pulse.New(s, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer bus.Close()
			ev := pulse.Raw{Name: "lesson.published", Key: "0199c0a2-1111-7000-8000-000000000001", Data: []byte(lessonData)}
			each(b, callers, func() error { _, err := bus.Emit(b.Context(), ev); return err })
			perSecond(b)
		})
	}
}

// BenchmarkTx is one event in each transaction of the user's, from many connections.
func BenchmarkTx(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, dsn := benchmarkStore(b)
			bus, err := pulse.New(s, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer bus.Close()
			pool, err := pgxpool.New(b.Context(), dsn+" pool_max_conns=16")
			if err != nil {
				b.Fatal(err)
			}
			defer pool.Close()
			ev := pulse.Raw{Name: "lesson.published", Key: "0199c0a2-1111-7000-8000-000000000001", Data: []byte(lessonData)}
			each(b, callers, func() error {
				return pgstore.Do(b.Context(), pool, bus, func(_ pgx.Tx, e pulse.Emitter) error {
					_, err := e.Emit(b.Context(), ev)
					return err
				})
			})
			perSecond(b)
		})
	}
}

// BenchmarkOnTx is a handler that changes a row and emits in the transaction that remembers the delivery.
func BenchmarkOnTx(b *testing.B) {
	for _, workers := range []int{1, 8} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			s, dsn := benchmarkStore(b)
			bus, err := pulse.New(s, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer bus.Close()
			run(b, openPool(b, dsn, "1"), "CREATE TABLE mails (n int)")
			err = bus.Subscribe("mailer", pulse.Start(pulse.Beginning), pulse.Concurrency(workers), pgstore.OnTx(func(ctx context.Context, tx pgx.Tx, e published) error {
				if _, err := tx.Exec(ctx, "INSERT INTO mails VALUES ($1)", e.N); err != nil {
					return err
				}
				_, err := bus.Emit(ctx, pulse.Raw{Name: "mail.sent", Data: []byte(`{}`)})
				return err
			}))
			if err != nil {
				b.Fatal(err)
			}
			for n := 0; n < b.N; n += 1000 {
				if _, err := bus.EmitAll(b.Context(), slices.Repeat([]pulse.Event{published{n}}, min(1000, b.N-n))); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			if err := bus.Drain(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			perSecond(b)
		})
	}
}

// each calls step b.N times, from so many goroutines.
func each(b *testing.B, callers int, step func() error) {
	b.ResetTimer()
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			for n := i; n < b.N; n += callers {
				if err := step(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
}
