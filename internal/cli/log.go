package cli

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

// followInterval is how often a followed log is looked at, and followTail how many events come before what is new.
const (
	followInterval = 100 * time.Millisecond
	followTail     = 10
)

type logOptions struct {
	filter
	follow bool
	tail   int
}

func newLogCommand(env *environment) *cobra.Command {
	var opts logOptions
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show the events of the log",
		Long: `Log shows the events of the log in order of their positions, one a line. All conditions must hold.

On a terminal a payload is cut to what fits. With --json each line is an object with the whole
event. Use export for a file that import reads again.

--follow goes on with what is emitted, by any process, until Ctrl-C or --limit. It begins with the last
10 events unless --after, --since or --tail says otherwise.`,
		Example: `  pulse log --tail 20
  pulse log --name 'lesson.>' --key lesson-7 --since 2h
  pulse log --follow --name quiz.submitted
  pulse log --json --after 1000 --limit 10`,
		Args: positional(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := opts.check(cmd)
			if err != nil {
				return err
			}
			return env.with(cmd, func(ctx context.Context, a *app.App) error {
				return env.log(ctx, a, q, opts)
			})
		},
	}
	opts.register(cmd)
	cmd.Flags().BoolVarP(&opts.follow, "follow", "f", false, "go on with what is emitted")
	numberVar(cmd.Flags(), &opts.tail, "tail", 1, "only the last `N` of the events selected")
	return cmd
}

// check turns the flags into a query.
func (o *logOptions) check(cmd *cobra.Command) (pulse.Query, error) {
	q, err := o.query(time.Now())
	changed := cmd.Flags().Changed
	switch {
	case err != nil:
		return q, err
	case o.tail > 0 && changed("limit"):
		return q, usagef("--tail shows the last events and --limit the first: give one of them")
	case o.follow && changed("until"):
		return q, usagef("--follow does not end at a time: leave out --until")
	case o.follow && !changed("after") && !changed("since") && !changed("tail"):
		if o.tail = followTail; q.Limit > 0 {
			o.tail = min(o.tail, q.Limit)
		}
	}
	return q, nil
}

// log prints what q selects.
func (env *environment) log(ctx context.Context, a *app.App, q pulse.Query, opts logOptions) error {
	p := env.newEventPrinter()
	left := q.Limit
	if !opts.follow {
		info, err := a.Store.Info(ctx)
		if err != nil {
			return err
		}
		q.Through = info.Head // what is emitted meanwhile could go on for ever
	}
	if opts.tail > 0 {
		envs, next, err := readTail(ctx, a.Store, q, opts.tail)
		if err != nil {
			return err
		}
		if err := p.print(envs); err != nil {
			return err
		}
		q.After = next
		if left > 0 {
			if left -= len(envs); left == 0 {
				return nil
			}
			q.Limit = left
		}
	}
	for opts.tail == 0 || opts.follow {
		page, err := a.Store.Read(ctx, q)
		if err != nil {
			return err
		}
		if err := p.print(page.Envelopes); err != nil {
			return err
		}
		if left > 0 {
			if left -= len(page.Envelopes); left <= 0 {
				break
			}
			q.Limit = left
		}
		if page.Next > q.After {
			q.After = page.Next
			continue
		}
		if !opts.follow {
			break
		}
		if err := waitForMore(ctx, a.Store, q.After); err != nil {
			return err
		}
	}
	if p.printed == 0 && !env.json {
		env.notef("no event matches")
	}
	return nil
}

// waitForMore returns when the log has more than after.
func waitForMore(ctx context.Context, store pulse.Store, after pulse.Position) error {
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		info, err := store.Info(ctx)
		if err != nil {
			return err
		}
		if info.Head > after {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// eventPrinter prints events as lines of a table or of JSON.
type eventPrinter struct {
	env     *environment
	table   *table
	printed int
}

func (env *environment) newEventPrinter() *eventPrinter {
	return &eventPrinter{env: env, table: env.newTable(
		column{title: "POSITION", right: true}, column{title: "HAPPENED"}, column{title: "NAME", most: 32},
		column{title: "KEY", most: 24}, column{title: "ACTOR"}, column{title: "PAYLOAD"})}
}

func (p *eventPrinter) print(envs []pulse.Envelope) error {
	p.printed += len(envs)
	if p.env.json {
		return p.printJSON(envs)
	}
	for i := range envs {
		e := &envs[i]
		p.table.add(strconv.FormatInt(int64(e.Position), 10), showTime(e.OccurredAt), printable(e.Name),
			printable(e.Key), showActor(e.Actor), showPayload(e.Data))
	}
	return p.table.flush()
}

// printJSON writes a page at once: each write is a call of the system.
func (p *eventPrinter) printJSON(envs []pulse.Envelope) error {
	var b bytes.Buffer
	for i := range envs {
		if err := encodeJSON(&b, toEnvelopeJSON(&envs[i])); err != nil {
			return err
		}
	}
	_, err := p.env.stdout.Write(b.Bytes())
	return err
}
