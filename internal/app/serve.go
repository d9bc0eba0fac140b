package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/health"
	"github.com/edupulse-live/pulse/internal/metrics"
)

// ServeOptions say how to serve.
type ServeOptions struct {
	Logger *slog.Logger
	// Token is called when the embedded broker takes clients, with where that is and the token they need, if it was generated.
	Token func(url, token string)

	open func(ctx context.Context) (*Destination, error) // in place of OpenDestination, for tests
}

// Times of serving.
const (
	retryFirst   = 250 * time.Millisecond // wait before connecting to the broker again, doubled up to retryMost
	retryMost    = 5 * time.Second
	remindAfter  = 5 * time.Minute // until the log says again that there is still no connection
	lastRequests = 2 * time.Second // for HTTP requests under way in the end
)

// errStandby is why a process has no broker when another one runs that.
var errStandby = errors.New("another process runs the embedded broker, this one takes over when that ends")

// Serve publishes what is in the store to the broker and answers for it over HTTP, until ctx ends. Then it finishes what is under
// way and returns nil. A broker that cannot be reached, in the beginning or later, is waited for.
func Serve(ctx context.Context, cfg Config, opts ServeOptions) (err error) {
	s := &server{cfg: cfg, opts: opts, log: opts.Logger}
	s.generated = s.cfg.Broker.ensureToken()
	if s.app, err = Open(ctx, s.cfg, OpenOptions{Create: true, Logger: opts.Logger}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.app.Close()) }()
	if s.app.Created {
		s.log.Info("pulse: created the store", "store", s.cfg.Store.String())
	}
	states, ok := s.app.Store.(health.Store)
	if !ok {
		return fmt.Errorf("%w: %T keeps no relays", pulse.ErrInvalid, s.app.Store)
	}
	var destinations []string
	if d := s.cfg.Broker.Destination(); d != "" {
		destinations = append(destinations, d)
	}
	s.health, s.metrics = health.New(states, destinations...), metrics.New(states)
	stop, err := s.answer(ctx)
	if err != nil {
		return err
	}
	defer stop()
	return s.run(ctx)
}

// server is a process that publishes.
type server struct {
	cfg       Config
	opts      ServeOptions
	log       *slog.Logger
	app       *App
	generated bool // the token
	health    *health.Health
	metrics   *metrics.Metrics
}

// answer answers HTTP and watches over the relays until stop is called.
func (s *server) answer(ctx context.Context) (stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("answer HTTP: %w: give another address by --listen, port 0 for any free one", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", health.Live())
	mux.Handle("GET /readyz", s.health.Ready())
	mux.Handle("GET /metrics", s.metrics.Handler())
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	helpers.Go(func() { s.health.Watch(watching) })
	helpers.Go(func() {
		if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("pulse: HTTP is not answered any more", "error", err)
		}
	})
	helpers.Go(func() {
		select {
		case <-ctx.Done():
			s.log.Info("pulse: stopping, a second signal aborts")
			s.health.Stopping()
		case <-watching.Done():
		}
	})
	s.log.Info("pulse: serving", "store", s.cfg.Store.String(), "broker", s.cfg.Broker.String(), "http", listener.Addr().String())
	if addr, ok := listener.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() {
		s.log.Warn("pulse: others on the network can read state and metrics", "http", addr.String())
	}
	return func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRequests)
		defer cancel()
		_ = errors.Join(srv.Shutdown(ending), srv.Close()) // who does not read its answer is left
		unwatch()
		helpers.Wait()
	}, nil
}

// run runs the relay, if there is a broker.
func (s *server) run(ctx context.Context) (err error) {
	if s.cfg.Broker.Kind == BrokerNone {
		return s.app.Bus.Run(ctx)
	}
	d, err := s.connect(ctx)
	if err != nil || d == nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := s.app.Bus.Publish(d.Name, s.metrics.Count(d.Name, d.Publisher)); err != nil {
		return err
	}
	s.health.Connection(d.Name, nil)
	s.log.Info("pulse: publishing", "destination", d.Name)
	if d.URL != "" {
		s.log.Info("pulse: the embedded broker takes clients", "nats", d.URL)
		if s.generated {
			s.opts.Token(d.URL, s.cfg.Broker.NATS.Token)
		}
	}
	err = s.app.Bus.Run(ctx)
	switch {
	case errors.Is(err, pulse.ErrDiverged) && s.cfg.Broker.Kind == BrokerKafka:
		err = fmt.Errorf("%w. If another store publishes there, give each a topic of its own by --kafka-topic", err)
	case errors.Is(err, pulse.ErrDiverged) && s.cfg.Broker.Kind == BrokerNATS:
		err = fmt.Errorf("%w. If another store publishes there, give each a stream and subjects of its own by --nats-stream and --nats-prefix", err)
	}
	return err
}

// connect connects to the broker, however long it takes. It returns nil when ctx ends before.
func (s *server) connect(ctx context.Context) (*Destination, error) {
	open := s.opts.open
	if open == nil {
		open = func(ctx context.Context) (*Destination, error) { return OpenDestination(ctx, &s.cfg, s.log) }
	}
	name, told, toldAt := s.cfg.Broker.Destination(), "", time.Time{}
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		d, err := open(ctx)
		switch {
		case err == nil:
			return d, nil
		case ctx.Err() != nil:
			return nil, nil
		case permanent(err):
			return nil, err
		}
		held := errors.Is(err, pulse.ErrHeld)
		if held {
			err = errStandby
		}
		s.health.Connection(name, err)
		again := told == err.Error() && time.Since(toldAt) < remindAfter
		switch {
		case again:
		case held:
			s.log.Info("pulse: another process runs the embedded broker, this one stands by")
		default:
			s.log.Warn("pulse: no connection to the broker, trying on", append(s.cfg.Broker.attrs(), "error", err)...)
		}
		if !again {
			told, toldAt = err.Error(), time.Now()
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, nil
		}
	}
}
