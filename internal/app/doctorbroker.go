package app

import (
	"context"
	"os"
	"strings"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// broker compares what was published with the log, and changes nothing there. Of an embedded broker that was never run there is nothing to
// say: an application may publish elsewhere.
func (d *doctor) broker(ctx context.Context) {
	cfg := &d.app.Config
	opts := cfg.Broker.NATS.options(d.logger)
	var state natsbroker.State
	var err error
	switch cfg.Broker.Kind {
	case BrokerEmbedded:
		if _, err := os.Stat(cfg.EmbeddedDir()); err != nil {
			return
		}
		state, err = natsbroker.InspectDir(ctx, cfg.EmbeddedDir(), &opts)
	case BrokerNATS:
		state, err = natsbroker.Inspect(ctx, cfg.Broker.URL, &opts)
	case BrokerRabbit:
		d.rabbit(ctx)
		return
	case BrokerKafka:
		d.kafka(ctx)
		return
	default:
		return
	}
	if err != nil {
		d.found("broker", Fail, "%v", err)
		return
	}
	stream := cfg.Broker.NATS.streamName()
	anew := "delete the stream (nats stream rm " + stream + ")"
	if cfg.Broker.Kind == BrokerEmbedded {
		anew = "remove the directory " + cfg.EmbeddedDir()
	}
	d.publication(ctx, &publication{
		what: "stream " + stream, exists: state.Exists, known: state.Known, last: state.Last,
		own: "a stream of its own by --nats-stream and --nats-prefix", anew: anew,
	})
	if len(state.Differences) > 0 {
		d.found("broker", Warn, "the stream %s is configured otherwise than here: %s: pulse serve sets that right when it starts with the settings of this command",
			stream, strings.Join(state.Differences, ", "))
	}
}

// publication is what a broker has of what was published to it.
type publication struct {
	what          string // for people: the kind of place and its name
	exists, known bool   // the place is there; last could be told
	last          pulse.Cursor
	own, anew     string // advice: how to publish elsewhere, and how to begin anew
}

// publication judges the last message at the broker.
func (d *doctor) publication(ctx context.Context, p *publication) {
	what, last := p.what, p.last
	if !p.exists {
		if at := d.relayed(ctx); at > 0 {
			d.found("broker", Warn, "the %s is gone, to which the log was published up to position %d: pulse serve makes it anew, and publishes again what subscriptions that read there have not handled", what, at)
			return
		}
		d.found("broker", OK, "there is no %s yet: pulse serve makes it", what)
		return
	}
	const cause = "the log was restored from an older copy or replaced, or another store publishes there"
	advice := "restore the newer log; or give this store " + p.own + "; or, to go on with this log, stop what publishes, " + p.anew + ", start it again, and resume what is paused (pulse subscription resume)"
	switch env, err := d.event(ctx, last.Position); {
	case err != nil:
		d.found("broker", Fail, "%v", err)
	case !p.known:
		d.found("broker", OK, "the last message of the %s cannot be compared with the log: all have expired, or another program published it", what)
	case last.Position == 0:
		d.found("broker", OK, "nothing was published to the %s yet", what)
	case last.Position > d.info.Head:
		d.found("broker", Fail, "the %s has the event at position %d, but the log ends at %d: %s. Nothing is published until somebody decides: %s", what, last.Position, d.info.Head, cause, advice)
	case env == nil || env.Commitment != last.Commitment:
		d.found("broker", Fail, "the %s has another event at position %d than the log: %s. Nothing is published until somebody decides: %s", what, last.Position, cause, advice)
	default:
		d.found("broker", OK, "the %s ends with position %d of the log, which ends at %d", what, last.Position, d.info.Head)
	}
}

// event is the one at a position, nil when there is none.
func (d *doctor) event(ctx context.Context, at pulse.Position) (*pulse.Envelope, error) {
	if at < 1 {
		return nil, nil
	}
	page, err := d.app.Store.Read(ctx, pulse.Query{After: at - 1, Through: at})
	if err != nil || len(page.Envelopes) == 0 {
		return nil, err
	}
	return &page.Envelopes[0], nil
}

// relayed is how far the relay has published, 0 when there is none.
func (d *doctor) relayed(ctx context.Context) pulse.Position {
	states, err := d.app.Bus.Subscriptions(ctx)
	if err != nil {
		return 0 // the check of subscriptions tells
	}
	for i := range states {
		if states[i].Name == pulse.RelayName(d.app.Config.Broker.Destination()) {
			return states[i].Cursor.Position
		}
	}
	return 0
}
