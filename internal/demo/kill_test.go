//go:build unix

package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// child is a process that plays a year.
type child struct {
	cmd              *exec.Cmd
	broker           bool
	stdout, stderr   bytes.Buffer
	emitted, handled int // as it said last
	killWhen         func(emitted, handled int) bool
	read             chan struct{}
}

// startChild starts a child that is killed once it says that it has come so far, if killWhen is not nil.
func startChild(t *testing.T, dataset, data, dsn string, broker bool, killWhen func(emitted, handled int) bool) *child {
	t.Helper()
	c := &child{cmd: exec.CommandContext(t.Context(), os.Args[0]), broker: broker, killWhen: killWhen, read: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), childDataset+"="+dataset, childData+"="+data, childDSN+"="+dsn)
	if broker {
		c.cmd.Env = append(c.cmd.Env, childBroker+"=embedded")
	}
	c.cmd.Stdout = &c.stdout
	progress, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.read)
		for lines := bufio.NewScanner(progress); lines.Scan(); {
			if _, err := fmt.Sscan(lines.Text(), &c.emitted, &c.handled); err != nil {
				fmt.Fprintln(&c.stderr, lines.Text())
			}
			if c.killWhen != nil && c.killWhen(c.emitted, c.handled) {
				_ = c.cmd.Process.Kill()
			}
		}
	}()
	return c
}

// wait waits for the end and returns whether it was a good one.
func (c *child) wait() bool {
	<-c.read
	return c.cmd.Wait() == nil
}

func TestYearSurvivesKills(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: kills and starts processes for a minute")
	}
	for name, with := range map[string]struct {
		rounds int
		within time.Duration                // of a kill, after the start
		broker func(random *rand.Rand) bool // of one run

		postgres bool
	}{
		"with no broker":                   {6, 900 * time.Millisecond, func(*rand.Rand) bool { return false }, false},
		"on PostgreSQL, now with a broker": {3, 1500 * time.Millisecond, func(random *rand.Rand) bool { return random.IntN(2) == 0 }, true},
		"with a broker":                    {3, 1500 * time.Millisecond, func(*rand.Rand) bool { return true }, false},
		"now with a broker, now with none": {3, 1500 * time.Millisecond, func(random *rand.Rand) bool { return random.IntN(2) == 0 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := ""
			if with.postgres {
				dsn = postgres.Database(t)
			}
			surviveKills(t, dsn, with.rounds, with.within, with.broker)
		})
	}
}

func surviveKills(t *testing.T, dsn string, rounds int, within time.Duration, broker func(*rand.Rand) bool) {
	const students = 3000
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dataset, data := manyTables(students).write(t), t.TempDir()
	kills, emitting, handling, years := 0, 0, 0, 1
	// By turns at any time, once something was emitted, and once something was handled. On PostgreSQL, who comes after a kill handles nothing
	// before the lease of the killed has run out.
	turns := []func(emitted, handled int) bool{nil, func(emitted, _ int) bool { return emitted > 0 }, func(_, handled int) bool { return handled > 0 }}
	if dsn != "" {
		turns = turns[:2]
	}
	for turn := 0; kills < rounds; turn++ {
		c := startChild(t, dataset, data, dsn, broker(random), turns[turn%len(turns)])
		delay := time.AfterFunc(time.Duration(random.Int64N(int64(within))), func() {
			if c.killWhen == nil {
				_ = c.cmd.Process.Kill()
			}
		})
		finished := c.wait()
		delay.Stop()
		if finished {
			t.Logf("after %d kills a run was faster than its kill", kills)
			years++
			check(t, c, students)
			continue
		}
		if c.cmd.ProcessState.Exited() {
			t.Fatalf("a run failed by itself: %s", &c.stderr)
		}
		kills++
		if c.emitted > 0 && c.emitted < manyEvents(students) {
			emitting++
		}
		if c.handled > 0 {
			handling++
		}
	}
	if emitting == 0 || handling == 0 && dsn == "" {
		t.Errorf("of %d kills %d came while it emitted and %d after it had handled something: they prove little", kills, emitting, handling)
	}
	last := startChild(t, dataset, data, dsn, broker(random), nil)
	if !last.wait() {
		t.Fatalf("after %d kills: %s", kills, &last.stderr)
	}
	check(t, last, students)
	noSecretIn(t, data)
	log := logged
	if dsn != "" {
		log = func(t *testing.T, _ string) []pulse.Envelope { return loggedBy(t, openPostgres(dsn), "") }
	}
	checkLog(t, log(t, data), years*manyEvents(students))
	t.Logf("%d kills, %d while emitting, %d after some were handled", kills, emitting, handling)
}

// check reads the report of a child that ended well.
func check(t *testing.T, c *child, students int) {
	t.Helper()
	var report Report
	if err := json.Unmarshal(c.stdout.Bytes(), &report); err != nil {
		t.Fatalf("%q: %v", &c.stdout, err)
	}
	n := manyEvents(students)
	want := counts{emitted: n, published: wantPublished(c.broker, n), handled: n}
	if got := countsOf(&report); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
