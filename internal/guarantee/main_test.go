//go:build unix

package guarantee

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a test waits for what must happen. It ends what hangs, and is no bound for anything.
const patience = 2 * time.Minute

// TestMain runs the tests, or a role when a test started this process.
func TestMain(m *testing.M) {
	if spec := os.Getenv(childVariable); spec != "" {
		os.Exit(runChild(spec))
	}
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = f.Value.Set("8") // these tests wait more than they compute
	}
	goleak.VerifyTestMain(server.Main(rabbits.Main(m)))
}

// atLength is the variable that has loops run in full when it is 1.
const atLength = "PULSE_GUARANTEE_FULL"

// scaled is how often a loop runs: full when that is asked for, short in a short run, and half of full otherwise.
func scaled(full, short int) int {
	switch {
	case testing.Short():
		return short
	case os.Getenv(atLength) == "1":
		return full
	}
	return max(full/2, short)
}

// await polls until cond holds, and fails the test when it does not in good time.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not after %s: %s", patience, what)
		}
	}
}

// atLeast fails a test that did too little to prove something.
func atLeast(t testing.TB, what string, got, want int) {
	t.Helper()
	if got < want {
		t.Errorf("only %d %s, at least %d are needed to prove anything", got, what, want)
	}
}
