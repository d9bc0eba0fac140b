package rabbitbroker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
)

// link is one connection to a server with one channel. It is used until something goes wrong, and then a new one is made.
type link struct {
	broker *Broker
	raw    net.Conn // below TLS
	conn   *amqp.Connection
	ch     *amqp.Channel

	channelClosed chan *amqp.Error // has room for one: why the server closed the channel
	connClosed    chan *amqp.Error // likewise the connection
	helpers       sync.WaitGroup

	mu      sync.Mutex
	blocked string                  // why the server takes no messages; "" when it does
	onBlock context.CancelCauseFunc // of the batch under way; nil when there is none
}

// link connects, and makes sure that the exchanges are there.
func (b *Broker) link(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	l, err := b.dial(ctx)
	if err != nil {
		return nil, errors.Join(err, ended(ctx))
	}
	stop := context.AfterFunc(ctx, l.kill)
	err = l.setUp()
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		l.kill()
		return nil, err
	}
	return l, nil
}

// ended is why ctx has ended: a connection that was not made in time may say so before ctx does.
func ended(ctx context.Context) error {
	if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// dial connects to the first address that answers.
func (b *Broker) dial(ctx context.Context) (*link, error) {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	var errs []error
	for i := range b.addrs {
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(append(errs, err)...)
		}
		l, err := b.dialOne(ctx, &b.addrs[i])
		if err == nil {
			return l, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (b *Broker) dialOne(ctx context.Context, addr *amqp.URI) (*link, error) {
	l := &link{broker: b, channelClosed: make(chan *amqp.Error, 1), connClosed: make(chan *amqp.Error, 1)}
	ended := func() bool { return true }
	config := amqp.Config{
		Heartbeat: heartbeat, Locale: "en_US", Properties: amqp.Table{"product": "pulse", "connection_name": "pulse " + b.opts.Exchange},
		TLSClientConfig: b.opts.TLS.Clone(),
		Dial: func(network, address string) (net.Conn, error) {
			d := net.Dialer{Timeout: dialTimeout}
			raw, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if err := raw.SetDeadline(time.Now().Add(dialTimeout)); err != nil { // the client takes it away once it has logged in
				return nil, errors.Join(err, raw.Close())
			}
			l.raw = raw
			ended = context.AfterFunc(ctx, func() { raw.Close() })
			return &timed{raw}, nil
		},
	}
	conn, err := amqp.DialConfig(addr.String(), config)
	stopped := ended()
	switch {
	case err != nil && l.raw != nil:
		l.raw.Close()
		fallthrough
	case err != nil:
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, amqp.ErrVhost) { // a guess: about virtual hosts the server says itself what is wrong
			err = errLost
		}
		return nil, err
	case !stopped:
		return nil, ctx.Err()
	}
	l.conn = conn
	conn.NotifyClose(l.connClosed)
	blocks := conn.NotifyBlocked(make(chan amqp.Blocking, 8))
	l.helpers.Go(func() { l.watch(blocks) })
	if !b.adopt(l) {
		l.close()
		return nil, errClosed
	}
	return l, nil
}

// adopt makes Close end a link. When that was called already it reports false.
func (b *Broker) adopt(l *link) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.links[l] = struct{}{}
	return true
}

// timed is a connection of which a write that gets nowhere ends it.
type timed struct{ net.Conn }

func (c *timed) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// open opens the link's channel anew.
func (l *link) open() error {
	ch, err := l.conn.Channel()
	if err != nil {
		return err
	}
	l.ch, l.channelClosed = ch, make(chan *amqp.Error, 1)
	ch.NotifyClose(l.channelClosed)
	return nil
}

// setUp makes the exchanges that are not there, and leaves an open channel.
func (l *link) setUp() error {
	b := l.broker
	missing, err := l.missing(func() error {
		return l.ch.ExchangeDeclarePassive(b.opts.Exchange, amqp.ExchangeTopic, true, false, false, false, nil)
	})
	if err != nil {
		return err
	}
	if !missing && b.checked() {
		return nil
	}
	err = l.declare()
	if is(err, amqp.AccessRefused) && !missing { // who has made it has the right, others need not
		err = l.open()
	}
	if err != nil {
		return err
	}
	b.seen(missing)
	return nil
}

// missing asks for something that may not be there. It leaves an open channel: an answer of no closes one.
func (l *link) missing(ask func() error) (bool, error) {
	if err := l.open(); err != nil {
		return false, err
	}
	err := ask()
	if is(err, amqp.NotFound) {
		return true, l.open()
	}
	return false, err
}

// declare makes the exchanges, or checks that they are what they should be.
func (l *link) declare() error {
	b := l.broker
	if err := l.ch.ExchangeDeclare(b.unrouted(), amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		return err
	}
	return l.ch.ExchangeDeclare(b.opts.Exchange, amqp.ExchangeTopic, true, false, false, false, amqp.Table{"alternate-exchange": b.unrouted()})
}

// seen notes that the exchange is there. When it had to be made although it was there before, all queues have lost their bindings, if
// they are still there: feeds are to be opened again.
func (b *Broker) seen(made bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if made && b.known {
		b.opts.Log.Warn("rabbitbroker: the exchange was gone and is made again: the server lost its data, or somebody removed it; queues of other programs have to be bound again, and what they miss can be sent by pulse republish", "exchange", b.opts.Exchange)
		for f := range b.feeds {
			f.fail(fmt.Errorf("%w: the exchange was gone: open again", pulse.ErrBroker))
		}
	}
	b.known = true
}

// checked tells that the exchange is known to be what it should be.
func (b *Broker) checked() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known
}

