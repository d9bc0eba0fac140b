package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestFlags(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown section": {"--only", "emit,speed"},
		"no rounds":       {"--rounds", "0"},
		"no time":         {"--time", "0s"},
		"no events":       {"--backlog", "-1"},
		"unknown flag":    {"--fast"},
	} {
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTally(t *testing.T) {
	events := newTally()
	evs := events.next(3)
	if evs[0].N != 0 || evs[2].N != 2 || events.next(1)[0].N != 3 {
		t.Errorf("numbers: %+v", evs)
	}
	events.handle(evs[0])
	events.handle(evs[2])
	events.handle(evs[2])
	if n, twice := events.handled.Load(), events.twice.Load(); n != 2 || twice != 1 {
		t.Errorf("handled %d, again %d", n, twice)
	}
	err := events.await(t.Context(), 10*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "2 of 4") || !strings.Contains(err.Error(), "first is 1") {
		t.Errorf("lost: %v", err)
	}
	events.handle(evs[1])
	events.handle(lesson{N: 3})
	if err := errors.Join(events.await(t.Context(), time.Minute), events.lost()); err != nil {
		t.Errorf("lost: %v", err)
	}
	if waits := events.waits(1); len(waits) != 3 || waits[0] <= 0 {
		t.Errorf("waits: %v", waits)
	}
}

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values  []float64
		q, want float64
	}{{[]float64{3}, 0.5, 3}, {[]float64{9, 1, 5}, 0.5, 5}, {[]float64{1, 2, 3, 4}, 0.99, 4}, {[]float64{4, 3, 2, 1}, 0, 1}} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile %v of %v is %v", c.q, c.values, got)
		}
	}
}

func TestReport(t *testing.T) {
	var r report
	for _, v := range []float64{10, 30, 20} {
		r.add("end", "64 callers", "pulse", perSecond, v)
	}
	r.add("end", "64 callers", "river", perSecond, 10)
	if m := r.median("end", "64 callers", entry{name: "pulse"}); m != 20 {
		t.Errorf("median %v", m)
	}
	r.atLeast("end", "much", 2, 2)
	r.atLeast("end", "more", 1.9, 2)
	r.atMost("end", "little", 2, 2)
	r.atMost("end", "less", 2.1, 2)
	var got []bool
	for _, c := range r.Checks {
		got = append(got, c.Reached)
	}
	if len(got) != 4 || !got[0] || got[1] || !got[2] || got[3] {
		t.Errorf("reached: %v", got)
	}
	var out bytes.Buffer
	r.print(&out)
	if n := strings.Count(out.String(), "MISSED"); n != 2 {
		t.Errorf("%d are missed in:\n%s", n, out.String())
	}
}

// TestDuring waits for the work, and ends fn when the work fails.
func TestDuring(t *testing.T) {
	broken := errors.New("broken")
	ended := false
	err := during(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		ended = true
		return nil
	}, func(context.Context) error { return nil })
	if err != nil || !ended {
		t.Errorf("%v, ended: %t", err, ended)
	}
	err = during(t.Context(), func(context.Context) error { return broken }, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, broken) {
		t.Errorf("the work failed: %v", err)
	}
	err = during(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return nil }, func(context.Context) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("fn failed: %v", err)
	}
}

// testProcessors sees the time of the server's backends, those that ended too.
func testProcessors(t *testing.T, b *bench) {
	burn := func() time.Duration {
		before, err := b.server.cpu()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.server.administer(t.Context(), "postgres", "SELECT count(*) FROM generate_series(1, 2000000) n WHERE sqrt(n) < 0"); err != nil {
			t.Fatal(err)
		}
		after, err := b.server.cpu()
		if err != nil {
			t.Fatal(err)
		}
		return after - before
	}
	// A backend that has ended counts once its parent has waited for it.
	for deadline := time.Now().Add(patience); burn() < 50*time.Millisecond; {
		if time.Now().After(deadline) {
			t.Fatal("a query that takes long took no time of the processors")
		}
	}
	conn, err := pgx.Connect(t.Context(), b.server.dsn("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	before, err := b.server.cpu()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "SELECT count(*) FROM generate_series(1, 2000000) n WHERE sqrt(n) < 0"); err != nil {
		t.Fatal(err)
	}
	if after, err := b.server.cpu(); err != nil || after-before < 50*time.Millisecond {
		t.Errorf("a backend that runs used %v, %v", after-before, err)
	}
}
