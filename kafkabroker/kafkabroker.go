// Package kafkabroker publishes to Kafka and reads from it. Connect uses a cluster.
//
// A Broker is one destination: one topic, of which Pulse is the owner and the only writer. A record's key is the event's key, and
// the partition follows from it as in Kafka's own clients, so that the events of one key lie in one partition. Events are CloudEvents in
// binary mode: attributes in headers that begin with "ce_", the payload as the value.
//
// # What holds
//
//   - The events of one call of PublishBatch are one transaction, or several one after another when they are large for the line to
//     the cluster: all partitions get theirs, or none does. So whatever a reader of committed records finds, everything before it is there
//     too, with any number of partitions.
//   - A transactional id, named as the topic, makes sure that there is one writer. A publisher that begins ends the transaction of the one
//     before it, which then fails: its events arrive whole or not at all, and never late.
//   - Records are acknowledged by all replicas in sync. Last tells when a cluster lost some nevertheless, also when only one partition did.
//   - A place is committed for a subscription when everything before it in its partition is acknowledged.
//
// # What does not
//
// Order holds within a partition; a topic with one, as Connect makes it by default, has the order of the log. Readers of uncommitted
// records find events twice whose transaction was aborted, never in the wrong order of a key. Adding partitions to a topic moves keys.
// The feed that follows one that went without Close may deliver again what was acknowledged since its last commit, and behind the oldest
// message that was not.
//
// It was tested against kfake and librdkafka clients, not against Apache Kafka itself.
package kafkabroker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/edupulse-live/pulse"
)

// Options of a Broker. The zero value works.
type Options struct {
	Topic      string        // name of the topic, and what the names of the transactional id and of consumer groups begin with; DefaultTopic when empty
	Partitions int           // of a topic that is made; 1 when 0
	Replicas   int           // copies of a topic that is made; what the cluster is configured for when 0
	MaxAge     time.Duration // how long records are kept; 72 hours when 0
	Auth       Auth          // how to log in
	TLS        *tls.Config   // nil for connections without TLS
	Log        *slog.Logger  // slog.Default when nil
}

// Auth is how to log in with SASL. The zero value does not.
type Auth struct {
	User, Password string
	Mechanism      string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; SCRAM-SHA-512 when empty
}

// The mechanisms of SASL.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
)

// DefaultTopic is the name of the topic unless Options have another.
const DefaultTopic = "pulse"

const (
	defaultMaxAge = 72 * time.Hour

	callTimeout = 10 * time.Second       // for one question to the cluster, with all its tries
	dialTimeout = 5 * time.Second        // for one connection
	retryFirst  = 50 * time.Millisecond  // wait before the next try, doubled each time
	retryMost   = 500 * time.Millisecond // longest wait
)

func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Topic == "" {
		opts.Topic = DefaultTopic
	}
	if opts.Partitions == 0 {
		opts.Partitions = 1
	}
	if opts.MaxAge == 0 {
		opts.MaxAge = defaultMaxAge
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Auth.Mechanism == "" {
		opts.Auth.Mechanism = ScramSHA512
	}
	var errs []error
	if err := ValidateTopic(opts.Topic); err != nil {
		errs = append(errs, err)
	}
	if opts.Partitions < 0 || opts.Replicas < 0 || opts.MaxAge < 0 {
		errs = append(errs, errors.New("partitions, replicas and age must not be negative"))
	}
	if _, err := opts.Auth.mechanism(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return opts, fmt.Errorf("kafkabroker: %w: %w", pulse.ErrInvalid, err)
	}
	return opts, nil
}

// ValidateTopic returns an error when Kafka would not take name for a topic.
func ValidateTopic(name string) error {
	const longest = 249
	ok, _ := regexp.MatchString(`^[a-zA-Z0-9._-]+$`, name)
	if !ok || len(name) > longest || name == "." || name == ".." {
		return fmt.Errorf("%.40q is no name of a topic: use up to %d of a-z, A-Z, 0-9, '.', '_' and '-'", name, longest)
	}
	return nil
}

