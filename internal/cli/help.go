package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse/internal/app"
)

// helpTopics are texts that `pulse help` shows and that are no commands.
func helpTopics() []*cobra.Command {
	return []*cobra.Command{
		{
			Use:   "exit-codes",
			Short: "What the exit codes mean",
			Long: `Exit codes of pulse:

  0    done
  1    something failed; for "doctor": a check failed
  2    the command line, the configuration or the event is wrong; nothing was done
  3    the store, subscription, dead letter, event or file asked for does not exist
  4    the event id is taken by an event that says something else
  130  interrupted by Ctrl-C; 143 by SIGTERM

The first Ctrl-C or SIGTERM lets what is under way finish, the second aborts. "serve" ends with 0 after one when it could finish.`,
		},
		{Use: "configuration", Short: "Flags, variables and the configuration file", Long: configurationHelp()},
	}
}

func configurationHelp() string {
	var b strings.Builder
	b.WriteString(`A setting is taken from the command line, else from the environment, else from a YAML file,
else it has its default. The file is the one --config or PULSE_CONFIG names, else pulse.yaml in
the current directory when there is one. Its keys are the names of the flags:

`)
	for _, s := range app.Settings() {
		fmt.Fprintf(&b, "  %-18s %-24s %s%s\n", s.Name, s.Variable, strings.ReplaceAll(s.Help, "`", ""), s.DefaultText())
	}
	b.WriteString(`
An example of a file:

  store: sqlite:/var/lib/school/pulse.db
  source: /school
  log-format: json
  broker: nats://nats.example.org:4222

The settings from broker on are for serve, republish, doctor and subscription drop. Unknown keys are refused. An empty variable
counts as not set. Paths are relative to the current directory.`)
	return b.String()
}