// watch notes whether the server takes messages until the connection ends.
func (l *link) watch(blocks <-chan amqp.Blocking) {
	for block := range blocks {
		l.mu.Lock()
		l.blocked = ""
		if block.Active {
			l.blocked = block.Reason
		}
		l.mu.Unlock()
		if !block.Active {
			l.broker.opts.Log.Info("rabbitbroker: the server takes messages again")
			continue
		}
		l.broker.opts.Log.Warn("rabbitbroker: the server takes no messages", "reason", block.Reason)
		time.AfterFunc(blockedPatience, l.giveUp)
	}
}

// blockedPatience is how long a batch waits for a server that takes no messages.
const blockedPatience = 2 * time.Second

// giveUp ends the batch under way if the server still takes no messages.
func (l *link) giveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blocked != "" && l.onBlock != nil {
		l.onBlock(&blockedError{l.blocked})
	}
}

// during makes cancel end what is under way when the server takes no messages, nil that nothing is.
func (l *link) during(cancel context.CancelCauseFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onBlock = cancel
}

// why is the reason for which nothing goes on here, nil when none is known.
func (l *link) why() error {
	select {
	case err := <-l.channelClosed:
		if err != nil {
			return err
		}
	default:
	}
	select {
	case err := <-l.connClosed:
		if err != nil {
			return err
		}
	default:
	}
	return nil
}

// usable tells that the link has not failed yet.
func (l *link) usable() bool { return l != nil && !l.ch.IsClosed() && !l.conn.IsClosed() }

// kill ends the connection at once. It may be called again, and by anybody.
func (l *link) kill() {
	_ = l.raw.Close()
	l.gone()
}

// close ends the connection once the server has taken what was sent. It ends in any case.
func (l *link) close() {
	late := time.AfterFunc(closeTimeout, l.kill)
	if l.ch != nil {
		_ = l.ch.Close() // acknowledgements come before it
	}
	_ = l.conn.Close()
	late.Stop()
	l.kill()
	l.helpers.Wait()
}

func (l *link) gone() {
	l.broker.mu.Lock()
	defer l.broker.mu.Unlock()
	delete(l.broker.links, l)
}
