package rabbitbroker

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
)

const (
	defaultWindow = 1000
	maxWindow     = 1<<16 - 1 // AMQP counts to here
)

// Source reads the queues of a Broker.
type Source struct{ broker *Broker }

var _ pulse.Source = (*Source)(nil)

// Source returns a source of what is published to the exchange.
func (b *Broker) Source() *Source { return &Source{broker: b} }

// Open starts reading for a subscription, and makes its queue when it is not there; see pulse.Source. Of the feeds of one subscription, in
// whatever process, the first gets all messages until it is closed. Messages before FeedConfig.Start are left out until the process ends: a
// queue cannot note it.
func (s *Source) Open(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
	if err := s.broker.checkSubscription(cfg.Subscription); err != nil {
		return nil, fmt.Errorf("rabbitbroker: open a feed: %w", err)
	}
	if cfg.Window < 1 {
		cfg.Window = defaultWindow
	}
	cfg.Window = min(cfg.Window, maxWindow)
	f, err := s.broker.open(ctx, cfg)
	if err != nil {
		return nil, failed("open a feed of "+cfg.Subscription, err)
	}
	return f, nil
}

func (b *Broker) checkSubscription(name string) error {
	if err := pulse.ValidateName(name); err != nil {
		return fmt.Errorf("subscription: %w", err)
	}
	if n := len(b.queue(name)); n > maxShort {
		return fmt.Errorf("subscription: %w: its queue's name %.40q… has %d bytes: use at most %d", pulse.ErrInvalid, b.queue(name), n, maxShort)
	}
	return nil
}

// open opens a feed on a connection of its own.
func (b *Broker) open(ctx context.Context, cfg pulse.FeedConfig) (*Feed, error) {
	l, err := b.link(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, l.kill)
	f, err := b.start(l, cfg)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		if why := l.why(); why != nil {
			err = why
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		l.kill()
		l.helpers.Wait()
		return nil, err
	}
	return f, nil
}

// start makes the queue and consumes from it.
func (b *Broker) start(l *link, cfg pulse.FeedConfig) (*Feed, error) {
	queue := b.queue(cfg.Subscription)
	missing, err := l.missing(func() error {
		_, err := l.ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	})
	if err == nil && missing {
		_, err = l.ch.QueueDeclare(queue, true, false, false, false, queueArgs(l.conn.Properties))
	}
	if err != nil {
		return nil, err
	}
	for _, key := range bindingKeys(cfg.Names) {
		if err := l.ch.QueueBind(queue, key, b.opts.Exchange, false, nil); err != nil {
			return nil, err
		}
	}
	if err := l.ch.Qos(cfg.Window, 0, false); err != nil {
		return nil, err
	}
	cancelled := l.ch.NotifyCancel(make(chan string, 1))
	deliveries, err := l.ch.Consume(queue, "pulse", false, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	return newFeed(b, l, cfg, b.firstOf(cfg, missing), deliveries, cancelled), nil
}

// firstOf is the first position wanted by a subscription whose queue is new, or was made in this process.
func (b *Broker) firstOf(cfg pulse.FeedConfig, made bool) pulse.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	if made {
		b.first[cfg.Subscription] = cfg.Start
	}
	return b.first[cfg.Subscription]
}

// queueArgs are what a queue is made with, by a server with these properties.
func queueArgs(server amqp.Table) amqp.Table {
	args := amqp.Table{"x-queue-type": "quorum", "x-single-active-consumer": true}
	if majorVersion(server) >= 4 { // these drop what was delivered 20 times, unless told otherwise
		args["x-delivery-limit"] = int64(-1)
	}
	return args
}

// majorVersion is the server's, 0 when it does not say.
func majorVersion(server amqp.Table) int {
	text, _ := server["version"].(string)
	major, _, _ := strings.Cut(text, ".")
	n, _ := strconv.Atoi(major)
	return n
}

// bindingKeys are the routing keys for names and patterns.
func bindingKeys(names []string) []string {
	if names == nil {
		return []string{"#"}
	}
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = bindingKey(name)
	}
	return keys
}

// bindingKey is the routing key that selects what a name or pattern does: ">" stands for one word or more, "#" also for none.
func bindingKey(pattern string) string {
	if before, ok := strings.CutSuffix(pattern, ">"); ok {
		return before + "*.#"
	}
	return pattern
}
