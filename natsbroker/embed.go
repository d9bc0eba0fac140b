package natsbroker

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/edupulse-live/pulse"
)

const startup = 30 * time.Second // a large stream is read once when the server was killed

// Embed runs a NATS server in this process, with its data in dir, and connects to it. It opens no port unless Listen is given.
// One process at a time can use a directory. Everything is synced to disk before it is acknowledged.
func Embed(ctx context.Context, dir string, o *Options) (*Broker, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	config, err := serverOptions(dir, &opts)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, failed("embed", err)
	}
	unlock, err := lock(filepath.Join(dir, "pulse.lock"))
	if err != nil {
		return nil, failed("embed in "+dir, err)
	}
	if err := portIsFree(ctx, opts.Listen); err != nil {
		unlock()
		return nil, err
	}
	srv, err := server.NewServer(config)
	if err != nil {
		unlock()
		return nil, failed("embed in "+dir, err)
	}
	srv.SetLoggerV2(logger{opts.Log}, false, false, false)
	srv.Start()
	if !ready(srv) {
		srv.Shutdown()
		srv.WaitForShutdown()
		unlock()
		return nil, fmt.Errorf("natsbroker: embed in %s: %w: the server did not start: see the log", dir, pulse.ErrBroker)
	}
	opts.TLS = nil
	b := newBroker(opts)
	b.server, b.unlock, b.free = srv, unlock, freeDisk(dir)/4*3
	return b.connect(ctx, srv.ClientURL())
}

// portIsFree tells at once what the server would only write to its log, and then not start.
func portIsFree(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("natsbroker: %w: Listen: %w: give another address, or stop who has this one", pulse.ErrInvalid, err)
	}
	return l.Close()
}

// ready waits until the server takes connections and has its streams.
func ready(srv *server.Server) bool {
	return srv.ReadyForConnections(startup) && srv.JetStreamEnabled()
}

func serverOptions(dir string, opts *Options) (*server.Options, error) {
	c := &server.Options{
		ServerName:         "pulse",
		DontListen:         opts.Listen == "",
		JetStream:          true,
		StoreDir:           dir,
		JetStreamMaxMemory: 64 << 20, // streams are on disk
		JetStreamMaxStore:  math.MaxInt64 / 2,
		SyncAlways:         true,
		JetStreamLimits:    server.JSLimitOpts{MaxBatchSize: embeddedBatch},
		NoSigs:             true,
	}
	if opts.Listen == "" {
		return c, nil
	}
	if opts.Auth.Token == "" {
		return nil, fmt.Errorf("natsbroker: %w: Listen without Auth.Token: everyone could read and write the events", pulse.ErrInvalid)
	}
	host, port, err := net.SplitHostPort(opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("natsbroker: %w: Listen: %w", pulse.ErrInvalid, err)
	}
	if c.Port, err = strconv.Atoi(port); err != nil || c.Port < 0 || c.Port > math.MaxUint16 {
		return nil, fmt.Errorf("natsbroker: %w: Listen: %q is no port", pulse.ErrInvalid, port)
	}
	if c.Port == 0 {
		c.Port = server.RANDOM_PORT
	}
	c.Host, c.Authorization = host, opts.Auth.Token
	return c, nil
}

// URL is where others connect to: the address of the embedded server if it has one, else that of the server connected to.
func (b *Broker) URL() string {
	if b.server != nil {
		if b.opts.Listen == "" {
			return ""
		}
		return b.server.ClientURL()
	}
	return b.nc.ConnectedUrlRedacted()
}

// logger writes the server's log to a slog.Logger. What the server takes for a notice is nothing for people who run Pulse.
type logger struct{ log *slog.Logger }

func (l logger) Noticef(format string, v ...any) { l.log.Debug(l.text(format, v)) }
func (l logger) Warnf(format string, v ...any)   { l.log.Warn(l.text(format, v)) }
func (l logger) Fatalf(format string, v ...any)  { l.log.Error(l.text(format, v)) }
func (l logger) Errorf(format string, v ...any)  { l.log.Error(l.text(format, v)) }
func (l logger) Debugf(format string, v ...any)  { l.log.Debug(l.text(format, v)) }
func (l logger) Tracef(format string, v ...any)  { l.log.Debug(l.text(format, v)) }

func (l logger) text(format string, v []any) string {
	return "natsbroker: server: " + fmt.Sprintf(format, v...)
}
