package cli

import (
	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse/internal/app"
)

func newDoctorCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the store, its destinations and subscriptions, and what is at the broker",
		Long: `Doctor checks that the store opens and is whole, that the disk has room, that the log has no gap, and that
destinations and subscriptions fit to the log, run, and have no dead letters. Then it compares the last message at
the broker with the log: after a restore of an older copy the broker is ahead. The broker is the one of the
configuration, as for serve. It changes nothing, neither here nor there.

Each line begins with ok, warn (works, but look at it) or fail. The exit code is 1 when a check failed.`,
		Example: `  pulse doctor
  pulse doctor --broker nats://nats.example.org:4222
  pulse doctor --json | jq 'select(.verdict != "ok")'`,
		Args: positional(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.config(cmd)
			if err != nil {
				return err
			}
			failed := false
			err = app.Doctor(cmd.Context(), cfg, app.OpenOptions{Logger: env.logger(cfg)}, func(f app.Finding) error {
				failed = failed || f.Verdict == app.Fail
				return env.printFinding(f)
			})
			if err == nil && failed {
				return errSilent
			}
			return err
		},
	}
	addServeFlags(cmd)
	_ = cmd.Flags().MarkHidden("listen") // of no use here
	return cmd
}

func (env *environment) printFinding(f app.Finding) error {
	if env.json {
		type finding struct {
			Check   string      `json:"check"`
			Verdict app.Verdict `json:"verdict"`
			Detail  string      `json:"detail"`
		}
		return env.printJSON(finding(f))
	}
	verdict := pad(string(f.Verdict), 4, false)
	if f.Verdict != app.OK {
		verdict = env.red(env.stdoutTerminal, verdict)
	}
	return env.printf("%s  %s: %s\n", verdict, printable(f.Check), printable(f.Detail))
}
