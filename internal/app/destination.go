package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/logbroker"
	"github.com/edupulse-live/pulse/natsbroker"
)

// Destination is a broker to publish to, open.
type Destination struct {
	Name      string
	Publisher pulse.Publisher
	Source    pulse.Source // nil for the log, from which nothing can be read
	URL       string       // where clients connect to an embedded broker that listens, "" for others

	close func() error
}

// Close ends the connection, and an embedded broker.
func (d *Destination) Close() error { return d.close() }

// EmbeddedDir is where the embedded broker keeps its data: beside the store, or for one in PostgreSQL in the current directory, under the
// name of the schema.
func (c *Config) EmbeddedDir() string {
	if c.Store.Kind == KindPostgres {
		return string(c.Store.Schema()) + ".nats"
	}
	return c.Store.Path + ".nats"
}

// EmbeddedFor is the configuration of an embedded broker that belongs to the SQLite store at path, and opens no port.
func EmbeddedFor(path string) Config {
	return Config{Store: StoreSpec{KindSQLite, path}, Broker: BrokerSpec{Kind: BrokerEmbedded}}
}

// OpenDestination connects to the broker that cfg names, or starts it. An ErrInvalid needs a person, an ErrHeld means that another
// process runs the embedded broker; after other errors it may be tried again.
func OpenDestination(ctx context.Context, cfg *Config, logger *slog.Logger) (*Destination, error) {
	spec := &cfg.Broker
	opts := spec.NATS.options(logger)
	var broker *natsbroker.Broker
	var err error
	switch spec.Kind {
	case BrokerLog:
		return &Destination{Name: spec.Destination(), Publisher: logbroker.New(logger), close: func() error { return nil }}, nil
	case BrokerRabbit:
		return openRabbit(ctx, spec, logger)
	case BrokerKafka:
		return openKafka(ctx, spec, logger)
	case BrokerEmbedded:
		broker, err = natsbroker.Embed(ctx, cfg.EmbeddedDir(), &opts)
	case BrokerNATS:
		broker, err = natsbroker.Connect(ctx, spec.URL, &opts)
	default:
		return nil, fmt.Errorf("%w: the broker is %s: there is nowhere to publish", pulse.ErrInvalid, spec)
	}
	if err != nil {
		return nil, err
	}
	d := &Destination{Name: spec.Destination(), Publisher: broker.Publisher(), Source: broker.Source(), close: broker.Close}
	if opts.Listen != "" {
		d.URL = broker.URL()
	}
	return d, nil
}

// ensureToken gives an embedded broker that listens a token when it has none, and reports whether it did.
func (s *BrokerSpec) ensureToken() bool {
	if s.Kind != BrokerEmbedded || s.NATS.Listen == "" || s.NATS.Token != "" {
		return false
	}
	s.NATS.Token = rand.Text()
	return true
}

// permanent tells an error that trying again does not mend.
func permanent(err error) bool { return errors.Is(err, pulse.ErrInvalid) }
