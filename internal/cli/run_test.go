package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

// testEnvironment is an environment whose output is kept.
func testEnvironment(stdin string) (env *environment, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	return &environment{
		stdin: strings.NewReader(stdin), stdout: stdout, stderr: stderr,
		getenv: func(string) string { return "" },
	}, stdout, stderr
}

func TestRunInProcess(t *testing.T) {
	t.Chdir(t.TempDir())
	env, stdout, stderr := testEnvironment(`{"title":"Fractions"}`)
	if code := run(t.Context(), []string{"emit", "lesson.published", "--data", "-", "--json"}, env); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if !strings.Contains(stdout.String(), `"position":1`) || !strings.Contains(stderr.String(), "created the store sqlite:pulse.db") {
		t.Errorf("stdout %s, stderr %s", stdout, stderr)
	}
}

func TestExitCodes(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(&signalError{syscall.SIGINT})
	terminated, cancel := context.WithCancelCause(t.Context())
	cancel(&signalError{syscall.SIGTERM})
	for name, tc := range map[string]struct {
		ctx  context.Context
		err  error
		want int
	}{
		"nothing":                    {t.Context(), nil, 0},
		"nothing though interrupted": {interrupted, nil, 0},
		"anything":                   {t.Context(), errors.New("x"), 1},
		"the store":                  {t.Context(), fmt.Errorf("emit: %w", pulse.ErrStore), 1},
		"unknown":                    {t.Context(), pulse.ErrUnknown, 1},
		"usage":                      {t.Context(), usagef("x"), 2},
		"configuration":              {t.Context(), fmt.Errorf("a: %w", &app.ConfigError{}), 2},
		"an invalid event":           {t.Context(), fmt.Errorf("emit: %w", pulse.ErrInvalid), 2},
		"a payload":                  {t.Context(), pulse.ErrSerialization, 2},
		"a large event":              {t.Context(), pulse.ErrTooLarge, 2},
		"no store":                   {t.Context(), fmt.Errorf("%w at x", app.ErrNoStore), 3},
		"no subscription":            {t.Context(), pulse.ErrNotFound, 3},
		"no file":                    {t.Context(), &os.PathError{Err: os.ErrNotExist}, 3},
		"no socket":                  {t.Context(), &net.OpError{Err: os.ErrNotExist}, 1},
		"not found":                  {t.Context(), notFoundf("x"), 3},
		"a conflict":                 {t.Context(), fmt.Errorf("emit: %w", &pulse.ConflictError{}), 4},
		"a failure that wins":        {t.Context(), failuref("line 3: %w", pulse.ErrConflict), 1},
		"interrupted":                {interrupted, fmt.Errorf("read: %w: %w", pulse.ErrStore, context.Canceled), 130},
		"terminated":                 {terminated, context.Canceled, 143},
		"interrupted, by its cause":  {interrupted, fmt.Errorf("stopped: %w", context.Cause(interrupted)), 130},
		"failed while interrupted":   {interrupted, pulse.ErrConflict, 4},
		"cancelled by nobody":        {t.Context(), context.Canceled, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := exitCode(tc.ctx, tc.err); got != tc.want {
				t.Errorf("exit code %d, want %d", got, tc.want)
			}
		})
	}
}

func TestConfirm(t *testing.T) {
	for name, tc := range map[string]struct {
		yes, terminal bool
		answer        string
		want          int
	}{
		"by flag":                {true, false, "", exitOK},
		"yes":                    {false, true, "y\n", exitOK},
		"Yes with spaces":        {false, true, "  YES \n", exitOK},
		"yes without a line end": {false, true, "y", exitOK},
		"no":                     {false, true, "n\n", exitFailure},
		"just return":            {false, true, "\n", exitFailure},
		"end of input":           {false, true, "", exitFailure},
		"something else":         {false, true, "yesterday\n", exitFailure},
		"nobody there":           {false, false, "y\n", exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			env, _, stderr := testEnvironment(tc.answer)
			env.stdinTerminal, env.stderrTerminal = tc.terminal, tc.terminal
			err := env.confirm(t.Context(), tc.yes, "drop 3 dead letters")
			if got := exitCode(t.Context(), err); got != tc.want {
				t.Errorf("exit code %d, want %d: %v", got, tc.want, err)
			}
			if asked := strings.Contains(stderr.String(), "This will drop 3 dead letters for good. Go on? [y/N]"); asked != (tc.terminal && !tc.yes) {
				t.Errorf("asked: %q", stderr)
			}
		})
	}
}

