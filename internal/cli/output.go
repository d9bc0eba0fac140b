package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// printJSON writes v as one line of JSON.
func (env *environment) printJSON(v any) error {
	enc := json.NewEncoder(env.stdout)
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
		enc := json.NewEncoder(env.stderr)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(failure{err.Error(), code}) // there is nowhere left to say that saying it failed
		return
	}
	env.notef("%s", err)
	if _, ok := errors.AsType[*exitError](err); ok && code == exitUsage {
		fmt.Fprintf(env.stderr, "Run '%s --help' for how to use it.\n", cmd.CommandPath())
	}
}
