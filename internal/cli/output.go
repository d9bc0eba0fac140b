package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// printJSON writes v as one line of JSON.
func (env *environment) printJSON(v any) error { return encodeJSON(env.stdout, v) }

func encodeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printf writes an answer for people.
func (env *environment) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(env.stdout, format, args...)
	return err
}

// notef tells the person something that is no answer.
func (env *environment) notef(format string, args ...any) {
	fmt.Fprintf(env.stderr, "pulse: "+format+"\n", args...)
}

// warnf tells the person something that is never normal.
func (env *environment) warnf(format string, args ...any) {
	env.notef("%s "+format, append([]any{env.red(env.stderrTerminal, "warning:")}, args...)...)
}

// red colours s for a terminal.
func (env *environment) red(terminal bool, s string) string {
	if !terminal || env.getenv("NO_COLOR") != "" || env.getenv("TERM") == "dumb" {
		return s
	}
	return "\x1b[31m" + s + "\x1b[0m"
}

// report says why the command failed.
func (env *environment) report(cmd *cobra.Command, err error, code int) {
	if errors.Is(err, errSilent) {
		return
	}
	if code > exitSignalBase {
		err = errors.New("interrupted")
	}
	if env.json {
		type failure struct {
			Error    string `json:"error"`
			ExitCode int    `json:"exit_code"`
		}
		_ = encodeJSON(env.stderr, failure{err.Error(), code}) // there is nowhere left to say that saying it failed
		return
	}
	env.notef("%s", err)
	if _, ok := errors.AsType[*exitError](err); ok && code == exitUsage {
		fmt.Fprintf(env.stderr, "Run '%s --help' for how to use it.\n", cmd.CommandPath())
	}
}