func TestConfirmIsInterrupted(t *testing.T) {
	env, _, _ := testEnvironment("")
	in, out := io.Pipe()
	defer out.Close()
	env.stdin, env.stdinTerminal, env.stderrTerminal = in, true, true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := env.confirm(ctx, false, "drop it"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestCursorAheadOfTheLog is never normal, and shown.
func TestCursorAheadOfTheLog(t *testing.T) {
	states := []pulse.SubscriptionState{{Name: "mailer", Head: 5, Cursor: pulse.Cursor{Position: 8}}}
	for name, tc := range map[string]struct {
		terminal bool
		want     string
	}{
		"in a pipe":     {false, "pulse: warning: mailer has handled up to position 8, but the log ends at 5"},
		"on a terminal": {true, "pulse: \x1b[31mwarning:\x1b[0m mailer has handled"},
	} {
		t.Run(name, func(t *testing.T) {
			env, stdout, stderr := testEnvironment("")
			env.stderrTerminal = tc.terminal
			if err := env.printSubscriptions(states); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(stdout.String(), " -3 ") || !strings.Contains(stderr.String(), tc.want) {
				t.Errorf("stdout %s, stderr %q", stdout, stderr)
			}
		})
	}
	if got := toSubscriptionJSON(&states[0]).Lag; got != -3 {
		t.Errorf("in JSON the lag is %d", got)
	}
}

func TestShowState(t *testing.T) {
	until := time.Now().Add(time.Hour)
	for want, s := range map[string]pulse.SubscriptionState{
		"not running":   {},
		"run by host-1": {Holder: "host-1"},
		"paused":        {PausedUntil: pulse.Forever, Holder: "host-1"},
		"paused: a\\nb": {PausedUntil: pulse.Forever, PauseReason: "a\nb"},
		"paused until " + showTime(until) + ": many failures": {PausedUntil: until, PauseReason: "many failures"},
	} {
		if got := showState(&s); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	s := pulse.SubscriptionState{PausedUntil: time.Now().Add(-time.Hour), Holder: "host-1"}
	if got := showState(&s); got != "run by host-1" {
		t.Errorf("a pause that is over is shown as %q", got)
	}
	if toSubscriptionJSON(&s).Paused {
		t.Error("a pause that is over is one in JSON")
	}
}

// TestEveryCommandIsDocumented: each has what its help needs, and examples that begin with pulse.
func TestEveryCommandIsDocumented(t *testing.T) {
	env, _, _ := testEnvironment("")
	root := newRoot(env)
	n := 0
	todo := root.Commands()
	for len(todo) > 0 {
		c := todo[0]
		todo = append(todo[1:], c.Commands()...)
		if !c.Runnable() || c.Name() == "completion" || c.Parent().Name() == "completion" || c.Name() == "help" {
			continue
		}
		n++
		if c.Short == "" || c.Long == "" || c.Example == "" {
			t.Errorf("%s: short %q, long %q, example %q", c.CommandPath(), c.Short, c.Long, c.Example)
		}
		if !strings.Contains(c.Example, c.CommandPath()) && !strings.Contains(c.Example, "pulse "+strings.Join(c.Aliases, "")) && !strings.Contains(c.Example, " "+c.Name()) {
			t.Errorf("%s: no example of it: %q", c.CommandPath(), c.Example)
		}
		for line := range strings.Lines(c.Long) {
			if len(line) > 140 {
				t.Errorf("%s: a line of its help has %d bytes: %s", c.CommandPath(), len(line), line)
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d commands were found", n)
	}
}

// process is a running pulse.
type process struct {
	*exec.Cmd
	stdout, stderr *lockedBuffer
}

// start runs pulse in a directory of its own with a store of one event.
func start(t *testing.T, stdin io.Reader, args ...string) *process {
	t.Helper()
	program, dir := pulseProgram(t), t.TempDir()
	first := exec.Command(program, "emit", "a.first", "--data", "1")
	first.Dir = dir
	if out, err := first.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := &process{exec.Command(program, args...), &lockedBuffer{}, &lockedBuffer{}}
	p.Dir, p.Stdin, p.Stdout, p.Stderr = dir, stdin, p.stdout, p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// TestFirstSignal ends what would go on for ever, with the exit code of the signal.
func TestFirstSignal(t *testing.T) {
	for name, tc := range map[string]struct {
		sig  syscall.Signal
		want int
	}{"SIGINT": {syscall.SIGINT, 130}, "SIGTERM": {syscall.SIGTERM, 143}} {
		t.Run(name, func(t *testing.T) {
			p := start(t, nil, "log", "--follow")
			p.stdout.await(t, "a.first")
			if err := p.Process.Signal(tc.sig); err != nil {
				t.Fatal(err)
			}
			_ = p.Wait()
			if got := p.ProcessState.ExitCode(); got != tc.want {
				t.Errorf("exit code %d, want %d: %s", got, tc.want, p.stderr)
			}
			if got := p.stderr.String(); got != "pulse: interrupted\n" {
				t.Errorf("stderr %q", got)
			}
		})
	}
}

// TestInterruptedImport says how far it came, even while it waits for more input.
func TestInterruptedImport(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	p := start(t, in, "import", "-")
	if _, err := out.Write([]byte(eventLines(1, chunkEvents+3))); err != nil {
		t.Fatal(err)
	}
	awaitHead(t, p, chunkEvents+1)
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	go func() { // exec waits for the end of what it copies
		_, _ = p.Process.Wait()
		_ = out.Close()
	}()
	p.stderr.await(t, "interrupted")
	// All that was read is stored, as far as that was.
	if got := p.stdout.String(); !regexp.MustCompile(`^(50[0-3]) events read: 50[0-3] new, 0 there already; import it again to go on\n$`).MatchString(got) {
		t.Errorf("stdout %q", got)
	}
}

func awaitHead(t *testing.T, p *process, head int) {
	t.Helper()
	want := fmt.Sprintf(`"head":%d`, head)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		status := exec.Command(p.Path, "status", "--json")
		status.Dir = p.Dir
		if out, _ := status.Output(); strings.Contains(string(out), want) {
			return
		}
	}
	t.Fatalf("the head does not become %d", head)
}

// TestSecondSignalAborts sends two to something that takes no notice of the first.
func TestSecondSignalAborts(t *testing.T) {
	stderr := &lockedBuffer{}
	exits := make(chan int)
	ctx, stop := withSignals(t.Context(), stderr, func(code int) { exits <- code })
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); !ok || s.sig != syscall.SIGINT {
		t.Errorf("cause %v", context.Cause(ctx))
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-exits; code != 130 {
		t.Errorf("exit code %d", code)
	}
	stop()
	if got := stderr.String(); got != "pulse: aborted\n" {
		t.Errorf("stderr %q", got)
	}
}

func TestStopWithoutSignal(t *testing.T) {
	ctx, stop := withSignals(t.Context(), io.Discard, func(int) { t.Error("exit") })
	stop()
	if ctx.Err() == nil {
		t.Error("the context goes on")
	}
}
