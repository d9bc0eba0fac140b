// Package rabbitbroker publishes to RabbitMQ and reads from it, over AMQP 0.9.1.
//
// A Broker is one destination: a topic exchange. The event "lesson.published" has its name as the routing key and is a CloudEvent in
// binary mode: attributes in headers, the payload as the body. Each subscription has a durable quorum queue, which is bound to the
// exchange by the names and patterns it handles: "lesson.>" becomes "lesson.*.#", as "#" alone also stands for no word at all.
//
// # What holds
//
//   - A message is Acked when every queue it was routed to has confirmed it: a quorum queue does when most of its copies have it on disk.
//   - What nobody listens to goes to the alternate exchange, to which a queue can be bound to see it. Without one it is delivered to
//     nobody: the server confirms it, Publisher.Unrouted counts it, and the first of each name is logged.
//   - A queue has one active consumer at a time, in whatever process. The next one gets what the last one left in the same order.
//   - A server that takes no messages because it is short of memory or disk, or a queue that is full, fails PublishBatch with an error
//     that says so. What was not confirmed is published again.
//   - Attempts are counted by the store alone: queues have no limit of deliveries, and nothing is dropped after some.
//
// # What does not
//
//   - RabbitMQ cannot tell what was published last, see Publisher.Last. What it lost after acknowledging it is not seen. Subscriptions of
//     Pulse read what is missing from the log; queues of others need Bus.Republish.
//   - A server takes back what a feed has had for longer than its consumer_timeout, half an hour unless it is told otherwise: the feed fails, and
//     the next one gets it again.
//   - A queue begins empty: what was published before a subscription was opened for the first time does not come from here.
//   - Messages are confirmed one by one. When a queue refuses one, those that were sent behind it may be in the queue already, see the
//     note on full queues in docs/rabbitmq.md.
//   - Names taken away from a subscription stay bound to its queue, until it is dropped. What they bring is acknowledged and not delivered.
package rabbitbroker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
)

// Options of a Broker. The zero value works.
type Options struct {
	Exchange string       // name of the topic exchange, and what the names of queues begin with; "pulse" when empty
	User     string       // to log in as; when empty that of the URL, or guest
	Password string       // of the user; when empty that of the URL
	TLS      *tls.Config  // certificates for amqps; nil trusts those that the system does
	MaxBytes int          // largest message the server takes, its max_message_size; 16 MiB when 0
	Log      *slog.Logger // slog.Default when nil
}

const (
	defaultExchange = "pulse"
	defaultMaxBytes = 16 << 20 // of RabbitMQ 4; RabbitMQ 3 takes more
	maxShort        = 255      // bytes of a name in AMQP

	unroutedSuffix = ".unrouted"
)

func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Exchange == "" {
		opts.Exchange = defaultExchange
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = defaultMaxBytes
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	var errs []error
	if err := pulse.ValidateName(opts.Exchange); err != nil {
		errs = append(errs, fmt.Errorf("the name of the exchange: %w", err))
	}
	if strings.HasPrefix(opts.Exchange, "amq.") {
		errs = append(errs, fmt.Errorf("the name of the exchange is %q: those with amq. are the server's own", opts.Exchange))
	}
	if len(opts.Exchange) > maxShort-len(unroutedSuffix) {
		errs = append(errs, fmt.Errorf("the name of the exchange has %d bytes: use at most %d", len(opts.Exchange), maxShort-len(unroutedSuffix)))
	}
	if opts.MaxBytes < 0 {
		errs = append(errs, errors.New("the largest message must not be negative"))
	}
	if opts.Password != "" && opts.User == "" {
		errs = append(errs, errors.New("there is a password and no user"))
	}
	if err := errors.Join(errs...); err != nil {
		return opts, fmt.Errorf("rabbitbroker: %w: %w", pulse.ErrInvalid, err)
	}
	return opts, nil
}

// Broker is one exchange on a server or cluster. Each Publisher and each Feed has a connection of its own, which is made when it is
// needed: a server that is short of memory stops reading from those that publish, and acknowledgements must go on. Its methods may be
// called concurrently.
type Broker struct {
	opts  Options
	addrs []amqp.URI

	mu    sync.Mutex
	links map[*link]struct{}        // open
	feeds map[*Feed]struct{}        // open
	first map[string]pulse.Position // where subscriptions begin whose queues were made here
	known bool                      // the exchange has been seen

	closed bool
}

// Connect connects to a RabbitMQ server or cluster, url being one or more addresses such as "amqp://127.0.0.1:5672/school" with commas
// between them, and makes the exchanges if they are not there. The path is the virtual host, "/" when there is none. Connections that
// are lost are made again when they are needed next, to the first address that answers.
func Connect(ctx context.Context, url string, o *Options) (*Broker, error) {
	b, err := visit(url, o)
	if err != nil {
		return nil, err
	}
	l, err := b.link(ctx)
	if err != nil {
		return nil, failed("connect", err)
	}
	l.close()
	return b, nil
}

// visit is a Broker that has not connected.
func visit(url string, o *Options) (*Broker, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	addrs, err := parseURLs(url, &opts)
	if err != nil {
		return nil, fmt.Errorf("rabbitbroker: %w", err)
	}
	return &Broker{
		opts: opts, addrs: addrs, links: make(map[*link]struct{}), feeds: make(map[*Feed]struct{}), first: make(map[string]pulse.Position),
	}, nil
}

// parseURLs reads addresses. Its errors quote none: a password may be in it.
func parseURLs(url string, o *Options) ([]amqp.URI, error) {
	var addrs []amqp.URI
	for part := range strings.SplitSeq(url, ",") {
		addr, err := amqp.ParseURI(part)
		if err != nil {
			return nil, fmt.Errorf("%w: the URL of the broker cannot be read: write amqp://USER:PASSWORD@HOST:PORT/VHOST, with what is special in them percent-encoded", pulse.ErrInvalid)
		}
		if o.User != "" {
			addr.Username, addr.Password = o.User, o.Password
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// Close ends all connections. Close feeds before it.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.closed = true
	var open []*link
	for l := range b.links {
		open = append(open, l)
	}
	b.mu.Unlock()
	for _, l := range open {
		l.close()
	}
	return nil
}

// queue is the name of a subscription's queue.
func (b *Broker) queue(subscription string) string { return b.opts.Exchange + "." + subscription }

// unrouted is the alternate exchange.
func (b *Broker) unrouted() string { return b.opts.Exchange + unroutedSuffix }

const (
	dialTimeout  = 5 * time.Second  // for one address
	callTimeout  = 10 * time.Second // for what is asked of the server
	closeTimeout = 2 * time.Second
	heartbeat    = 5 * time.Second
	// A connection of which nobody reads holds up whoever writes until this ends it.
	writeTimeout = 20 * time.Second
)
