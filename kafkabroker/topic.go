package kafkabroker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/edupulse-live/pulse"
)

// topic is what the cluster says of the topic.
type topic struct {
	id      kadm.TopicID
	leaders []int32 // by partition
}

// look asks for the topic. It is a kerr.UnknownTopicOrPartition when it is not there.
func (b *Broker) look(ctx context.Context) (topic, error) {
	m, err := b.admin().Metadata(ctx, b.opts.Topic)
	if err != nil {
		return topic{}, err
	}
	b.meet(m.Brokers)
	d := m.Topics[b.opts.Topic]
	switch {
	case d.Err != nil:
		return topic{}, d.Err
	case len(d.Partitions) == 0:
		return topic{}, kerr.UnknownTopicOrPartition
	}
	t := topic{id: d.ID, leaders: make([]int32, len(d.Partitions))}
	for i := range t.leaders {
		p, ok := d.Partitions[int32(i)]
		switch {
		case !ok:
			return topic{}, kerr.UnknownTopicOrPartition
		case p.Err != nil:
			return topic{}, p.Err
		}
		t.leaders[i] = p.Leader
	}
	return t, nil
}

// meet remembers where the cluster is now: later clients find it also when all servers they were told of were replaced.
func (b *Broker) meet(servers kadm.BrokerDetails) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.met = b.met[:0:0]
	for _, s := range servers {
		b.met = append(b.met, net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))))
	}
}

func (b *Broker) admin() *kadm.Client {
	adm := kadm.NewClient(b.client)
	adm.SetTimeoutMillis(int32(callTimeout.Milliseconds()))
	return adm
}

// ensureTopic returns the topic as it is, and makes it when it is gone. It waits until every partition has a leader.
func (b *Broker) ensureTopic(ctx context.Context) (topic, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	created := false
	for tries := 0; ; tries++ {
		t, err := b.look(ctx)
		switch {
		case err == nil:
			return t, nil
		case errors.Is(err, kerr.UnknownTopicOrPartition) && !created:
			if err := b.createTopic(ctx); err != nil {
				return topic{}, b.failed("make the topic "+b.opts.Topic, err)
			}
			created = true
			continue
		case !kerr.IsRetriable(err) || ctx.Err() != nil:
			return topic{}, b.failed("topic "+b.opts.Topic, err)
		}
		sleep(ctx, backoff(tries))
		if ctx.Err() != nil {
			return topic{}, b.failed("topic "+b.opts.Topic, err)
		}
	}
}

// The settings of the topic that matter.
const (
	configCleanup   = "cleanup.policy"
	configRetention = "retention.ms"
	configMaxBytes  = "max.message.bytes"
)

// mostBytes is what a batch of records has at most, whatever the topic takes: the client sends no requests of more than 100 MiB.
const mostBytes = 64 << 20

func (b *Broker) createTopic(ctx context.Context) error {
	replicas := b.opts.Replicas
	if replicas == 0 {
		replicas = -1 // as the cluster is configured
	}
	_, err := b.admin().CreateTopic(ctx, int32(b.opts.Partitions), int16(replicas), map[string]*string{
		configCleanup:   kadm.StringPtr("delete"),
		configRetention: kadm.StringPtr(millis(b.opts.MaxAge)),
	}, b.opts.Topic)
	if errors.Is(err, kerr.TopicAlreadyExists) { // another process was faster
		return nil
	}
	return err
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// setUp makes the topic, or an existing one what it has to be.
func (b *Broker) setUp(ctx context.Context) error {
	if _, err := b.ensureTopic(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	have, err := b.configs(ctx)
	if err != nil {
		return b.failed("settings of the topic "+b.opts.Topic, err)
	}
	b.limit = min(have.maxBytes, mostBytes)
	wrong := b.differences(&have)
	if len(wrong) == 0 {
		return nil
	}
	set, err := b.admin().AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: configRetention, Value: kadm.StringPtr(millis(b.opts.MaxAge))},
	}, b.opts.Topic)
	if err == nil {
		_, err = set.On(b.opts.Topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil { // it works nevertheless
		b.opts.Log.Warn("kafkabroker: the topic is configured otherwise than here", "topic", b.opts.Topic, "differences", strings.Join(wrong, ", "), "error", b.failed("set it right", err))
	}
	return nil
}

// configs are settings of a topic.
type configs struct {
	known     bool // the user may see them
	cleanup   string
	retention string // in milliseconds
	maxBytes  int
}

// configs reads the settings of the topic. One that is made for something else is an ErrInvalid.
func (b *Broker) configs(ctx context.Context) (configs, error) {
	const usual = 1<<20 + 12 // bytes that Kafka takes unless told otherwise
	c := configs{maxBytes: usual}
	all, err := b.admin().DescribeTopicConfigs(ctx, b.opts.Topic)
	if err != nil {
		return c, err
	}
	r, err := all.On(b.opts.Topic, func(r *kadm.ResourceConfig) error { return r.Err })
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		b.opts.Log.Debug("kafkabroker: the settings of the topic cannot be seen", "topic", b.opts.Topic, "error", err)
		return c, nil
	}
	if err != nil {
		return c, err
	}
	for _, config := range r.Configs {
		switch value := config.MaybeValue(); config.Key {
		case configCleanup:
			c.known, c.cleanup = true, value
		case configRetention:
			c.retention = value
		case configMaxBytes:
			if c.maxBytes, err = strconv.Atoi(value); err != nil {
				return c, fmt.Errorf("%s: %w", configMaxBytes, err)
			}
		}
	}
	if slices.Contains(strings.Split(c.cleanup, ","), "compact") {
		return c, fmt.Errorf("%w: the topic %s keeps the last record of each key only (%s is %s): choose another name, or delete it", pulse.ErrInvalid, b.opts.Topic, configCleanup, c.cleanup)
	}
	if c.maxBytes <= spare {
		return c, fmt.Errorf("%w: the topic %s takes records of %d bytes (%s), of which attributes alone may need %d: raise it", pulse.ErrInvalid, b.opts.Topic, c.maxBytes, configMaxBytes, spare)
	}
	return c, nil
}

// differences says how the topic is configured, and how it should be.
func (b *Broker) differences(have *configs) []string {
	if want := millis(b.opts.MaxAge); have.known && have.retention != want {
		return []string{fmt.Sprintf("the age of records (%s) is %s, not %s", configRetention, have.retention, want)}
	}
	return nil
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
