package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

func newSubscriptionCommand(env *environment) *cobra.Command {
	return group(&cobra.Command{
		Use:     "subscription",
		Aliases: []string{"sub"},
		Short:   "Look after subscriptions: list, pause, resume, replay, drop",
		Long: `A subscription is a named group of handlers of an application, fed from the log. What these commands change
is seen at once by the process that runs the subscription, wherever it is.

The relay that publishes to a destination is one too: that of the destination nats is called relay/nats.`,
		Example: `  pulse subscription list
  pulse subscription pause mailer --reason 'mail server moves'
  pulse subscription pause relay/nats --reason 'the broker moves'`,
	},
		newSubscriptionListCommand(env), newPauseCommand(env), newResumeCommand(env), newReplayCommand(env), newDropCommand(env),
	)
}

func newSubscriptionListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the subscriptions",
		Long:  `List shows the subscriptions of the store by name, with the columns of status. With --json there is one object a line.`,
		Example: `  pulse subscription list
  pulse subscription list --json`,
		Args: positional(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.with(cmd, func(ctx context.Context, a *app.App) error {
				states, err := a.Bus.Subscriptions(ctx)
				if err != nil {
					return err
				}
				if !env.json {
					if len(states) == 0 {
						env.notef("no subscriptions")
					}
					return env.printSubscriptions(states)
				}
				for i := range states {
					if err := env.printJSON(toSubscriptionJSON(&states[i])); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

func newPauseCommand(env *environment) *cobra.Command {
	var reason string
	cmd := env.controlCommand("pause", func(ctx context.Context, a *app.App, s pulse.SubscriptionState) (string, error) {
		return "paused", a.Bus.Pause(ctx, s.Name, reason)
	})
	cmd.Short = "Stop handling until resume"
	cmd.Long = "Pause stops a subscription, in whatever process it runs, until it is resumed. Events wait in the log."
	cmd.Example = "  pulse subscription pause mailer --reason 'mail server moves'"
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`, for those who wonder")
	return cmd
}

func newResumeCommand(env *environment) *cobra.Command {
	cmd := env.controlCommand("resume", func(ctx context.Context, a *app.App, s pulse.SubscriptionState) (string, error) {
		return "resumed", a.Bus.Resume(ctx, s.Name)
	})
	cmd.Short = "End a pause"
	cmd.Long = "Resume ends a pause, one made by hand or one the subscription made itself after many failures."
	cmd.Example = "  pulse subscription resume mailer"
	return cmd
}

func newReplayCommand(env *environment) *cobra.Command {
	var from string
	cmd := env.controlCommand("replay", func(ctx context.Context, a *app.App, s pulse.SubscriptionState) (string, error) {
		if destination, relay := strings.CutPrefix(s.Name, pulse.RelayName("")); relay {
			return "", usagef("%s is a relay, which goes on behind the destination's last message: send events again by pulse republish --to %s", s.Name, destination)
		}
		position, err := parseFrom(from, s.Head)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("replays from position %d", position), a.Bus.Replay(ctx, s.Name, position)
	})
	cmd.Short = "Handle events again"
	cmd.Long = `Replay makes a subscription handle the log again from a position on: its handlers really run again, and so do
their effects, such as mails. Retries and dead letters are removed, because their events come again.`
	cmd.Example = `  pulse subscription replay search --from beginning
  pulse subscription replay mailer --from 1042`
	cmd.Flags().StringVar(&from, "from", "", "first `POSITION` to handle again, or beginning")
	return cmd
}

// parseFrom reads the position to replay from.
func parseFrom(s string, head pulse.Position) (pulse.Position, error) {
	if s == "" {
		return 0, usagef("from where? Give --from POSITION or --from beginning")
	}
	if s == "beginning" {
		return pulse.Beginning, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil || n < 1:
		return 0, usagef("--from %q is no position: give 1 or more, or beginning", s)
	case pulse.Position(n) > head+1:
		return 0, usagef("--from %d lies beyond the log, which ends at %d", n, head)
	}
	return pulse.Position(n), nil
}

func newDropCommand(env *environment) *cobra.Command {
	var yes bool
	cmd := env.controlCommand("drop", func(ctx context.Context, a *app.App, s pulse.SubscriptionState) (string, error) {
		if s.Holder != "" {
			env.warnf("%s is being run by %s, which will stop with an error", printable(s.Name), printable(s.Holder))
		}
		what := fmt.Sprintf("drop the subscription %s with its place in the log and %s", printable(s.Name), count(s.Retries+s.Waiting+s.Dead, "open delivery row"))
		if err := env.confirm(ctx, yes, what); err != nil {
			return "", err
		}
		if err := a.Bus.Drop(ctx, s.Name); err != nil {
			return "", err
		}
		if err := app.Forget(ctx, &a.Config, &s, env.logger(a.Config)); err != nil {
			env.warnf("the broker keeps the place of %s: %v. It forgets it by itself when nobody has read with it for as long as it keeps messages", printable(s.Name), err)
		}
		return "dropped", nil
	})
	cmd.Short = "Remove a subscription and all it left"
	cmd.Long = `Drop removes what the store keeps of a subscription: its place in the log, retries and dead letters. The
events stay. An application that subscribes again under this name starts anew. A relay that publishes again goes on
behind the destination's last message: what was refused there stays out, so look at its dead letters first.

What the broker keeps of a subscription that is fed by a destination is removed too. The broker is the one of the
configuration, as for serve; one that is embedded in another process is reached by its --nats-listen and --nats-token.`
	cmd.Example = `  pulse subscription drop old-mailer --yes
  pulse subscription drop old-mailer --broker nats://nats.example.org:4222`
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	addServeFlags(cmd)
	_ = cmd.Flags().MarkHidden("listen") // of no use here
	return cmd
}

// controlCommand is a command that changes one subscription. do returns what happened, in a word or two.
func (env *environment) controlCommand(verb string, do func(context.Context, *app.App, pulse.SubscriptionState) (string, error)) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " SUBSCRIPTION",
		Args:              positional("SUBSCRIPTION, a name from pulse subscription list"),
		ValidArgsFunction: env.completeSubscriptions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.with(cmd, func(ctx context.Context, a *app.App) error {
				s, err := findSubscription(ctx, a, args[0])
				if err != nil {
					return err
				}
				done, err := do(ctx, a, s)
				if err != nil {
					return err
				}
				if env.json {
					type controlled struct {
						Subscription string `json:"subscription"`
						Done         string `json:"done"`
					}
					return env.printJSON(controlled{s.Name, verb})
				}
				return env.printf("%s %s\n", printable(s.Name), done)
			})
		},
	}
}

// findSubscription returns the state of a subscription, or an error that says which there are.
func findSubscription(ctx context.Context, a *app.App, name string) (pulse.SubscriptionState, error) {
	states, err := a.Bus.Subscriptions(ctx)
	if err != nil {
		return pulse.SubscriptionState{}, err
	}
	var names []string
	for _, s := range states {
		if s.Name == name {
			return s, nil
		}
		if s.Name == pulse.RelayName(name) {
			return s, notFoundf("no subscription %q: the relay that publishes to that destination is called %s", name, s.Name)
		}
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return pulse.SubscriptionState{}, notFoundf("no subscription %q: the store has none", name)
	}
	const enough = 10
	if len(names) > enough {
		names = append(names[:enough], "…")
	}
	return pulse.SubscriptionState{}, notFoundf("no subscription %q: there are %s", name, strings.Join(names, ", "))
}

// completeSubscriptions offers the names of subscriptions to the shell.
func (env *environment) completeSubscriptions(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return env.completeNames(cmd, func(states []pulse.SubscriptionState) []pulse.SubscriptionState { return states })
}

// completeNames offers the names of the states that of selects to the shell.
func (env *environment) completeNames(cmd *cobra.Command, of func([]pulse.SubscriptionState) []pulse.SubscriptionState) ([]string, cobra.ShellCompDirective) {
	var names []string
	err := env.with(cmd, func(ctx context.Context, a *app.App) error {
		states, err := a.Bus.Subscriptions(ctx)
		for _, s := range of(states) {
			names = append(names, s.Name)
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// mustComplete completes the value of a flag.
func mustComplete(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // there is no such flag
	}
}
