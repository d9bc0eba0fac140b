package cli

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse/internal/app"
	"github.com/edupulse-live/pulse/internal/demo"
)

// Where the demo keeps its store, unless told otherwise.
const (
	demoData = "pulse-demo"
	yearData = "pulse-demo-oulad"

	demoSchema = "pulse_demo"
	yearSchema = "pulse_demo_oulad"
)

// yearMemory is where the year begins to collect garbage sooner. The caches of the embedded broker come and go with what the handler
// has yet to read; without a limit as much again would lie about uncollected.
const yearMemory = 250 << 20

type demoOptions struct {
	data     string
	store    app.StoreSpec // one in PostgreSQL, or else empty for a file in data
	broker   app.BrokerSpec
	dataset  string
	rate     float64
	events   int
	duration time.Duration
}

func newDemoCommand(env *environment) *cobra.Command {
	var opts demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play a small learning platform, or a real year of a large one",
		Long: `Demo plays a small learning platform on a store of its own: teachers publish, students enrol, submit quizzes and
earn badges. It shows what is emitted (→), published to the broker (⇢), and what five stand-in side effects make of
it: handled (✓), failed and tried again (↻), given up (✗). Ctrl-C ends it; while it runs, look at it with the other
commands.

The broker is a NATS server inside this process, with its data beside the store (pulse.db.nats), and side effects are
handled from it. With --broker none nothing is published: they are handled from the log. It may be the one this time
and the other the next time, on the same --data: what is not handled yet comes the new way. With the URL of another broker,
on which nothing else is published, the demo uses that. PULSE_BROKER does not count here.

With --oulad it replays a real year: the Open University Learning Analytics dataset (Kuzilek, Hlosta and Zdrahal, 2017, CC BY
4.0), of which DIR holds the tables as gzip CSV, without studentVle. Every event is emitted, published, handled in order by
one transactional subscription, and counted afterwards by what the handler did, not by what the bus says; published are those
that the broker has acknowledged. Killed at any moment and started again on the same --data, and --store, it ends with the same counts.
People appear under pseudonyms made with a secret that is forgotten when the run ends well; their gender, region and so on
are left out.

With --store postgres://… the log is in PostgreSQL, in the schema ` + demoSchema + ` or with --oulad ` + yearSchema + `,
unless the URL names another one. The data of the broker, and the secret of a year, are in --data still: to begin anew,
DROP SCHEMA and remove that too.

Its time runs from the first emit to the last commit of the handler, its latency from the call of Emit to that commit.`,
		Example: `  pulse demo
  pulse demo --rate 200 --duration 10s
  pulse demo --broker none
  pulse demo --broker amqp://guest:guest@127.0.0.1
  pulse demo --oulad ./oulad --data /tmp/year --json
  pulse demo --store postgres://app@db/school`,
		Args: positional(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(cmd); err != nil {
				return err
			}
			if opts.dataset != "" {
				return env.demoYear(cmd, opts)
			}
			return env.demoLive(cmd, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.data, "data", "", fmt.Sprintf("`directory` for the store and the broker, created when there is none (default %q, with --oulad %q)", demoData, yearData))
	flags.String("broker", app.BrokerEmbedded, "`BROKER` to publish to: embedded, none, or nats://, amqp://, kafka://HOST:PORT")
	flags.StringVar(&opts.dataset, "oulad", "", "replay the year in this `directory`")
	flags.Float64Var(&opts.rate, "rate", 20, "events per second that people cause; 0 for as many as possible, the default with --oulad")
	numberVar(flags, &opts.events, "events", 1, "stop after this `number` of events")
	flags.DurationVar(&opts.duration, "duration", 0, "stop after this long")
	return cmd
}

func (o *demoOptions) check(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	var err error
	o.broker, err = app.ParseBroker(cmd.Flag("broker").Value.String())
	switch {
	case err != nil:
		return usagef("--broker: %w", err)
	case o.broker.Kind == app.BrokerLog:
		return usagef("--broker of a demo is one that brings the events back to the side effects: embedded, none, or nats://, amqp://, kafka://HOST:PORT")
	case o.rate < 0:
		return usagef("--rate %g is negative: give 0 for as fast as possible", o.rate)
	case changed("duration") && o.duration <= 0:
		return usagef("--duration %v: give a time such as 90s, or leave it out to go on until Ctrl-C", o.duration)
	case changed("oulad") && o.dataset == "":
		return usagef("--oulad is empty: name the directory of the dataset")
	case o.dataset != "" && (changed("events") || changed("duration")):
		return usagef("--events and --duration are not for --oulad, which replays all of the year")
	}
	data, schema := demoData, demoSchema
	if o.dataset != "" {
		data, schema = yearData, yearSchema
		if !changed("rate") {
			o.rate = 0
		}
	}
	if o.data == "" {
		o.data = data
	}
	if !changed("store") {
		return nil
	}
	spec, err := app.ParseStore(cmd.Flag("store").Value.String())
	switch {
	case err != nil:
		return usagef("--store: %w", err)
	case spec.Kind != app.KindPostgres:
		return usagef("the demo has a store of its own: name its directory by --data, or a database by --store postgres://USER@HOST/DATABASE")
	}
	o.store = spec.InSchema(schema)
	return nil
}

// schema is that of the store, when it is in PostgreSQL.
func (o *demoOptions) schema() string {
	if o.store.Kind != app.KindPostgres {
		return ""
	}
	return string(o.store.Schema())
}

// where is the store, as a flag of other commands names it.
func (o *demoOptions) where() string {
	if o.store.Kind != app.KindPostgres {
		return "sqlite:" + filepath.Join(o.data, demo.StoreFile)
	}
	return "'" + o.store.String() + "'"
}

// open is a demo.Opener.
func (o *demoOptions) open(ctx context.Context, path string) (demo.Store, error) {
	if o.store.Kind == app.KindPostgres {
		store, err := app.OpenPostgres(ctx, o.store)
		if err != nil {
			return nil, err // not a nil *Store in an interface
		}
		return store, nil
	}
	store, err := app.OpenSQLite(ctx, path)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// demoBroker opens the broker of a demo; nil for none.
func (o *demoOptions) demoBroker(logger *slog.Logger) demo.BrokerOpener {
	if o.broker.Kind == app.BrokerNone {
		return nil
	}
	return func(ctx context.Context, store string) (*demo.Broker, error) {
		cfg := app.EmbeddedFor(store)
		if o.broker.Kind != app.BrokerEmbedded {
			cfg.Broker = o.broker
		}
		d, err := app.OpenDestination(ctx, &cfg, logger)
		if err != nil {
			return nil, err
		}
		return &demo.Broker{Destination: d.Name, Publisher: d.Publisher, Source: d.Source, Close: d.Close}, nil
	}
}

func (env *environment) demoLive(cmd *cobra.Command, opts demoOptions) error {
	cfg, err := env.config(cmd)
	if err != nil {
		return err
	}
	logger := env.logger(cfg)
	live := demo.LiveOptions{
		Data: opts.data, Open: opts.open, Schema: opts.schema(), Broker: opts.demoBroker(logger),
		Rate: opts.rate, Events: opts.events, Duration: opts.duration, Logger: logger,
	}
	if !env.json {
		live.View, live.Colour = env.stdout, env.stdoutTerminal && env.getenv("NO_COLOR") == ""
		env.notef("playing on %s, Ctrl-C ends it", opts.data)
	}
	s, err := demo.Live(cmd.Context(), live)
	if err != nil {
		return err
	}
	if opts.store.Kind == app.KindPostgres {
		s.Store = opts.store.String()
	}
	if env.json {
		return env.printJSON(s)
	}
	return env.printf("%s", showSummary(s, &opts))
}

// showSummary says what happened and what to look at next.
func showSummary(s *demo.Summary, opts *demoOptions) string {
	var b strings.Builder
	handled := 0
	for _, n := range s.Handled {
		handled += n
	}
	published, broker := "", opts.broker.Kind != app.BrokerNone
	if broker {
		published = fmt.Sprintf(", %d published", s.Published)
	}
	fmt.Fprintf(&b, "\n%s in %.1f s%s, handled %d times; %s, %s\n\n", count(s.Emitted, "event"), s.Seconds, published, handled,
		strings.Replace(count(s.Retries, "retry"), "retrys", "retries", 1), count(s.Dead, "dead letter"))
	store := " --store " + opts.where()
	fmt.Fprintln(&b, "Try next:")
	fmt.Fprintln(&b, "  pulse status"+store)
	fmt.Fprintln(&b, "  pulse log"+store+" --follow")
	if s.Trace != "" {
		fmt.Fprintln(&b, "  pulse trace"+store+" "+s.Trace)
	}
	if s.Dead > 0 {
		fmt.Fprintln(&b, "  pulse dead list"+store)
	}
	if opts.broker.Kind == app.BrokerEmbedded {
		serve := "  pulse serve"
		if opts.store.Kind == app.KindPostgres {
			serve = "  cd " + opts.data + " && pulse serve" // where the data of the broker is
		}
		fmt.Fprintln(&b, serve+store+" --nats-listen 127.0.0.1:4222   # read the broker with any NATS client")
	}
	return b.String()
}

func (env *environment) demoYear(cmd *cobra.Command, opts demoOptions) error {
	cfg, err := env.config(cmd)
	if err != nil {
		return err
	}
	logger := env.logger(cfg)
	year := demo.YearOptions{
		Dataset: opts.dataset, Data: opts.data, Open: opts.open, Schema: opts.schema(), Broker: opts.demoBroker(logger), Rate: opts.rate, Logger: logger,
	}
	if env.stderrTerminal {
		year.Progress = env.yearProgress(year.Broker != nil)
	}
	if env.getenv("GOMEMLIMIT") == "" {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(yearMemory))
	}
	report, err := demo.Year(cmd.Context(), year)
	if err != nil {
		if cmd.Context().Err() != nil {
			env.notef("start again with --data %s to go on where it stopped", opts.data)
		}
		return err
	}
	if err := env.printReport(report, &opts); err != nil {
		return err
	}
	if !report.Clean() {
		return failuref("%d events lost, %d duplicates, %d out of order: the store %s shows where", report.Lost, report.Duplicates, report.OutOfOrder, opts.where())
	}
	return nil
}

// yearProgress draws a bar of what is handled.
func (env *environment) yearProgress(broker bool) func(demo.Progress) {
	var bar *progressbar.ProgressBar
	return func(p demo.Progress) {
		if bar == nil {
			bar = progressbar.NewOptions(p.Planned, progressbar.OptionSetWriter(env.stderr), progressbar.OptionShowCount(),
				progressbar.OptionShowIts(), progressbar.OptionSetItsString("events"), progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
		}
		published := ""
		if broker {
			published = fmt.Sprintf(" published %d,", p.Published)
		}
		bar.Describe(fmt.Sprintf("emitted %d,%s handled", p.Emitted, published))
		_ = bar.Set(p.Handled) // a bar that cannot be drawn is no reason to stop
		if p.Emitted == p.Planned && p.Handled == p.Planned {
			_ = bar.Finish()
		}
	}
}

func (env *environment) printReport(r *demo.Report, opts *demoOptions) error {
	if env.json {
		return env.printJSON(r)
	}
	published, from := "0, with no broker", "the log"
	if opts.broker.Kind != app.BrokerNone {
		published, from = fmt.Sprintf("%d, as the broker acknowledged", r.Published), "the broker"
	}
	return env.printf(`emitted      %d
published    %s
handled      %d from %s, in one ordered transactional subscription
lost         %d
duplicates   %d
out of order %d
%.1f s, %.0f events/s; from emit to handled p50 %.1f ms, p99 %.1f ms; at most %.0f MiB of memory
Look at it by pulse log --store %s --tail 20
`, r.Emitted, published, r.Handled, from, r.Lost, r.Duplicates, r.OutOfOrder, r.Seconds, r.EventsPerSecond, r.Latency.P50, r.Latency.P99, r.PeakRSS, opts.where())
}
