package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

func newDeadCommand(env *environment) *cobra.Command {
	return group(&cobra.Command{
		Use:   "dead",
		Short: "Look after dead letters: list, show, retry, skip, drop",
		Long: `A dead letter is a delivery that gave up: its handler failed too often, or said that trying again is no use.
In an ordered subscription it holds up the events of its key until you decide:

  retry   try it again now; its attempts count from 1 again
  skip    let its key go on without it; the dead letter stays as a record
  drop    let its key go on and remove the dead letter; an event ` + pulse.DroppedName + ` records that`,
		Example: `  pulse dead list
  pulse dead show mailer --position 1042
  pulse dead retry mailer --all`,
	},
		newDeadListCommand(env), newDeadShowCommand(env),
		newSettleCommand(env, pulse.SettleRetry), newSettleCommand(env, pulse.SettleSkip), newSettleCommand(env, pulse.SettleDrop),
	)
}

// deadFilter is the flags that select dead letters of a subscription.
type deadFilter struct {
	positions []int64
	name      string
	all       bool
}

func (f *deadFilter) register(cmd *cobra.Command) {
	cmd.Flags().Int64SliceVar(&f.positions, "position", nil, "the dead letter of the event at `POSITION`; may be repeated, or a list with commas")
	cmd.Flags().StringVar(&f.name, "name", "", "dead letters of events of this `NAME` or pattern")
	cmd.Flags().Lookup("position").DefValue = "" // or the help says: default []
}

func (f *deadFilter) query(subscription string) (pulse.DeliveryQuery, error) {
	q := pulse.DeliveryQuery{Subscription: subscription, Name: f.name, Statuses: []pulse.DeliveryStatus{pulse.StatusDead}}
	if f.name != "" {
		if err := pulse.ValidatePattern(f.name); err != nil {
			return q, usagef("--name: %w", err)
		}
	}
	for _, p := range f.positions {
		if p < 1 {
			return q, usagef("--position %d: positions count from 1", p)
		}
		q.Positions = append(q.Positions, pulse.Position(p))
	}
	if f.all && (f.name != "" || len(f.positions) > 0) {
		return q, usagef("--all means all: leave out --position and --name")
	}
	return q, nil
}

