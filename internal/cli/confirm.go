package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// confirm lets a person decide about what cannot be undone, unless yes was given. Without a terminal there is nobody to ask.
func (env *environment) confirm(ctx context.Context, yes bool, what string) error {
	if yes {
		return nil
	}
	if !env.stdinTerminal || !env.stderrTerminal {
		return usagef("this would %s for good: confirm with --yes", what)
	}
	fmt.Fprintf(env.stderr, "This will %s for good. Go on? [y/N] ", what)
	answer, err := bufio.NewReader(newInterruptible(ctx, env.stdin)).ReadString('\n')
	if err != nil && err != io.EOF {
		fmt.Fprintln(env.stderr)
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return failuref("not confirmed, nothing was done")
}
