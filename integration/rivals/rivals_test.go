package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// forTests are settings for a little of everything.
var forTests = settings{rounds: 1, time: 50 * time.Millisecond, backlog: 300, stored: 1500, ahead: 1000, connections: 4, unsynced: true}

// TestOnServer is all that needs a server, on one.
func TestOnServer(t *testing.T) {
	b, err := newBench(t.Context(), forTests)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	t.Run("contestants", func(t *testing.T) { testContestants(t, b) })
	t.Run("inserts", func(t *testing.T) { testInserts(t, b) })
	t.Run("processors", func(t *testing.T) { testProcessors(t, b) })
}

// testContestants has everybody carry some hundred events in every way that is measured: none is lost, and each is handled once.
func testContestants(t *testing.T, b *bench) {
	for _, e := range append([]entry{pulseElsewhere, pulseQueue, sketchQueue}, carriers...) {
		t.Run(e.name, func(t *testing.T) {
			err := b.on(t.Context(), e, func(c contestant, events *tally) error {
				err := during(t.Context(), c.run, func(ctx context.Context) error {
					for _, s := range []shape{{unit: 1}, {unit: 30}, {unit: 1, inTx: true}, {unit: 30, inTx: true}} {
						for range 5 {
							if err := s.emit(ctx, c, events.next(s.unit)); err != nil {
								return err
							}
						}
					}
					if err := c.transact(ctx, nil, enrol); err != nil {
						return err
					}
					return events.await(ctx, patience)
				})
				if err != nil {
					return err
				}
				if n := events.handled.Load(); n != 310 {
					t.Errorf("%d events were handled, not 310", n)
				}
				if n := events.twice.Load(); n != 0 {
					t.Errorf("%d events were handled again", n)
				}
				return events.lost()
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// testInserts has those who only insert do so: as many rows as events are there afterwards, and those of the transactions.
func testInserts(t *testing.T, b *bench) {
	for _, e := range []entry{rawOne, rawUnnest, rawCopy, pulseQueue, sketchQueue} {
		t.Run(e.name, func(t *testing.T) {
			err := b.on(t.Context(), e, func(c contestant, events *tally) error {
				for _, s := range []shape{{unit: 1}, {unit: 30}, {unit: 1, inTx: true}, {unit: 30, inTx: true}} {
					if err := s.emit(t.Context(), c, events.next(s.unit)); err != nil {
						return err
					}
				}
				conn, err := pgx.Connect(t.Context(), b.server.dsn(databaseName(b.made)))
				if err != nil {
					return err
				}
				defer conn.Close(context.Background())
				var rows, size, work int
				err = conn.QueryRow(t.Context(), "SELECT count(*), min(length(data::text)), (SELECT count(*) FROM enrolments) FROM pulse.events").Scan(&rows, &size, &work)
				if rows != 62 || work != 2 || size < 280 || size > 340 {
					t.Errorf("there are %d events, the smallest of %d bytes, and %d enrolments", rows, size, work)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMeasure measures a little: the table and the file have it, and nothing is left.
func TestMeasure(t *testing.T) {
	s := forTests
	s.only, s.time = []string{"drain"}, time.Second
	file := filepath.Join(t.TempDir(), "numbers.json")
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "rivals-*"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := measure(t.Context(), s, &out, file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Numbers) != 11 || len(r.Checks) != 3 {
		t.Errorf("in the file are %d numbers and %d checks", len(r.Numbers), len(r.Checks))
	}
	for _, n := range r.Numbers {
		if n.Median <= 0 != (n.Unit == "rows") || len(n.Rounds) != 1 { // no row is dead
			t.Errorf("%+v", n)
		}
		if !strings.Contains(out.String(), n.Contestant) {
			t.Errorf("the table lacks %q", n.Contestant)
		}
	}
	if now, _ := filepath.Glob(filepath.Join(os.TempDir(), "rivals-*")); len(now) > len(left) {
		t.Errorf("left behind: %v", now)
	}
}

// TestMeasureHeld measures beside transactions that are open for a moment.
func TestMeasureHeld(t *testing.T) {
	s := forTests
	s.held = 200 * time.Millisecond
	b, err := newBench(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, measure := range []func(context.Context, *bench) error{measureOpen, measureSnapshot} {
		if err := measure(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		section, what string
		rounds        int
	}{
		{"open", "200/s beside open transactions, longest", 1},
		{"snapshot", "5,000/s, no snapshot, p50", partsBefore},
		{"snapshot", "5,000/s, p50", partsWhile - partsBefore},
		{"snapshot", "5,000/s, at the end of a snapshot, p50", partsBefore},
	} {
		n := b.report.find(c.section, c.what, pulseEntry.name)
		if n == nil || len(n.Rounds) != c.rounds || n.Median <= 0 {
			t.Errorf("%s: %+v, want %d rounds", c.what, n, c.rounds)
		}
	}
	if len(b.report.Checks) != 2 {
		t.Errorf("%d checks", len(b.report.Checks))
	}
}
