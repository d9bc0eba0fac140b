package sqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/sqlitestore"
	"github.com/edupulse-live/pulse/storetest"
)

// childAppends appends units of one to four events to the file args[0], args[1] units or for ever when that is 0, and prints
// the ids of each unit that was acknowledged.
func childAppends(args []string) error {
	ctx := context.Background()
	s, err := sqlitestore.Open(ctx, args[0], nil)
	if err != nil {
		return err
	}
	units, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	now, err := s.Info(ctx)
	if err != nil {
		return err
	}
	for n := 0; units == 0 || n < units; n++ {
		recs := lessons(now.Origin, 1+n%4)
		for i := range recs {
			recs[i].Correlation = fmt.Sprintf("unit/%s/%d", recs[0].ID, len(recs))
		}
		if err := s.Append(ctx, recs); err != nil {
			return err
		}
		var ids []string
		for i := range recs {
			ids = append(ids, recs[i].ID.String())
		}
		fmt.Println(strings.Join(ids, " "))
	}
	return s.Close()
}

// childOpens opens the file args[0] when the file args[1] appears, and prints the log's name.
func childOpens(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	fmt.Println("ready")
	for _, err := os.Stat(args[1]); err != nil; _, err = os.Stat(args[1]) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(100 * time.Microsecond)
	}
	s, err := sqlitestore.Open(ctx, args[0], nil)
	if err != nil {
		return err
	}
	now, err := s.Info(ctx)
	if err != nil {
		return err
	}
	fmt.Println(now.Origin)
	return s.Close()
}

// G1: what Append acknowledged survives kill -9, a unit is stored whole or not at all, and the positions have no gap.
func TestKilledProcess(t *testing.T) {
	const rounds = 24
	path := filepath.Join(t.TempDir(), "log.db")
	storeFile(t, path)
	acked := 0
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	var ids []string
	for range rounds {
		c := startChild(t, "append", path, "0")
		wanted := random.IntN(60)
		for n := 0; ; n++ {
			if n == wanted {
				// Some microseconds into the next unit, wherever that is; what was printed before the kill is still read.
				time.AfterFunc(time.Duration(random.IntN(400))*time.Microsecond, func() { _ = c.cmd.Process.Kill() })
			}
			text, ok := c.line()
			if !ok {
				break
			}
			if strings.HasPrefix(text, "failed") {
				t.Fatal(text)
			}
			ids = append(ids, strings.Fields(text)...)
			acked++
		}
		c.kill()
		wantIntact(t, path)
	}
	if acked < rounds {
		t.Fatalf("only %d units were acknowledged in %d rounds: the test did too little", acked, rounds)
	}
	s := openStore(t, path)
	stored, units := map[string]bool{}, map[string]int{}
	for _, e := range readAll(t, s, pulse.Query{}) {
		stored[e.ID.String()] = true
		units[e.Correlation]++
	}
	for unit, n := range units {
		if strings.HasPrefix(unit, "unit/") && !strings.HasSuffix(unit, fmt.Sprintf("/%d", n)) {
			t.Fatalf("%d events of %s are stored", n, unit)
		}
	}
	for _, id := range ids {
		if !stored[id] {
			t.Fatalf("event %s was acknowledged and is gone", id)
		}
	}
	t.Logf("%d units with %d events acknowledged, %d events stored", acked, len(ids), len(stored))
}

// A process killed while it creates the file leaves something that the next one completes.
func TestKilledWhileCreating(t *testing.T) {
	const rounds = 20
	completed := 0
	for range rounds {
		dir := t.TempDir()
		path, start := filepath.Join(dir, "log.db"), filepath.Join(dir, "start")
		c := startChild(t, "open", path, start)
		if text, _ := c.line(); text != "ready" {
			t.Fatal(text)
		}
		if err := os.WriteFile(start, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(8000)) * time.Microsecond) // a random moment, not something awaited
		c.kill()
		if text, ok := c.line(); ok && text != "" {
			completed++
		}
		s := openStore(t, path)
		appendTo(t, s, lessons(originOf(t, s), 2)...)
		wantIntact(t, path)
	}
	if completed == rounds {
		t.Skip("every child was too fast to be killed in time")
	}
}

// Two processes write to one file: none of them fails, nothing is lost, and neither starves.
func TestTwoProcessesWrite(t *testing.T) {
	const units = 200
	path := filepath.Join(t.TempDir(), "log.db")
	s := openStore(t, path)
	origin := originOf(t, s)
	c := startChild(t, "append", path, strconv.Itoa(units))
	if _, ok := c.line(); !ok {
		t.Fatal("the child process did not append")
	}
	slowest := time.Duration(0)
	for range units {
		began := time.Now()
		appendTo(t, s, storetest.Record(origin, lesson))
		slowest = max(slowest, time.Since(began))
	}
	lines := c.succeeded()
	want := units + units/4*(1+2+3+4)
	if head := info(t, s).Head; int(head) != want {
		t.Fatalf("%d events are stored, want %d (the child printed %d more lines)", head, want, len(lines))
	}
	wantIntact(t, path)
	if slowest > 5*time.Second {
		t.Errorf("one Append waited %s for the other process", slowest)
	}
	t.Logf("the slowest Append took %s", slowest)
}

// Any number of processes and goroutines may open a new file at once: it is created once.
func TestConcurrentCreation(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		path, start := filepath.Join(dir, "log.db"), filepath.Join(dir, "start")
		var kids []*child
		for range 3 {
			kids = append(kids, startChild(t, "open", path, start))
		}
		for _, c := range kids {
			if text, _ := c.line(); text != "ready" {
				t.Fatal(text)
			}
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		origins := map[string]int{}
		if err := os.WriteFile(start, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			wg.Go(func() {
				s, err := sqlitestore.Open(t.Context(), path, nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				now, err := s.Info(t.Context())
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				origins[now.Origin]++
			})
		}
		wg.Wait()
		for _, c := range kids {
			for _, origin := range c.succeeded() {
				origins[origin]++
			}
		}
		if len(origins) != 1 || t.Failed() {
			t.Fatalf("names of the log: %v", origins)
		}
	}
}

// After a crash a restarted process does not wait for its own former lease to run out.
func TestLeaseOfEndedProcess(t *testing.T) {
	c := startChild(t, "end")
	c.succeeded()
	const here = "school.4026531836"
	ended := fmt.Sprintf("%s/%d/a", here, c.cmd.Process.Pid)
	for _, test := range []struct {
		name, holder string
		free         bool
	}{
		{"ended process of this machine", ended, true},
		{"living process of this machine", fmt.Sprintf("%s/%d/a", here, os.Getpid()), false},
		{"process of another machine", "not-" + ended, false},
		{"process of another container of this machine", fmt.Sprintf("school.4026532200/%d/a", c.cmd.Process.Pid), false},
		{"other form", "somebody", false},
		{"no number", here + "/x/a", false},
		{"no process id", here + "/0/a", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openStore(t, filepath.Join(t.TempDir(), "log.db"))
			former := subscribed(t, s, "mailer", test.holder)
			got, err := s.Acquire(t.Context(), pulse.Lease{Name: "mailer", Holder: here + "/1/" + uuid.NewString()}, time.Minute)
			if !test.free {
				wantError(t, err, pulse.ErrHeld, test.holder)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !got.Unclean || got.Token <= former.Token {
				t.Fatalf("lease %+v was taken after %+v: want a greater token, and unclean", got, former)
			}
			if _, err := s.Acquire(t.Context(), former, time.Minute); !errors.Is(err, pulse.ErrFenced) {
				t.Fatalf("renewing the former lease: %v", err)
			}
		})
	}
}
