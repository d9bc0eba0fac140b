//go:build unix

package guarantee

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// childVariable tells a process of this test binary to play a role.
const childVariable = "PULSE_GUARANTEE_CHILD"

// childSpec is what a child is to do.
type childSpec struct {
	Role       string
	Kind       string
	Location   string
	Failpoints string
	Seed       uint64        // of what it does at random
	Base       int           // first number it gives to a lesson
	Handler    string        // what its handler does, see handlerFor
	Tries      int           // attempts
	Pace       time.Duration // between two emits of one goroutine
	Drain      time.Duration // drain timeout; 0 for the default
	Broker     string        // its address, see there
	TTL        time.Duration // how long its leases last at most; 0 for as long as ever
	Ambush     ambush
}

// child is what a role has.
type child struct {
	childSpec
	*world
	pipe *os.File
	gate sync.RWMutex // locked while nothing may be written to the store
	// With a Broker:
	broker outside
	fed    []pulse.SubscribeOption // for subscriptions that are fed by it
}

// say tells the test something, as one line. It is there even if the process is killed right after.
func (c *child) say(format string, args ...any) {
	if _, err := fmt.Fprintf(c.pipe, format+"\n", args...); err != nil {
		os.Exit(4) // nobody listens any more
	}
}

// roles are the parts a child can play. ctx ends with SIGTERM.
func roles() map[string]func(ctx context.Context, c *child) error {
	return map[string]func(ctx context.Context, c *child) error{
		"emit":       emitUntilKilled,
		"handle":     handleUntilDrained,
		"stop":       handleThroughStop,
		"deliver":    deliverUntilDrained,
		"die":        dieHandling,
		"die beside": dieBeside,
		"serve":      serveUntilSignalled,
		"stall":      stall,
		"relay":      relayUntilSignalled,
		"outage":     emitThroughOutage,
	}
}

// runChild plays a role and returns the exit code.
func runChild(spec string) int {
	go func() { // a child does not outlive the test
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	c := &child{pipe: os.NewFile(3, "pipe")}
	err := json.Unmarshal([]byte(spec), &c.childSpec)
	if err == nil {
		err = c.play()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (c *child) play() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal finds its default action: the process ends at once
	for _, k := range kinds() {
		if k.name != c.Kind {
			continue
		}
		opts := &pulse.Options{DrainTimeout: c.Drain, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
		w, err := openWorld(context.Background(), c.findPlace(k), c.Failpoints, opts)
		if err != nil {
			return err
		}
		c.world = w
		if c.Broker != "" {
			if err := c.openBroker(); err != nil {
				return errors.Join(err, w.close())
			}
			defer c.broker.Close()
		}
		return errors.Join(roles()[c.Role](ctx, c), w.close())
	}
	return fmt.Errorf("no kind of store %q", c.Kind)
}

// findPlace is the place of the child's log.
func (c *child) findPlace(k kind) place {
	if c.Broker == "" {
		return k.find(c.Location)
	}
	return &tunedPlace{k.find(c.Location), c.TTL, &c.gate}
}

// process is a running child.
type process struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has ended and all it said was read
	stderr lockedBuffer

	mu   sync.Mutex
	said []string
}

// start starts a child at a place.
func start(t testing.TB, k kind, p place, spec childSpec) *process {
	t.Helper()
	spec.Kind, spec.Location = k.name, p.location()
	encoded, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &process{cmd: exec.Command(os.Args[0]), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), childVariable+"="+string(encoded))
	c.cmd.ExtraFiles = []*os.File{w}
	c.cmd.Stderr = &c.stderr
	stdin, err := c.cmd.StdinPipe() // stays open as long as the test lives
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go c.listen(r)
	t.Cleanup(func() {
		if t.Failed() { // one that hangs tells where
			_ = c.cmd.Process.Signal(syscall.SIGQUIT)
			select {
			case <-c.ended:
			case <-time.After(time.Second):
			}
		}
		_ = stdin.Close()
		c.kill()
		if t.Failed() {
			t.Logf("%s child %d: %v\n%s", spec.Role, c.cmd.Process.Pid, c.cmd.ProcessState, c.stderr.tail(400))
		}
	})
	return c
}

// listen takes down what the child says until it ends.
func (c *process) listen(r *os.File) {
	defer close(c.ended)
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		c.mu.Lock()
		c.said = append(c.said, lines.Text())
		c.mu.Unlock()
	}
	_ = c.cmd.Wait() // how it ended is in ProcessState
}

// lines is what the child has said so far and begins with prefix, without it.
func (c *process) lines(prefix string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []string
	for _, line := range c.said {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			found = append(found, rest)
		}
	}
	return found
}

// awaitLines waits until the child has said n lines with a prefix. A child that ended says no more.
func (c *process) awaitLines(t testing.TB, prefix string, n int) {
	t.Helper()
	await(t, fmt.Sprintf("child says %d times %q", n, prefix), func() bool {
		select {
		case <-c.ended:
			return true
		default:
			return len(c.lines(prefix)) >= n
		}
	})
	if got := len(c.lines(prefix)); got < n {
		t.Fatalf("child ended (%v) after saying %q %d of %d times: %s", c.cmd.ProcessState, prefix, got, n, c.stderr.tail(20))
	}
}

// wait waits for the end of the child.
func (c *process) wait(t testing.TB) *os.ProcessState {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		t.Fatalf("child did not end within %s; it said %d lines: %s", patience, len(c.lines("")), c.stderr.tail(20))
	}
	return c.cmd.ProcessState
}

// killed reports that the child was ended by SIGKILL.
func killed(s *os.ProcessState) bool {
	status, ok := s.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// kill kills the child with SIGKILL, if it lives, and waits for its end.
func (c *process) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.ended
}

// signal sends a signal.
func (c *process) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}
