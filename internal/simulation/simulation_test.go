package simulation

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// repetitions of a seed that is asked for by name: what depends on the scheduler shows in some of them.
const repetitions = 20

// TestSimulation lives through schedules of faults and checks every promise in each.
func TestSimulation(t *testing.T) {
	if text := os.Getenv("PULSE_SIM_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("PULSE_SIM_SEED: %v", err)
		}
		repeat(t, seed)
		return
	}
	n := 300
	if text := os.Getenv("PULSE_SIM_SCHEDULES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			t.Fatalf("PULSE_SIM_SCHEDULES=%q is no number of schedules", text)
		}
	}
	sum := newTotal()
	inParallel(t, n, func(t *testing.T, seed uint64) {
		r := simulate(t, newPlan(seed), sound(), nil)
		if sum.add(r) {
			t.Errorf("seed %d:\n%s\nPULSE_SIM_SEED=%d go test ./internal/simulation -run TestSimulation", seed, strings.Join(r.violations, "\n"), seed)
		}
	})
	sum.demand(t, n)
}

// repeat runs one seed until it fails, and then shows what happened.
func repeat(t *testing.T, seed uint64) {
	for range repetitions {
		var mu sync.Mutex
		var lines []string
		r := simulate(t, newPlan(seed), sound(), func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, fmt.Sprintf(format, args...))
		})
		if len(r.violations) > 0 {
			t.Fatalf("%s\nseed %d:\n%s", strings.Join(lines, "\n"), seed, strings.Join(r.violations, "\n"))
		}
	}
	t.Logf("seed %d went well %d times", seed, repetitions)
}

// inParallel runs fn for the seeds from 1 to n on all processors.
func inParallel(t *testing.T, n int, fn func(t *testing.T, seed uint64)) {
	t.Run("schedules", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for seed := worker + 1; seed <= n; seed += runtime.GOMAXPROCS(0) {
					fn(t, uint64(seed))
				}
			})
		}
	})
}

// stuck is the real time after which a schedule counts as running in circles. Most take a few hundredths of a second.
const stuck = 2 * time.Minute

// simulate runs one schedule in virtual time.
func simulate(t *testing.T, p *plan, with parts, tracef func(format string, args ...any)) (r report) {
	watchdog := time.AfterFunc(stuck, func() { panic(fmt.Sprintf("seed %d: no end after %v", p.seed, stuck)) })
	defer watchdog.Stop()
	defer func() {
		if problem := recover(); problem != nil {
			panic(fmt.Sprintf("seed %d: %v", p.seed, problem))
		}
	}()
	synctest.Test(t, func(*testing.T) { r = live(p, with, tracef) })
	return r
}
