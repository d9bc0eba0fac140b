package sqlitestore_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childVariable names the part that this test binary plays as a child process, and its arguments.
const childVariable = "PULSE_SQLITESTORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if part := os.Getenv(childVariable); part != "" {
		args := strings.Split(part, "\x1f")
		if err := children()[args[0]](args[1:]); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// children are the parts that child processes play. What one prints is read by its parent.
func children() map[string]func(args []string) error {
	return map[string]func(args []string) error{
		"append":      childAppends,
		"open":        childOpens,
		"end":         func([]string) error { return nil },
		"limitedFile": childWithLimitedFile,
	}
}

// child is a running child process.
type child struct {
	testing.TB
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// startChild starts this test binary as a child process. It is killed when the test ends.
func startChild(t testing.TB, part string, args ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+strings.Join(append([]string{part}, args...), "\x1f"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{TB: t, cmd: cmd, lines: bufio.NewScanner(out)}
	watchdog := time.AfterFunc(3*patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		c.kill()
	})
	return c
}

// line returns the next line the child printed; ok is false at the end.
func (c *child) line() (text string, ok bool) {
	ok = c.lines.Scan()
	return c.lines.Text(), ok
}

// kill ends the child as kill -9 does. It may have ended by itself.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// succeeded ends the test unless the child ended well. The rest of what it printed is returned.
func (c *child) succeeded() (lines []string) {
	c.Helper()
	for {
		text, ok := c.line()
		if !ok {
			break
		}
		lines = append(lines, text)
	}
	if err := c.cmd.Wait(); err != nil {
		c.Fatalf("child process: %v\n%s", err, strings.Join(lines, "\n"))
	}
	return lines
}
