package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

// republishFlags are what republish is told.
type republishFlags struct {
	to, from, through, name string
	rate                    int
	dryRun                  bool
}

func newRepublishCommand(env *environment) *cobra.Command {
	var f republishFlags
	cmd := &cobra.Command{
		Use:   "republish --to DESTINATION --from POSITION",
		Short: "Send events to a destination again",
		Long: `Republish sends events that were published to a destination once more, for readers who have lost them. Those who
have them must take them for repeated: subscriptions of Pulse do, and do not handle them again. The place of the relay
stays as it is; what it has not published yet, or was refused, is not sent.

The relay is paused meanwhile, in whatever process it runs. The broker is the one of the configuration, as for serve. An
embedded broker that serve runs is reached by --broker nats://TOKEN@HOST:PORT, if serve was given --nats-listen.

With Ctrl-C it stops; what was sent until then was sent.`,
		Example: `  pulse republish --to nats --from beginning --dry-run
  pulse republish --to nats --from 1042 --through 1100
  pulse republish --to nats --from 1 --name 'quiz.>' --rate 500
  pulse republish --to nats --from 1042 --broker nats://nats.example.org:4222 --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && f.to == "" {
				return usagef("%s takes flags only: write --to %s", cmd.CommandPath(), args[0])
			}
			return positional()(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.republish(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "`DESTINATION` to send to, a name from pulse status")
	flags.StringVar(&f.from, "from", "", "first `POSITION` to send, or beginning")
	flags.StringVar(&f.through, "through", "", "last `POSITION` to send (default: the last one published)")
	flags.StringVar(&f.name, "name", "", "only events whose name matches this `PATTERN`, such as 'lesson.*' or 'quiz.>'")
	flags.BoolVar(&f.dryRun, "dry-run", false, "count what would be sent, and send nothing")
	numberVar(flags, &f.rate, "rate", 1, "`EVENTS` a second at most (default: no limit)")
	addServeFlags(cmd)
	_ = flags.MarkHidden("listen") // of no use here
	mustComplete(cmd, "to", env.completeDestinations)
	return cmd
}

// query reads what is to be sent.
func (f *republishFlags) query() (pulse.Query, error) {
	var q pulse.Query
	from, err := parseFrom(f.from, 1<<62) // how far it may go the bus knows
	if err != nil {
		return q, err
	}
	q.After = from - 1
	if f.through != "" {
		n, err := strconv.ParseInt(f.through, 10, 64)
		if err != nil || pulse.Position(n) < from {
			return q, usagef("--through %q is no position from %d on", f.through, from)
		}
		q.Through = pulse.Position(n)
	}
	if f.name != "" {
		if err := pulse.ValidatePattern(f.name); err != nil {
			return q, usagef("--name: %w", err)
		}
		q.Name = f.name
	}
	return q, nil
}

func (env *environment) republish(cmd *cobra.Command, f republishFlags) error {
	q, err := f.query()
	if err != nil {
		return err
	}
	if f.to == "" {
		return usagef("to where? Give --to DESTINATION, a name from pulse status")
	}
	return env.with(cmd, func(ctx context.Context, a *app.App) error {
		return env.republishTo(ctx, a, f, q)
	})
}

// republishTo sends what q selects. A dry run needs no broker.
func (env *environment) republishTo(ctx context.Context, a *app.App, f republishFlags, q pulse.Query) error {
	relay, err := findDestination(ctx, a, f.to)
	if err != nil {
		return err
	}
	if at := a.Config.Broker.Destination(); f.to != at {
		return usagef("--to %s: the broker is %s, whose destination is called %q: name another by --broker", printable(f.to), &a.Config.Broker, at)
	}
	opts := &pulse.RepublishOptions{Rate: f.rate, DryRun: f.dryRun}
	var p pulse.Publisher = nowhere{}
	if !f.dryRun {
		d, err := app.OpenDestination(ctx, &a.Config, env.logger(a.Config))
		if errors.Is(err, pulse.ErrHeld) {
			return fmt.Errorf("another process runs the embedded broker: connect to it by --broker nats://TOKEN@HOST:PORT if it has --nats-listen, or stop it: %w", err)
		}
		if err != nil {
			return err
		}
		defer d.Close()
		p = d.Publisher
	}
	bar := env.republishBar(q, relay.Cursor.Position)
	opts.Progress = func(_ int, through pulse.Position) { _ = bar.Set64(int64(through - q.After)) }
	n, err := a.Bus.Republish(ctx, f.to, p, q, opts)
	_ = bar.Clear()
	if err != nil {
		if n > 0 {
			env.notef("%s were sent before that", count(n, "event"))
		}
		return err
	}
	if env.json {
		type republished struct {
			Destination string `json:"destination"`
			Count       int    `json:"count"`
			DryRun      bool   `json:"dry_run"`
		}
		return env.printJSON(republished{f.to, n, f.dryRun})
	}
	if f.dryRun {
		return env.printf("%s would be sent to %s again\n", count(n, "event"), printable(f.to))
	}
	return env.printf("%s sent to %s again\n", count(n, "event"), printable(f.to))
}

// republishBar is a bar over the positions that q selects, on a terminal.
func (env *environment) republishBar(q pulse.Query, reached pulse.Position) *progressbar.ProgressBar {
	if q.Through == 0 {
		q.Through = reached
	}
	total := int64(max(q.Through-q.After, 1))
	if !env.stderrTerminal || env.json {
		return progressbar.DefaultSilent(total)
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(env.stderr), progressbar.OptionSetDescription("republish"), progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetRenderBlankState(true))
}

// nowhere is the publisher of a dry run, which is never asked to publish.
type nowhere struct{}

func (nowhere) PublishBatch(_ context.Context, envs []pulse.Envelope) []pulse.Result {
	return make([]pulse.Result, len(envs))
}

func (nowhere) Last(context.Context) (pulse.Cursor, bool, error) { return pulse.Cursor{}, false, nil }

func (nowhere) Capabilities() pulse.Capabilities { return pulse.Capabilities{MaxBatch: 1} }
