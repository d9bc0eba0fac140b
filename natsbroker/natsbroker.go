// Package natsbroker publishes to NATS JetStream and reads from it. Connect uses a server or a cluster, Embed runs one in this
// process.
//
// A Broker is one destination: one stream, of which Pulse is the owner and the only writer. The event "lesson.published" has the
// subject pulse.0.lesson.published and is a CloudEvent in binary mode: attributes in headers, the payload as the body.
//
// # What holds
//
//   - Every message is published with the sequence number expected before it. A message arrives in its place or not at all, however late
//     it comes; of two writers one fails. When the connection is lost before the answer, the next call looks at what arrived and
//     publishes the rest.
//   - Ten messages or more go as one atomic batch of up to 1,000, or 4,000 to the embedded server.
//   - The embedded server syncs before it answers. An external one does when it is configured so; otherwise it can lose what it has
//     acknowledged when it loses power. Last tells.
//   - A full stream refuses new messages and keeps the old ones.
//   - In a cluster that loses the stream's leader, who publishes waits for the next one and goes on as soon as it leads, up to 15 seconds.
//
// # What does not
//
// The feed that follows one that went without Close, with its process, may deliver again what was acknowledged behind the oldest message
// that was not.
package natsbroker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
)

// Options of a Broker. The zero value works.
type Options struct {
	Stream   string        // name of the stream; "PULSE" when empty
	Prefix   string        // what subjects begin with; "pulse.0" when empty
	Replicas int           // copies of the stream in a cluster; 1 when 0
	MaxAge   time.Duration // how long messages are kept; 72 hours when 0
	MaxBytes int64         // size of the stream; when 0 as it is, a new one no limit, embedded three quarters of the free disk
	Auth     Auth          // how to log in; with Embed only Token, which others need who connect
	TLS      *tls.Config   // certificates for Connect; nil uses TLS only if the server demands it
	Listen   string        // address such as "127.0.0.1:4222" for others to connect to; Embed only, which else opens no port
	Log      *slog.Logger  // slog.Default when nil
}

// Auth is how to log in: with one of its ways.
type Auth struct {
	Token           string
	User, Password  string
	CredentialsFile string // with a JWT and its key
	NKeyFile        string // with the seed of an NKey
}

const (
	defaultStream = "PULSE"
	defaultPrefix = "pulse.0"
	defaultMaxAge = 72 * time.Hour

	// A connection of which nobody reads holds up whoever writes until this ends it.
	writeTimeout = 20 * time.Second
)

