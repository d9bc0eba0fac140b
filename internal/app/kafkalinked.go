//go:build kafka

package app

import (
	"context"
	"log/slog"
	"strings"

	"github.com/edupulse-live/pulse/kafkabroker"
)

// kafkaLinked says that the command reaches Kafka.
const kafkaLinked = true

func validateKafkaTopic(v string) error { return kafkabroker.ValidateTopic(v) }

// options are those of the adapter, and the servers.
func (k *KafkaSpec) options(urls string, logger *slog.Logger) (servers string, o *kafkabroker.Options) {
	servers, user, password := k.Servers(urls)
	return servers, &kafkabroker.Options{
		Topic: k.Topic, Partitions: k.Partitions, Replicas: k.Replicas, MaxAge: k.MaxAge,
		Auth: kafkabroker.Auth{User: user, Password: password, Mechanism: k.Mechanism}, TLS: k.TLS, Log: logger,
	}
}

// openKafka connects to a cluster.
func openKafka(ctx context.Context, spec *BrokerSpec, logger *slog.Logger) (*Destination, error) {
	servers, o := spec.Kafka.options(spec.URL, logger)
	b, err := kafkabroker.Connect(ctx, servers, o)
	if err != nil {
		return nil, err
	}
	return &Destination{Name: spec.Destination(), Publisher: b.Publisher(), Source: b.Source(), close: b.Close}, nil
}

func forgetKafka(ctx context.Context, spec *BrokerSpec, subscription string, logger *slog.Logger) error {
	servers, o := spec.Kafka.options(spec.URL, logger)
	return kafkabroker.Forget(ctx, servers, subscription, o)
}

// kafka compares what was published to a cluster with the log, and changes nothing there.
func (d *doctor) kafka(ctx context.Context) {
	spec := &d.app.Config.Broker
	topic := spec.Kafka.topicName()
	servers, o := spec.Kafka.options(spec.URL, d.logger)
	state, err := kafkabroker.Inspect(ctx, servers, o)
	if err != nil {
		d.found("broker", Fail, "%v", err)
		return
	}
	d.publication(ctx, &publication{
		what: "topic " + topic, exists: state.Exists, known: state.Known, last: state.Last,
		own: "a topic of its own by --kafka-topic", anew: "delete the topic " + topic + " (kafka-topics.sh --delete)",
	})
	if len(state.Differences) > 0 {
		d.found("broker", Warn, "the topic %s is configured otherwise than here: %s: pulse serve sets that right when it starts with the settings of this command",
			topic, strings.Join(state.Differences, ", "))
	}
}
