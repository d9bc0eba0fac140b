package kafkabroker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
)

// failed is why op failed: an ErrBroker that says what people can do about it.
func (b *Broker) failed(op string, err error) error {
	if errors.Is(err, pulse.ErrInvalid) || errors.Is(err, pulse.ErrClosed) {
		return fmt.Errorf("kafkabroker: %s: %w", op, err)
	}
	if why := b.explain(err); why != "" {
		return fmt.Errorf("kafkabroker: %s: %w: %s: %w", op, pulse.ErrBroker, why, err)
	}
	return fmt.Errorf("kafkabroker: %s: %w: %w", op, pulse.ErrBroker, err)
}

// explain says in our words what people can do about an error; "" when there is nothing to say.
func (b *Broker) explain(err error) string {
	topic, who := b.opts.Topic, b.opts.Auth.User
	if who == "" {
		who = "who does not log in"
	} else {
		who = "the user " + who
	}
	var dns *net.DNSError
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		return fmt.Sprintf("the cluster does not let %s in by %s: check user, password and mechanism", who, b.opts.Auth.Mechanism)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Sprintf("%s lacks a right to the topic %s: grant Read, Write, Describe, DescribeConfigs and AlterConfigs, and Create where it is to be made", who, topic)
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return fmt.Sprintf("%s lacks a right to the transactional id %s: grant Write and Describe", who, b.transactionalID())
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return fmt.Sprintf("%s lacks a right to the consumer groups %s: grant Read, Describe and Delete to the prefix", who, b.groupName("*"))
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fmt.Sprintf("%s lacks a right to the cluster: grant Create, or make the topic %s by hand", who, topic)
	case errors.Is(err, kerr.NotEnoughReplicas), errors.Is(err, kerr.NotEnoughReplicasAfterAppend):
		return fmt.Sprintf("the topic %s has too few replicas in sync: start the brokers that are missing, or lower min.insync.replicas", topic)
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return fmt.Sprintf("the topic %s is gone, or one of its partitions", topic)
	case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch):
		return "another publisher has taken over"
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return "the cluster has fewer brokers than copies were asked for"
	case errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, kgo.ErrRecordRetries):
		return fmt.Sprintf("the cluster does not take records: the topic %s has too few replicas in sync, or a partition without a leader", topic)
	case errors.Is(err, io.EOF):
		return fmt.Sprintf("the cluster ends the connection of %s at once: check user, password and mechanism, and whether it wants TLS", who)
	case errors.As(err, &dns):
		return fmt.Sprintf("the name of the server %s is not known", dns.Name)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "no answer"
	}
	return ""
}
