package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// errNotReached is why nothing was removed at an embedded broker.
var errNotReached = errors.New("only the process that runs the embedded broker reaches it, unless it has --nats-listen and --nats-token, which this command needs too")

// Forget removes what the broker keeps of a dropped subscription that was fed by a destination. The error says why that could not be done.
func Forget(ctx context.Context, cfg *Config, s *pulse.SubscriptionState, logger *slog.Logger) error {
	spec := &cfg.Broker
	if s.Source == "" {
		return nil
	}
	if s.Source != spec.Destination() {
		return fmt.Errorf("it was fed by the destination %s, and the broker of this command is %s", s.Source, spec)
	}
	url := spec.URL
	switch spec.Kind {
	case BrokerLog: // it keeps nothing
		return nil
	case BrokerRabbit:
		return rabbitbroker.Forget(ctx, url, s.Name, spec.Rabbit.options(logger))
	case BrokerKafka:
		return forgetKafka(ctx, spec, s.Name, logger)
	case BrokerEmbedded:
		if spec.NATS.Listen == "" || spec.NATS.Token == "" {
			return errNotReached
		}
		url = "nats://" + spec.NATS.Listen
	}
	opts := spec.NATS.options(logger)
	opts.Listen = ""
	return natsbroker.Forget(ctx, url, s.Name, &opts)
}
