// Package cli is the pulse command: it turns arguments into calls of the bus and answers into text or JSON.
package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/edupulse-live/pulse/internal/app"
)

// commands lists the commands of pulse.
//
// To add one: write `func newXCommand(env *environment) *cobra.Command` in a file x.go and add it here.
//   - Read and write through env, never through os. Take the context from cmd.Context(): it ends with the first Ctrl-C.
//   - env.with and env.withCreated open the configured store; env.open with app.OpenOptions{Memory: true} also takes "memory:".
//   - When env.json is set, answer with env.printJSON: one object, or one object a line, with stable snake_case names.
//     Everything that is no answer goes to stderr: env.notef for a word to the person at the terminal.
//   - Return errors, never print them. usagef makes exit code 2; see exit.go for the others. Args: use positional.
//   - Give it Short, Long, Example, and a script in testdata.
func commands(env *environment) []*cobra.Command {
	return []*cobra.Command{
		newEmitCommand(env),
		newLogCommand(env),
		newTraceCommand(env),
		newExportCommand(env),
		newImportCommand(env),
		newStatusCommand(env),
		newSubscriptionCommand(env),
		newDeadCommand(env),
		newDoctorCommand(env),
		newMigrateCommand(env),
		newReconcileCommand(env),
		newServeCommand(env),
		newRepublishCommand(env),
		newDemoCommand(env),
		newBenchCommand(env),
		newVersionCommand(env),
	}
}

// newRoot builds the command tree.
func newRoot(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "pulse",
		Short: "The domain event bus of EduPulse Live",
		Long: `Pulse records what happened, durably and in order, and hands it to those who care.

This command emits and reads events of a store, and looks after its subscriptions. A store is a file,
created by the first event you emit, or a schema of a PostgreSQL database.`,
		Example: `  pulse emit lesson.published --key lesson-7 --data '{"title":"Fractions"}'
  pulse log --follow
  pulse status`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noSubcommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
			return explainValue(e)
		}
		return usagef("%w", err)
	})
	flags := root.PersistentFlags()
	flags.BoolVar(&env.json, "json", false, "print JSON: one object, or one object per line")
	flags.StringVar(&env.file, "config", "", "read settings from this YAML `file` (default: pulse.yaml, when there is one)")
	for _, s := range app.CommonSettings() {
		flags.String(s.Name, "", fmt.Sprintf("%s (%s, default %q)", s.Help, s.Variable, s.Default))
	}
	root.AddCommand(commands(env)...)
	root.AddCommand(helpTopics()...)
	return root
}

// group is a command that only holds others.
func group(cmd *cobra.Command, children ...*cobra.Command) *cobra.Command {
	cmd.Args = noSubcommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(children...)
	return cmd
}

// noSubcommand refuses what is no subcommand, which cobra by itself answers with help and success.
func noSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(": did you mean %q?", strings.Join(near, `" or "`))
	}
	return usagef("%s has no command %q%s", cmd.CommandPath(), args[0], hint)
}

// positional takes exactly the named arguments.
func positional(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s needs %s", cmd.CommandPath(), names[len(args)])
		case len(names) == 0 && len(args) > 0:
			return usagef("%s takes no argument, only flags: what is %q for?", cmd.CommandPath(), args[0])
		case len(args) > len(names):
			return usagef("%s does not know what to do with %q: quote an argument that has spaces", cmd.CommandPath(), args[len(names)])
		}
		return nil
	}
}

// optional takes up to the named arguments.
func optional(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return positional(names[:min(len(args), len(names))]...)(cmd, args)
	}
}
