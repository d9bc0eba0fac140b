package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

// newSettleCommand is dead retry, skip or drop.
func newSettleCommand(env *environment, s pulse.Settlement) *cobra.Command {
	var f deadFilter
	var yes bool
	verb := string(s)
	cmd := &cobra.Command{
		Use:  verb + " SUBSCRIPTION (--position POSITION | --name NAME | --all)",
		Args: positional("SUBSCRIPTION, a name from pulse subscription list"),
		Example: fmt.Sprintf(`  pulse dead %[1]s mailer --position 1042
  pulse dead %[1]s mailer --name 'quiz.*'
  pulse dead %[1]s mailer --all`, verb),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.query(args[0])
			if err != nil {
				return err
			}
			if !f.all && f.name == "" && len(f.positions) == 0 {
				return usagef("which dead letters of %s? Give --position, --name or --all", args[0])
			}
			return env.with(cmd, func(ctx context.Context, a *app.App) error {
				return env.settle(ctx, a, q, s, yes)
			})
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.all, "all", false, "all dead letters of the subscription")
	cmd.ValidArgsFunction = env.completeSubscriptions
	switch s {
	case pulse.SettleRetry:
		cmd.Short = "Try dead letters again"
		cmd.Long = `Retry tries dead letters again as soon as their subscription runs; their attempts count from 1 again. In an
ordered subscription they keep their place in their key.`
	case pulse.SettleSkip:
		cmd.Short = "Let keys go on without their dead letters"
		cmd.Long = `Skip lets the later events of a key be handled without the dead letter that holds them up. The dead letter
stays as a record and can still be retried or dropped.`
	case pulse.SettleDrop:
		cmd.Short = "Remove dead letters"
		cmd.Long = `Drop removes dead letters; later events of their keys go on. The events stay in the log, and an event
` + pulse.DroppedName + ` records what was dropped.`
		cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
		cmd.Example += " --yes"
	}
	return cmd
}

func (env *environment) settle(ctx context.Context, a *app.App, q pulse.DeliveryQuery, s pulse.Settlement, yes bool) error {
	rows, err := findDead(ctx, a, q)
	if err != nil {
		return err
	}
	if s == pulse.SettleDrop {
		what := fmt.Sprintf("drop %s of %s", count(len(rows), "dead letter"), printable(q.Subscription))
		if err := env.confirm(ctx, yes, what); err != nil {
			return err
		}
		q.Positions = positionsOf(rows) // those that were confirmed, and none that came since
	}
	n, err := a.Bus.Settle(ctx, q, s)
	if err != nil {
		return err
	}
	if env.json {
		type settled struct {
			Subscription string           `json:"subscription"`
			Done         pulse.Settlement `json:"done"`
			Count        int              `json:"count"`
		}
		return env.printJSON(settled{q.Subscription, s, n})
	}
	done := map[pulse.Settlement]string{
		pulse.SettleRetry: "will be tried again", pulse.SettleSkip: "skipped", pulse.SettleDrop: "dropped",
	}
	return env.printf("%s of %s %s\n", count(n, "dead letter"), printable(q.Subscription), done[s])
}

func positionsOf(rows []pulse.DeliveryState) []pulse.Position {
	positions := make([]pulse.Position, len(rows))
	for i := range rows {
		positions[i] = rows[i].Position
	}
	return positions
}
