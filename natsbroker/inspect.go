package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
)

// State is what a server has of what a Broker with the same Options would use.
type State struct {
	Exists        bool         // the stream is there
	Last          pulse.Cursor // the highest position published to it; zero when there is none
	Known         bool         // Last could be told: the stream's messages have not all expired, and the last is one of Pulse
	Differences   []string     // how the stream is configured otherwise: a Broker that connects sets it right
	Subscriptions []string     // those that have a place there, in order
}

// Inspect looks at a server, or a cluster, and changes nothing there: what Connect would create or set right stays as it is. A stream that
// was made for something else is an ErrInvalid.
func Inspect(ctx context.Context, url string, o *Options) (State, error) {
	b, err := visit(ctx, url, o)
	if err != nil {
		return State{}, err
	}
	defer b.shutdown()
	return b.inspect(ctx)
}

// Forget removes what the broker keeps of a subscription that was dropped: its place in the stream. There may be none. It changes nothing
// else. A feed of the subscription that is open ends.
func Forget(ctx context.Context, url, subscription string, o *Options) error {
	b, err := visit(ctx, url, o)
	if err != nil {
		return err
	}
	defer b.shutdown()
	return b.Source().Forget(ctx, subscription)
}

// visit connects and leaves the stream as it is.
func visit(ctx context.Context, url string, o *Options) (*Broker, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	b := newBroker(opts)
	if err := b.dial(ctx, url); err != nil {
		b.shutdown()
		return nil, err
	}
	return b, nil
}

func (b *Broker) inspect(ctx context.Context) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := b.stream(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return State{Known: true}, nil
	}
	if err != nil {
		return State{}, failed("stream "+b.opts.Stream, err)
	}
	state, info := State{Exists: true}, s.CachedInfo()
	want, err := b.reconcile(info.Config)
	if err != nil {
		return state, err
	}
	if want != nil {
		state.Differences = differences(&info.Config, want)
	}
	end, err := b.endOf(ctx, info)
	if err != nil {
		return state, failed("last message", err)
	}
	state.Last, state.Known = end.high, !end.blind
	if state.Subscriptions, err = b.subscriptions(ctx); err != nil {
		return state, failed("consumers of "+b.opts.Stream, err)
	}
	return state, nil
}

// differences says how a stream is configured, and how it should be.
func differences(have, want *jetstream.StreamConfig) (all []string) {
	add := func(differ bool, what string, have, want any) {
		if differ {
			all = append(all, fmt.Sprintf("%s is %v, not %v", what, have, want))
		}
	}
	add(have.Replicas != want.Replicas, "the number of copies", have.Replicas, want.Replicas)
	add(have.MaxAge != want.MaxAge, "the age of messages", have.MaxAge, want.MaxAge)
	add(have.MaxBytes != want.MaxBytes, "the size in bytes", have.MaxBytes, want.MaxBytes)
	add(have.Discard != want.Discard, "what a full stream does", have.Discard, want.Discard)
	add(have.Duplicates != want.Duplicates, "the duplicate window", have.Duplicates, want.Duplicates)
	add(have.AllowAtomicPublish != want.AllowAtomicPublish, "atomic publish", have.AllowAtomicPublish, want.AllowAtomicPublish)
	add(have.MaxMsgs != want.MaxMsgs, "the number of messages", have.MaxMsgs, want.MaxMsgs)
	add(have.MaxMsgsPerSubject != want.MaxMsgsPerSubject, "the number of messages for each subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	add(have.MaxMsgSize != want.MaxMsgSize, "the size of a message", have.MaxMsgSize, want.MaxMsgSize)
	return all
}

// subscriptions are those that have a consumer of ours.
func (b *Broker) subscriptions(ctx context.Context) ([]string, error) {
	names, err := b.consumers(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, name := range names {
		if name, _, ok := readGeneration(name); ok {
			all = append(all, strings.ReplaceAll(name, "=", "."))
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Forget removes what the broker keeps of a subscription that was dropped: its place in the stream. There may be none. A feed of the
// subscription that is open ends.
func (s *Source) Forget(ctx context.Context, subscription string) error {
	if err := pulse.ValidateName(subscription); err != nil {
		return fmt.Errorf("natsbroker: forget: subscription: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	generations, err := s.broker.generations(ctx, subscription)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err == nil {
		err = s.broker.deleteGenerations(ctx, subscription, generations)
	}
	if err != nil {
		return failed("forget "+subscription, err)
	}
	return nil
}
