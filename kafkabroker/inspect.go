package kafkabroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/edupulse-live/pulse"
)

// State is what a cluster has of what a Broker with the same Options would use.
type State struct {
	Exists        bool         // the topic is there
	Last          pulse.Cursor // the highest position published to it, see Publisher.Last; zero when there is none
	Known         bool         // Last could be told: the topic's records have not all expired, and the last ones are of Pulse
	Partitions    int          // of the topic
	Differences   []string     // how the topic is configured otherwise: a Broker that connects sets it right
	Subscriptions []string     // those that have a place there, in order
}

// Inspect looks at a cluster and changes nothing there: what Connect would create or set right stays as it is, and who publishes goes on. A
// topic that was made for something else is an ErrInvalid.
func Inspect(ctx context.Context, servers string, o *Options) (State, error) {
	b, err := dial(ctx, servers, o)
	if err != nil {
		return State{}, err
	}
	defer b.client.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	state, err := b.inspect(ctx)
	if err != nil {
		return state, b.failed("topic "+b.opts.Topic, err)
	}
	return state, nil
}

func (b *Broker) inspect(ctx context.Context) (State, error) {
	t, err := b.look(ctx)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return State{Known: true}, nil
	}
	if err != nil {
		return State{}, err
	}
	state := State{Exists: true, Partitions: len(t.leaders)}
	have, err := b.configs(ctx)
	if err != nil {
		return state, err
	}
	state.Differences = b.differences(&have)
	tails, err := b.tails(ctx, &t)
	if err != nil {
		return state, err
	}
	e := endOf(tails)
	state.Last, state.Known = e.high, !e.blind
	groups, err := b.admin().ListGroups(ctx)
	if err != nil {
		return state, err
	}
	for _, group := range groups.Groups() {
		if name, ok := strings.CutPrefix(group, b.groupName("")); ok {
			state.Subscriptions = append(state.Subscriptions, name)
		}
	}
	slices.Sort(state.Subscriptions)
	return state, nil
}

// Forget removes what the cluster keeps of a subscription that was dropped: its consumer group. There may be none. It changes nothing else. A
// feed of the subscription that is open ends.
func Forget(ctx context.Context, servers, subscription string, o *Options) error {
	b, err := dial(ctx, servers, o)
	if err != nil {
		return err
	}
	defer b.client.Close()
	return b.Source().Forget(ctx, subscription)
}

// Forget removes what the cluster keeps of a subscription that was dropped: its consumer group. There may be none. A feed of the subscription
// that is open ends.
func (s *Source) Forget(ctx context.Context, subscription string) error {
	if err := pulse.ValidateName(subscription); err != nil {
		return fmt.Errorf("kafkabroker: forget: subscription: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b := s.broker
	_, err := b.admin().DeleteGroup(ctx, b.groupName(subscription))
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return b.failed("forget "+subscription, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slot := b.slots[subscription]; slot != nil {
		slot.ended = nil
	}
	return nil
}
