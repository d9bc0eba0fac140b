package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse/internal/app"
)

func newServeCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Publish the events of the store to a broker",
		Long: `Serve publishes all events of the store to a broker, from the first one on, each at least once and those of a
key in order, and goes on with new ones until it is stopped. While the broker is down events wait in the log. The
store is created when there is none.

By default the broker is a NATS server inside this process, with its data beside the store (pulse.db.nats). Its port is
opened by --nats-listen; clients then need the token, one that is generated and printed if none is given.
--broker nats://HOST:PORT uses another server, --broker amqp://HOST:PORT/VHOST RabbitMQ, --broker kafka://HOST:PORT Kafka.
Several servers have commas between them. --broker log writes events to the log of this process for people to read, and
--broker none publishes nothing.

Events come as CloudEvents on subjects such as pulse.0.lesson.published of the stream PULSE, which keeps them for
72 hours. Stores that share a server each need a stream and subjects of their own: --nats-stream and --nats-prefix.

On RabbitMQ the routing key is the name of the event; the exchange is pulse, or the one of --rabbitmq-exchange, of which each store
needs its own. It keeps events for queues that are bound to it, and delivers to nobody what none of them wants.

On Kafka events go to the topic pulse, or the one of --kafka-topic, of which each store needs its own; the key of a record
is that of the event. The cluster is reached by a pulse that was built with the tag kafka, as make build does.

Several processes may serve one store: one of them publishes, another takes over when it ends.

At --listen it answers /healthz (the process lives), /readyz (the store answers and the relay moves; else status 503;
details in JSON) and /metrics (for Prometheus). The first SIGTERM or Ctrl-C lets it finish what is under way,
within 20 seconds, and exit with 0; the second aborts.`,
		Example: `  pulse serve
  pulse serve --nats-listen 127.0.0.1:4222
  pulse serve --broker nats://a:4222,nats://b:4222,nats://c:4222 --nats-replicas 3
  PULSE_RABBITMQ_PASSWORD=… pulse serve --broker amqps://rabbit.example.org/school --rabbitmq-user school
  PULSE_KAFKA_PASSWORD=… pulse serve --broker kafka://a:9092,b:9092 --kafka-user school --kafka-tls true
  PULSE_NATS_PASSWORD=… pulse serve --broker nats://nats.example.org:4222 --nats-user school`,
		Args: positional(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.config(cmd)
			if err != nil {
				return err
			}
			return app.Serve(cmd.Context(), cfg, app.ServeOptions{Logger: env.logger(cfg), Token: env.tellToken})
		},
	}
	addServeFlags(cmd)
	return cmd
}

// addServeFlags adds the flags of a command that publishes.
func addServeFlags(cmd *cobra.Command) {
	for _, s := range app.ServeSettings() {
		text := fmt.Sprintf("%s (%s)", s.Help, s.Variable)
		if s.Default != "" {
			text = fmt.Sprintf("%s (%s, default %q)", s.Help, s.Variable, s.Default)
		}
		cmd.Flags().String(s.Name, "", text)
	}
	brokers := []string{app.BrokerEmbedded, "nats://", "amqp://", "amqps://", "kafka://", app.BrokerLog, app.BrokerNone}
	mustComplete(cmd, "broker", cobra.FixedCompletions(brokers, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
}

// tellToken prints the token that was generated: nowhere else it is to be seen.
func (env *environment) tellToken(url, token string) {
	if env.json {
		type access struct {
			NATS  string `json:"nats"`
			Token string `json:"token"`
		}
		_ = env.printJSON(access{url, token}) // without stdout nobody wants to know
		return
	}
	_ = env.printf("clients connect to %s with the token %s\nit is another one after each start: choose one by PULSE_NATS_TOKEN to keep it\n", url, token)
}
