package sqlitestore_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/edupulse-live/pulse"
)

// BenchmarkAppend measures events, not units: ns/op is the time for one event of a batch. Each batch is one synced commit.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 10, 100, 500, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			s := openStore(b, filepath.Join(b.TempDir(), "log.db"))
			origin := originOf(b, s)
			recs := lessons(origin, b.N)
			b.ReportAllocs()
			b.ResetTimer()
			for unit := range slices.Chunk(recs, size) {
				if err := s.Append(b.Context(), unit); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkRead measures events: ns/op is the time for one event of a page.
func BenchmarkRead(b *testing.B) {
	const events = 20_000
	s := openStore(b, filepath.Join(b.TempDir(), "log.db"))
	origin := originOf(b, s)
	for range events / 1000 {
		if err := s.Append(b.Context(), lessons(origin, 1000)); err != nil {
			b.Fatal(err)
		}
	}
	for _, q := range []struct {
		name  string
		query pulse.Query
	}{
		{"all", pulse.Query{}},
		{"page=100", pulse.Query{Limit: 100}},
		{"page=1", pulse.Query{Limit: 1}},
		{"pattern", pulse.Query{Name: "lesson.*"}},
		{"nothing", pulse.Query{Name: "quiz.>"}},
	} {
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; n < b.N; {
				before := q.query.After
				page, err := s.Read(b.Context(), q.query)
				if err != nil {
					b.Fatal(err)
				}
				n += int(page.Next - before)
				if q.query.After = page.Next; page.Next == events {
					q.query.After = 0
				}
			}
		})
	}
}

// BenchmarkInfo measures what a reader polls with.
func BenchmarkInfo(b *testing.B) {
	s := openStore(b, filepath.Join(b.TempDir(), "log.db"))
	if err := s.Append(b.Context(), lessons(originOf(b, s), 1000)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Info(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMark measures deliveries that are entered into the inbox and passed by the cursor, a hundred at a time.
func BenchmarkMark(b *testing.B) {
	const batch = 100
	s := openStore(b, filepath.Join(b.TempDir(), "log.db"))
	lease := subscribed(b, s, "mailer", "host/1/a")
	positions := make([]pulse.Position, batch)
	at := pulse.Position(0)
	for n := 0; n < b.N; n += batch {
		for i := range positions {
			at++
			positions[i] = at
		}
		mark(b, s, lease, positions...)
		if err := s.Advance(b.Context(), lease, pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: at}}); err != nil {
			b.Fatal(err)
		}
	}
}
