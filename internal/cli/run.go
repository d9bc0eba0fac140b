package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/term"
)

// Main runs pulse as this process and returns its exit code.
func Main() int {
	ctx, stop := withSignals(context.Background(), os.Stderr, os.Exit)
	defer stop()
	return run(ctx, os.Args[1:], processEnvironment())
}

// processEnvironment is the environment of this process.
func processEnvironment() *environment {
	env := &environment{
		stdin:          os.Stdin,
		stdout:         os.Stdout,
		stderr:         os.Stderr,
		getenv:         os.Getenv,
		stdinTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		stdoutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		stderrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	if width, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil {
		env.width = width
	} else if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		env.width = width
	}
	return env
}

// run runs one command line and returns its exit code. It says on stderr what went wrong.
func run(ctx context.Context, args []string, env *environment) int {
	root := newRoot(env)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	code := exitCode(ctx, err)
	if code != exitOK {
		env.report(cmd, err, code)
	}
	return code
}

// errSilent is the failure of a command that has said itself what is wrong.
var errSilent = errors.New("failed")

// signalError is why a context ended: the process got a signal.
type signalError struct{ sig syscall.Signal }

func (e *signalError) Error() string { return "interrupted by " + e.sig.String() }
func (e *signalError) number() int   { return int(e.sig) }

// withSignals returns a context that ends with the first SIGINT or SIGTERM. The second aborts the process through exit.
func withSignals(parent context.Context, stderr io.Writer, exit func(int)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for first := true; ; first = false {
			select {
			case <-done:
				return
			case sig := <-signals:
				number, _ := sig.(syscall.Signal)
				if !first {
					fmt.Fprintln(stderr, "pulse: aborted")
					exit(exitSignalBase + int(syscall.SIGINT))
					return
				}
				cancel(&signalError{number})
			}
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		watcher.Wait()
		cancel(nil)
	}
}
