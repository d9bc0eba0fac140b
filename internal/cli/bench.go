package cli

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse/internal/app"
	"github.com/edupulse-live/pulse/internal/bench"
)

// benchStore is measured when no store is named: the usual one is somebody's.
const benchStore = "pulse-bench.db"

// benchSchema is where stores in PostgreSQL are made, unless the URL names a schema.
const benchSchema = "pulse_bench"

func newBenchCommand(env *environment) *cobra.Command {
	opts, broker := bench.Options{Rounds: 3, Waiting: 1_000_000, Backlog: 500_000}, ""
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine",
		Long: `Bench measures, on files of its own that it removes again:

  start    how long a first run takes until it is ready
  emit     events stored by 256 concurrent callers, next to the same rows inserted by SQLite alone in
           transactions of 500; both sync every transaction
  handle   a backlog handled by an ordered subscription
  latency  from Emit to the handler at 200 events a second
  stalled  memory, and the rate of emitting, beside a subscription that hangs while a backlog grows
  relay    a backlog published to the embedded broker, next to the NATS client alone with the same messages, made
           before and sent in atomic batches of 4,000, and to reading and encoding the events alone; the relay
           does both at once, so the ratio is to the slower of the two
  broker   latency once more, with the embedded broker between the log and the handler
  down     memory, and the rate of emitting, while the broker does not answer and a backlog grows; and how long the
           relay takes for all of it once the broker is back. Emitting is compared with a bus that publishes
           nowhere: beside a relay at work it would look better than it is

Compare ratios rather than rates: they hold when the machine is busy. The files are made beside the path of --store, which must not
exist (default ` + benchStore + `): the disk they are on is what is measured.

With --store postgres://… the stores are schemas there: ` + benchSchema + ` or the one that the URL names, and ` + benchSchema + `_2
and so on. They must not exist, and are dropped again. Emitting is compared with inserts of the same row through pgx,
1,000 in a transaction by unnest, on two connections.

With --broker amqp://… the sections relay and broker are measured with that RabbitMQ server, on an exchange and a quorum queue made for
it and removed again: its client alone publishes such messages, 2,000 on their way at a time.

With --broker kafka://… they are measured with that cluster, on topics of one partition made for it and removed again: its client alone
publishes such records both as an idempotent producer and in transactions of 4,000, and the faster of the two counts. A user in the URL
logs in by SCRAM-SHA-512.`,
		Example: `  pulse bench
  pulse bench --only emit,latency --json
  pulse bench --only relay --backlog 100000
  pulse bench --broker amqp://school:…@127.0.0.1:5672 --backlog 100000
  pulse bench --broker kafka://127.0.0.1:9092 --backlog 100000
  pulse bench --store sqlite:/mnt/fast/bench.db
  pulse bench --store postgres://app@db/school --only emit,latency`,
		Args: positional(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.config(cmd)
			if err != nil {
				return err
			}
			if opts.Time <= 0 {
				return usagef("--time %v: give a time such as 3s", opts.Time)
			}
			opts.Open = func(ctx context.Context, path string) (bench.Store, error) { return app.OpenSQLite(ctx, path) }
			switch {
			case !cmd.Flags().Changed("store") && env.getenv("PULSE_STORE") == "":
				opts.Path = benchStore
			case cfg.Store.Kind == app.KindPostgres:
				benchOnPostgres(&opts, cfg.Store)
			case cfg.Store.Kind != app.KindSQLite:
				return usagef("bench measures files and PostgreSQL: give --store sqlite:PATH or postgres://USER@HOST/DATABASE")
			default:
				opts.Path = cfg.Store.Path
			}
			opts.Broker = openBenchBroker
			if err := benchBroker(&opts, broker); err != nil {
				return err
			}
			return env.bench(cmd.Context(), opts)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&opts.Only, "only", nil, "measure only these `sections`: "+strings.Join(bench.Sections(), ", "))
	numberVar(flags, &opts.Rounds, "rounds", 1, "how often what is compared is measured, `N` times; medians are printed")
	flags.DurationVar(&opts.Time, "time", 3*time.Second, "how `LONG` one measurement takes")
	numberVar(flags, &opts.Waiting, "waiting", 1, "`EVENTS` that wait for the stalled subscription, and for the broker that is down")
	numberVar(flags, &opts.Backlog, "backlog", 1, "`EVENTS` that wait for the relay")
	flags.StringVar(&broker, "broker", app.BrokerEmbedded, "what is measured: `embedded`, or amqp:// or kafka://USER:PASSWORD@HOST:PORT")
	flags.BoolVar(&opts.Keep, "keep", false, "leave the files")
	return cmd
}

func (env *environment) bench(ctx context.Context, opts bench.Options) error {
	opts.Say = env.notef
	report, err := bench.Run(ctx, opts)
	if err != nil {
		return err
	}
	if env.json {
		return env.printJSON(report)
	}
	for _, line := range report.Lines() {
		if err := env.printf("%-10s %-58s %s\n", line.Section, line.Measure, line.Value); err != nil {
			return err
		}
	}
	return nil
}

// benchOnPostgres lets stores be schemas of a database: the one that the URL names or benchSchema, and others with a number. None of them may
// be there before, and only those that were made are removed.
func benchOnPostgres(opts *bench.Options, spec app.StoreSpec) {
	base := spec.InSchema(benchSchema)
	opts.Path = string(base.Schema())
	made := map[string]bool{}
	schema := func(path string) string { return strings.ReplaceAll(path, ".", "_") }
	opts.Open = func(ctx context.Context, path string) (bench.Store, error) {
		at := base.WithSchema(schema(path))
		pending, err := app.PlanMigrations(ctx, at)
		if err == nil && !made[path] && (len(pending) == 0 || pending[0].Version != 1) {
			err = usagef("the schema %s exists: name one that does not by ?schema=NAME, so that nothing of yours is measured or removed", at.Schema())
		}
		if err != nil {
			return nil, err
		}
		made[path] = true
		store, err := app.OpenPostgres(ctx, at)
		if err != nil {
			return nil, err // not a nil *Store in an interface
		}
		return store, nil
	}
	opts.Postgres = &bench.Postgres{DSN: base.DSN(), Schema: schema, Remove: func(ctx context.Context, path string) error {
		if !made[path] {
			return nil
		}
		delete(made, path)
		return app.DropSchema(ctx, base.WithSchema(schema(path)))
	}}
}

// benchBroker makes opts measure another broker than the embedded one.
func benchBroker(opts *bench.Options, broker string) error {
	spec, err := app.ParseBroker(broker)
	switch {
	case err != nil:
		return usagef("%v", err)
	case spec.Kind == app.BrokerRabbit:
		bench.Rabbit(opts, spec.URL)
	case spec.Kind == app.BrokerKafka:
		benchOnKafka(opts, &spec)
	case spec.Kind != app.BrokerEmbedded:
		return usagef("bench measures the embedded broker, RabbitMQ and Kafka: give --broker amqp:// or kafka://USER:PASSWORD@HOST:PORT")
	}
	return nil
}

// openBenchBroker starts an embedded broker with its data beside path. What it warns of is no news to who measures.
func openBenchBroker(ctx context.Context, path string) (*bench.Broker, error) {
	cfg := app.EmbeddedFor(path)
	d, err := app.OpenDestination(ctx, &cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return &bench.Broker{Dir: cfg.EmbeddedDir(), Publisher: d.Publisher, Source: d.Source, Close: d.Close}, nil
}