// mechanism is nil when there is nobody to log in as.
func (a *Auth) mechanism() (sasl.Mechanism, error) {
	if a.User == "" {
		return nil, nil
	}
	switch a.Mechanism {
	case Plain:
		return plain.Auth{User: a.User, Pass: a.Password}.AsMechanism(), nil
	case ScramSHA256:
		return scram.Auth{User: a.User, Pass: a.Password}.AsSha256Mechanism(), nil
	case ScramSHA512:
		return scram.Auth{User: a.User, Pass: a.Password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("%.40q is no way to log in: use %s, %s or %s", a.Mechanism, Plain, ScramSHA256, ScramSHA512)
}

// Broker is a connection to one topic. Its methods may be called concurrently.
type Broker struct {
	opts    Options
	servers []string
	client  *kgo.Client // for everything but publishing and reading, which have clients of their own
	limit   int         // bytes of a batch of records the topic takes; constant after Connect

	mu      sync.Mutex
	met     []string         // addresses of the cluster's servers, as it told them last
	slots   map[string]*slot // by subscription
	writers map[*kgo.Client]struct{}
	closed  bool
}

// Connect connects to a cluster, servers being one or more addresses such as "127.0.0.1:9092" with commas between them, and makes the
// topic if it is not there. A lost connection is made again by itself.
func Connect(ctx context.Context, servers string, o *Options) (*Broker, error) {
	b, err := dial(ctx, servers, o)
	if err != nil {
		return nil, err
	}
	if err := b.setUp(ctx); err != nil {
		b.client.Close()
		return nil, err
	}
	return b, nil
}

// dial makes a Broker that leaves the topic as it is.
func dial(ctx context.Context, servers string, o *Options) (*Broker, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Broker{opts: opts, slots: make(map[string]*slot), writers: make(map[*kgo.Client]struct{})}
	for server := range strings.SplitSeq(servers, ",") {
		if host, _, err := net.SplitHostPort(server); err != nil || host == "" {
			return nil, fmt.Errorf("kafkabroker: %w: the address %.80q of a server cannot be read: write HOST:PORT", pulse.ErrInvalid, server)
		}
		b.servers = append(b.servers, server)
	}
	if err := ctx.Err(); err != nil {
		return nil, b.failed("connect", err)
	}
	if b.client, err = b.newClient(); err != nil {
		return nil, fmt.Errorf("kafkabroker: %w: %w", pulse.ErrInvalid, err)
	}
	return b, nil
}

// newClient makes a client, which connects when it is used.
func (b *Broker) newClient(more ...kgo.Opt) (*kgo.Client, error) {
	b.mu.Lock()
	seeds := slices.Concat(b.met, b.servers)
	b.mu.Unlock()
	options := []kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.ClientID("pulse"),
		kgo.SoftwareNameAndVersion("pulse", "0"),
		kgo.DialTimeout(dialTimeout),
		kgo.RequestTimeoutOverhead(dialTimeout),
		kgo.RetryTimeout(callTimeout),
		kgo.RetryBackoffFn(backoff),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(logger{b.opts.Log}),
	}
	if b.opts.TLS != nil {
		options = append(options, kgo.DialTLSConfig(b.opts.TLS.Clone()))
	}
	mechanism, err := b.opts.Auth.mechanism()
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		options = append(options, kgo.SASL(mechanism))
	}
	return kgo.NewClient(slices.Concat(options, more)...)
}

// backoff is how long to wait before a try.
func backoff(tries int) time.Duration {
	return min(retryFirst<<min(tries, 10), retryMost)
}

// Close ends the connection; publishers fail from then on. Close feeds before it.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.closed = true
	writers := b.writers
	b.writers = nil
	b.mu.Unlock()
	for w := range writers {
		w.Close()
	}
	b.client.Close()
	return nil
}

// adopt makes Close end a writer. When that was called already it reports false.
func (b *Broker) adopt(w *kgo.Client) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.writers[w] = struct{}{}
	return true
}

// release ends a writer.
func (b *Broker) release(w *kgo.Client) {
	b.mu.Lock()
	delete(b.writers, w)
	b.mu.Unlock()
	w.Close()
}

// logger hands on what the client has to say that concerns people.
type logger struct{ log *slog.Logger }

// Level is a kgo.Logger's.
func (l logger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// Log is a kgo.Logger's.
func (l logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level <= kgo.LogLevelWarn && level != kgo.LogLevelNone {
		l.log.Debug("kafkabroker: the client reports: "+msg, keyvals...)
	}
}