// findDead returns the dead letters q selects. Selecting none, or naming a position that is none, is an error.
func findDead(ctx context.Context, a *app.App, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
	if _, err := findSubscription(ctx, a, q.Subscription); err != nil {
		return nil, err
	}
	rows, err := a.Bus.Deliveries(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, p := range q.Positions {
		if !slices.ContainsFunc(rows, func(d pulse.DeliveryState) bool { return d.Position == p }) {
			return nil, notFoundf("position %d is no such dead letter of %s: pulse dead list %s shows which there are", p, q.Subscription, q.Subscription)
		}
	}
	if len(rows) == 0 {
		return nil, notFoundf("%s has no such dead letter", q.Subscription)
	}
	return rows, nil
}

func newDeadListCommand(env *environment) *cobra.Command {
	var f deadFilter
	var limit int
	cmd := &cobra.Command{
		Use:   "list [SUBSCRIPTION]",
		Short: "List dead letters",
		Long:  `List shows the dead letters of a subscription, or of all. With --json there is one object a line.`,
		Example: `  pulse dead list
  pulse dead list mailer --name 'quiz.*' --json`,
		Args: optional("SUBSCRIPTION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			subscription := strings.Join(args, "")
			q, err := f.query(subscription)
			if err != nil {
				return err
			}
			q.Limit = limit
			return env.with(cmd, func(ctx context.Context, a *app.App) error {
				return env.listDead(ctx, a, q)
			})
		},
	}
	f.register(cmd)
	numberVar(cmd.Flags(), &limit, "limit", 1, "at most `N` dead letters (default all)")
	cmd.ValidArgsFunction = env.completeSubscriptions
	return cmd
}

func (env *environment) listDead(ctx context.Context, a *app.App, q pulse.DeliveryQuery) error {
	if q.Subscription != "" {
		if _, err := findSubscription(ctx, a, q.Subscription); err != nil {
			return err
		}
	}
	rows, err := a.Bus.Deliveries(ctx, q)
	if err != nil {
		return err
	}
	if len(rows) == 0 && !env.json {
		env.notef("no dead letters")
	}
	t := env.newTable(column{title: "SUBSCRIPTION", most: 32}, column{title: "POSITION", right: true}, column{title: "NAME", most: 32},
		column{title: "KEY", most: 24}, column{title: "ATTEMPTS", right: true}, column{title: "FAILED"}, column{title: "ERROR"})
	for i := range rows {
		d := &rows[i]
		if env.json {
			if err := env.printJSON(toDeadJSON(d)); err != nil {
				return err
			}
			continue
		}
		t.add(printable(d.Subscription), strconv.FormatInt(int64(d.Position), 10), printable(d.Name), printable(d.Key),
			strconv.Itoa(d.Attempt), showTime(d.FailedAt), printable(d.Error))
	}
	return t.flush()
}

func newDeadShowCommand(env *environment) *cobra.Command {
	var f deadFilter
	cmd := &cobra.Command{
		Use:   "show SUBSCRIPTION",
		Short: "Show dead letters with error, stack and event",
		Long:  `Show prints all that is known of the selected dead letters, of all of the subscription when none is selected.`,
		Example: `  pulse dead show mailer --position 1042
  pulse dead show mailer --name quiz.submitted --json`,
		Args: positional("SUBSCRIPTION, a name from pulse subscription list"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.query(args[0])
			if err != nil {
				return err
			}
			return env.with(cmd, func(ctx context.Context, a *app.App) error {
				rows, err := findDead(ctx, a, q)
				if err != nil {
					return err
				}
				for i := range rows {
					if err := env.showDead(ctx, a, &rows[i], i > 0); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f.register(cmd)
	cmd.ValidArgsFunction = env.completeSubscriptions
	return cmd
}

// showDead prints one dead letter with its event.
func (env *environment) showDead(ctx context.Context, a *app.App, d *pulse.DeliveryState, further bool) error {
	page, err := a.Store.Read(ctx, pulse.Query{After: d.Position - 1, Through: d.Position})
	if err != nil {
		return err
	}
	if env.json {
		j := toDeadJSON(d)
		if len(page.Envelopes) > 0 {
			if j.Event, err = json.Marshal(toEnvelopeJSON(&page.Envelopes[0])); err != nil {
				return err
			}
		}
		return env.printJSON(j)
	}
	var b strings.Builder
	if further {
		b.WriteByte('\n')
	}
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-13s %s\n", name, value)
		}
	}
	field("subscription", printable(d.Subscription))
	field("position", strconv.FormatInt(int64(d.Position), 10))
	field("name", printable(d.Name))
	field("key", printable(d.Key))
	if d.Lane != "" {
		field("holds up", "the later events of its key")
	}
	field("attempts", strconv.Itoa(d.Attempt))
	field("failed", showTime(d.FailedAt))
	field("error", indentLines(printableLines(d.Error)))
	field("stack", indentLines(printableLines(d.Stack)))
	if len(page.Envelopes) > 0 {
		e := &page.Envelopes[0]
		field("id", e.ID.String())
		field("happened", showTime(e.OccurredAt))
		if a := toEnvelopeJSON(e).Actor; a != nil {
			field("actor", a.String())
		}
		field("correlation", printable(e.Correlation))
		field("payload", indentLines(prettyPayload(e.Data)))
	}
	return env.printf("%s", b.String())
}

// indentLines puts the lines after the first under it.
func indentLines(s string) string {
	return strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n"+strings.Repeat(" ", 14))
}

func prettyPayload(data json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, data, "", "  ") != nil {
		return showPayload(data)
	}
	return printableLines(b.String())
}
