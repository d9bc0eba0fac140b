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

func newStatusCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the log and how far its destinations and subscriptions are",
		Long: `Status shows the head of the log and, for each destination events are published to, how far the relay is behind
(LAG), how long the first of those events has waited (OLDEST), how many events wait for one of their key that the
broker refused (WAITING), how many keys are held up (BLOCKED), how many events were refused (PARKED), and whether it
runs or pauses because the broker fails.

For each subscription it shows where its events come from, the log or a destination (FED BY), how far it is behind
(LAG), how many deliveries wait for another try (RETRIES) or behind one of their key (WAITING), how many keys are
held up (BLOCKED), how many deliveries gave up (DEAD), and whether it runs.

The exit code is 0 whatever the numbers are; use doctor for a judgement.`,
		Example: `  pulse status
  pulse status --json | jq '.destinations[] | {name, lag, oldest_unpublished, pause_reason}'
  pulse status --json | jq '.subscriptions[] | select(.lag > 100) | .name'`,
		Args: positional(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.with(cmd, env.status)
		},
	}
}

type statusJSON struct {
	Store         string             `json:"store"`
	Origin        string             `json:"origin"`
	Epoch         int                `json:"epoch"`
	Head          pulse.Position     `json:"head"`
	MaxEventBytes int                `json:"max_event_bytes"`
	Destinations  []destinationJSON  `json:"destinations"`
	Subscriptions []subscriptionJSON `json:"subscriptions"`
}

func (env *environment) status(ctx context.Context, a *app.App) error {
	info, err := a.Store.Info(ctx)
	if err != nil {
		return err
	}
	states, err := a.Bus.Subscriptions(ctx)
	if err != nil {
		return err
	}
	relays, states := apart(states)
	oldest, err := oldestUnpublished(ctx, a, relays)
	if err != nil {
		return err
	}
	if env.json {
		s := statusJSON{
			Store: a.Config.Store.String(), Origin: info.Origin, Epoch: info.Epoch, Head: info.Head,
			MaxEventBytes: info.MaxBytes, Destinations: []destinationJSON{}, Subscriptions: []subscriptionJSON{},
		}
		for i := range relays {
			s.Destinations = append(s.Destinations, toDestinationJSON(&relays[i], oldest[i]))
		}
		for i := range states {
			s.Subscriptions = append(s.Subscriptions, toSubscriptionJSON(&states[i]))
		}
		return env.printJSON(s)
	}
	err = env.printf("store   %s\norigin  %s\nhead    %d\n", a.Config.Store, printable(info.Origin), info.Head)
	if err != nil {
		return err
	}
	if len(relays) > 0 {
		if err := env.printf("\n"); err != nil {
			return err
		}
		if err := env.printDestinations(relays, oldest); err != nil {
			return err
		}
	}
	if len(states) == 0 {
		return env.printf("\nno subscriptions\n")
	}
	if err := env.printf("\n"); err != nil {
		return err
	}
	return env.printSubscriptions(states)
}

// printSubscriptions prints a table, and what is never normal under it.
func (env *environment) printSubscriptions(states []pulse.SubscriptionState) error {
	t := env.newTable(
		column{title: "SUBSCRIPTION", most: 40}, column{title: "FED BY", most: 20}, column{title: "CURSOR", right: true}, column{title: "LAG", right: true},
		column{title: "RETRIES", right: true}, column{title: "WAITING", right: true}, column{title: "BLOCKED", right: true},
		column{title: "DEAD", right: true}, column{title: "STATE"})
	for i := range states {
		s := &states[i]
		t.add(printable(s.Name), fedBy(s), strconv.FormatInt(int64(s.Cursor.Position), 10), strconv.FormatInt(s.Lag(), 10),
			strconv.Itoa(s.Retries), strconv.Itoa(s.Waiting), strconv.Itoa(s.Blocked), strconv.Itoa(s.Dead), showState(s))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for i := range states {
		env.warnAhead(&states[i])
	}
	return nil
}

// fedBy says where the events of a subscription come from.
func fedBy(s *pulse.SubscriptionState) string {
	switch {
	case s.Source != "":
		return printable(s.Source)
	case strings.HasPrefix(s.Name, pulse.RelayName("")):
		return "log, publishes"
	}
	return "log"
}

func (env *environment) warnAhead(s *pulse.SubscriptionState) {
	if s.Lag() < 0 {
		env.warnf("%s has handled up to position %d, but the log ends at %d: the log was restored or replaced; see pulse doctor",
			printable(s.Name), s.Cursor.Position, s.Head)
	}
}

// showState says in words whether a subscription runs.
func showState(s *pulse.SubscriptionState) string {
	switch {
	case s.PausedUntil.Equal(pulse.Forever):
		return "paused" + because(s.PauseReason)
	case app.Pausing(s):
		return fmt.Sprintf("paused until %s%s", showTime(s.PausedUntil), because(s.PauseReason))
	case s.Holder != "":
		return "run by " + printable(s.Holder)
	}
	return "not running"
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + printable(reason)
}