func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Stream == "" {
		opts.Stream = defaultStream
	}
	if opts.Prefix == "" {
		opts.Prefix = defaultPrefix
	}
	if opts.Replicas == 0 {
		opts.Replicas = 1
	}
	if opts.MaxAge == 0 {
		opts.MaxAge = defaultMaxAge
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	var errs []error
	if strings.ContainsAny(opts.Stream, " .*>/\\\t\r\n") {
		errs = append(errs, fmt.Errorf("the stream name %.40q has a character NATS does not take in one", opts.Stream))
	}
	if err := pulse.ValidateName(opts.Prefix); err != nil {
		errs = append(errs, fmt.Errorf("the prefix of subjects: %w", err))
	}
	if opts.Replicas < 0 || opts.MaxAge < 0 || opts.MaxBytes < 0 {
		errs = append(errs, errors.New("replicas, age and bytes must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return opts, fmt.Errorf("natsbroker: %w: %w", pulse.ErrInvalid, err)
	}
	return opts, nil
}

// Broker is a connection to one stream. Its methods may be called concurrently.
type Broker struct {
	opts   Options
	free   int64 // size of a new stream when the options have none; 0 for no limit
	nc     *nats.Conn
	js     jetstream.JetStream
	server *server.Server // nil unless embedded
	unlock func()         // of the embedded server's directory

	mu    sync.Mutex
	cut   chan struct{}    // closed and replaced when the connection is lost
	slots map[string]*slot // by subscription

	waiting    waiters               // for answers and messages
	publishing waiters               // for answers to events
	shutOut    atomic.Pointer[error] // why the server does not let this user in again
	leader     atomic.Value          // string: the server that led the stream when it was looked at last; "" without a cluster
}

// Connect connects to a NATS server or cluster, url being one or more addresses such as "nats://127.0.0.1:4222" with commas between
// them, and makes the stream if it is not there. A lost connection is made again by itself.
func Connect(ctx context.Context, url string, o *Options) (*Broker, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if opts.Listen != "" {
		return nil, fmt.Errorf("natsbroker: %w: Listen is for Embed: this is a connection to another server", pulse.ErrInvalid)
	}
	return newBroker(opts).connect(ctx, url)
}

// newBroker is a Broker without a connection.
func newBroker(opts Options) *Broker {
	return &Broker{opts: opts, unlock: func() {}, cut: make(chan struct{}), slots: make(map[string]*slot)}
}

// connect makes b ready, or ends with an error all that belongs to it.
func (b *Broker) connect(ctx context.Context, url string) (*Broker, error) {
	err := b.dial(ctx, url)
	if err == nil {
		err = b.setUp(ctx)
	}
	if err != nil {
		b.shutdown()
		return nil, err
	}
	return b, nil
}

func (b *Broker) dial(ctx context.Context, url string) error {
	options, err := b.connectOptions()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return failed("connect", err)
	}
	if b.nc, err = nats.Connect(url, options...); err != nil {
		return failed("connect", err)
	}
	b.js, err = jetstream.New(b.nc)
	return err
}

func (b *Broker) connectOptions() ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name("pulse"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond),
		nats.ReconnectBufSize(-1), // what would be sent late is published again instead
		nats.IgnoreAuthErrorAbort(),
		nats.Timeout(5 * time.Second),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(writeTimeout),
		nats.ReconnectOnFlusherError(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.lost()
			if err != nil {
				b.opts.Log.Warn("natsbroker: the connection is lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.shutOut.Store(nil)
			b.opts.Log.Info("natsbroker: connected again", "server", nc.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.opts.Log.Warn("natsbroker: the client reports", "error", err)
			switch {
			case errors.Is(err, nats.ErrPermissionViolation):
				b.refused(err)
			case shutOut(err):
				b.shutOut.Store(&err)
			}
		}),
	}
	if b.server != nil {
		options = append(options, nats.InProcessServer(b.server))
	}
	if b.opts.TLS != nil {
		options = append(options, nats.Secure(b.opts.TLS))
	}
	a := b.opts.Auth
	switch {
	case a.Token != "":
		options = append(options, nats.Token(a.Token))
	case a.User != "":
		options = append(options, nats.UserInfo(a.User, a.Password))
	case a.CredentialsFile != "":
		if _, err := os.Stat(a.CredentialsFile); err != nil {
			return nil, fmt.Errorf("natsbroker: %w: credentials file: %w", pulse.ErrInvalid, err)
		}
		options = append(options, nats.UserCredentials(a.CredentialsFile))
	case a.NKeyFile != "":
		option, err := nats.NkeyOptionFromSeed(a.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("natsbroker: %w: NKey file: %w", pulse.ErrInvalid, err)
		}
		options = append(options, option)
	}
	return options, nil
}

// lost tells who waits for answers that they will not come.
func (b *Broker) lost() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.cut)
	b.cut = make(chan struct{})
}

// lostSoon is closed when the connection is lost.
func (b *Broker) lostSoon() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cut
}

// Close sends what is still to be sent and ends the connection, and the server if it is embedded. Close feeds before it.
func (b *Broker) Close() error {
	const patience = 2 * time.Second
	var err error
	if b.nc.IsConnected() {
		err = b.nc.FlushTimeout(patience)
	}
	b.shutdown()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return failed("close", err)
	}
	return nil
}

func (b *Broker) shutdown() {
	if b.nc != nil {
		b.nc.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	b.unlock()
}
