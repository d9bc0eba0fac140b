package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// Broker is an open broker, between the log and the handlers.
type Broker struct {
	Destination string // the name under which events are published to it
	Publisher   pulse.Publisher
	Source      pulse.Source
	Close       func() error
}

// BrokerOpener opens the broker that belongs to the store at a path, and creates what it needs beside it.
type BrokerOpener func(ctx context.Context, store string) (*Broker, error)

// openBroker opens the broker of a store; nil without an opener.
func openBroker(ctx context.Context, open BrokerOpener, store string) (*Broker, error) {
	if open == nil {
		return nil, nil
	}
	b, err := open(ctx, store)
	if errors.Is(err, pulse.ErrHeld) {
		err = fmt.Errorf("another process, a demo or pulse serve, runs the broker of %s: stop it, or play on another directory: %w", store, err)
	}
	return b, err
}

// publish lets the bus publish to the broker, if there is one. acked is told each event that the broker has acknowledged, by one
// goroutine.
func (b *Broker) publish(bus *pulse.Bus, acked func(env *pulse.Envelope)) error {
	if b == nil {
		return nil
	}
	return bus.Publish(b.Destination, &watchedPublisher{b.Publisher, acked})
}

// from are the options of a subscription that reads from the broker; none without one: then it reads from the log.
func (b *Broker) from() []pulse.SubscribeOption {
	if b == nil {
		return nil
	}
	return []pulse.SubscribeOption{pulse.From(b.Destination, b.Source)}
}

// close ends the broker, if there is one.
func (b *Broker) close() error {
	if b == nil {
		return nil
	}
	return b.Close()
}

// watchedPublisher is a Publisher that tells what was acknowledged.
type watchedPublisher struct {
	pulse.Publisher
	acked func(env *pulse.Envelope)
}

// PublishBatch is that of the publisher.
func (w *watchedPublisher) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	results := w.Publisher.PublishBatch(ctx, envs)
	for i := range results {
		if results[i].Outcome == pulse.Acked {
			w.acked(&envs[i])
		}
	}
	return results
}
