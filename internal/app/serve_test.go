package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/health"
	"github.com/edupulse-live/pulse/membroker"
)

// lines is a log that tests read.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// serving is a Serve under way.
type serving struct {
	cfg   Config
	log   *lines
	url   string // of HTTP
	stop  context.CancelFunc
	ended chan error
}

// serve starts Serve and waits until it answers HTTP.
func serve(t *testing.T, cfg Config, opts ServeOptions) *serving {
	t.Helper()
	s := &serving{log: &lines{}, ended: make(chan error, 1)}
	if cfg.Store.Kind == "" {
		cfg.Store = StoreSpec{KindSQLite, filepath.Join(t.TempDir(), "school.db")}
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s.cfg, cfg.Source = cfg, "/"
	opts.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	go func() { s.ended <- Serve(ctx, cfg, opts) }()
	t.Cleanup(func() {
		stop()
		s.await(t, "the end", func() bool { return len(s.ended) > 0 })
	})
	s.await(t, "HTTP", func() bool {
		if _, rest, found := strings.Cut(s.log.String(), " http="); found {
			s.url = "http://" + strings.Fields(rest)[0]
		}
		return s.url != "" || len(s.ended) > 0
	})
	return s
}

// end stops serving and returns its answer.
func (s *serving) end() error {
	s.stop()
	err := <-s.ended
	s.ended <- err
	return err
}

// await waits until ok is true.
func (s *serving) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come; the log is\n%s", what, s.log)
		}
	}
}

// get asks over HTTP.
func (s *serving) get(t *testing.T, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// ready asks whether it is ready and what the relay does.
func (s *serving) ready(t *testing.T) (int, health.DestinationReport) {
	t.Helper()
	code, body := s.get(t, "/readyz")
	var r health.Report
	if err := json.Unmarshal([]byte(body), &r); err != nil || len(r.Destinations) != 1 {
		t.Fatalf("%d %q: %v", code, body, err)
	}
	return code, r.Destinations[0]
}

// awaitState waits until the relay is in a state.
func (s *serving) awaitState(t *testing.T, code int, state health.State, reason string) {
	t.Helper()
	s.await(t, string(state), func() bool {
		c, d := s.ready(t)
		return c == code && d.State == state && strings.Contains(d.Reason, reason)
	})
}

// emit emits n events into the store that is served, as another process would.
func (s *serving) emit(t *testing.T, n int) {
	t.Helper()
	a, err := Open(t.Context(), s.cfg, OpenOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for range n {
		if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "lesson.published", Key: "l1", Data: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
}

// memory is a configuration and options that publish to b.
func memory(b *membroker.Broker) (Config, ServeOptions) {
	return Config{Broker: BrokerSpec{Kind: BrokerNATS, URL: "nats://memory"}}, ServeOptions{open: func(context.Context) (*Destination, error) {
		return &Destination{Name: "nats", Publisher: b.Publisher("nats"), close: func() error { return nil }}, nil
	}}
}

func TestServe(t *testing.T) {
	b := membroker.New(nil)
	cfg, opts := memory(b)
	s := serve(t, cfg, opts)
	s.emit(t, 10)
	s.await(t, "events", func() bool { return len(b.Messages("nats")) == 10 })
	s.awaitState(t, 200, health.Running, "")
	if code, body := s.get(t, "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, _ := s.get(t, "/else"); code != 404 {
		t.Errorf("/else: %d", code)
	}
	_, body := s.get(t, "/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil || len(families["pulse_lag"].GetMetric()) != 1 || families["pulse_head"].GetMetric()[0].GetGauge().GetValue() != 10 {
		t.Errorf("/metrics: %v\n%s", err, body)
	}
	if !strings.Contains(body, `pulse_published_total{destination="nats",outcome="acked"} 10`) {
		t.Errorf("/metrics:\n%s", body)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if log := s.log.String(); !strings.Contains(log, "created the store") || strings.Contains(log, "network") {
		t.Errorf("the log is\n%s", log)
	}
}

func TestServeWaitsForTheBroker(t *testing.T) {
	b := membroker.New(nil)
	cfg, opts := memory(b)
	open, up := opts.open, make(chan struct{})
	var tries atomic.Int32
	opts.open = func(ctx context.Context) (*Destination, error) {
		select {
		case <-up:
			return open(ctx)
		default:
			tries.Add(1)
			return nil, errors.New("connection refused")
		}
	}
	s := serve(t, cfg, opts)
	s.emit(t, 3)
	s.awaitState(t, 503, health.Connecting, "connection refused")
	s.await(t, "the third try", func() bool { return tries.Load() == 3 })
	close(up)
	s.awaitState(t, 200, health.Running, "")
	s.await(t, "events", func() bool { return len(b.Messages("nats")) == 3 })

	b.SetDown(true)
	s.emit(t, 3)
	s.awaitState(t, 503, health.Broken, "the broker is down")
	b.SetDown(false)
	s.awaitState(t, 200, health.Running, "")
	s.await(t, "events", func() bool { return len(b.Messages("nats")) == 6 })
	if n := strings.Count(s.log.String(), "trying on"); n != 1 {
		t.Errorf("the log says %d times that there is no connection:\n%s", n, s.log)
	}
}

func TestServeStopsWhileItWaitsForTheBroker(t *testing.T) {
	cfg, opts := memory(nil)
	opts.open = func(context.Context) (*Destination, error) { return nil, errors.New("connection refused") }
	s := serve(t, cfg, opts)
	s.awaitState(t, 503, health.Connecting, "connection refused")
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// Stopping lets the batch under way finish, so that nothing comes twice, and says so meanwhile.
func TestServeDrains(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(begun) })
	b := membroker.New(&membroker.Options{Hook: func(context.Context, string, *pulse.Envelope) membroker.Fault {
		once()
		<-finish
		return membroker.None
	}})
	cfg, opts := memory(b)
	s := serve(t, cfg, opts)
	s.emit(t, 1)
	<-begun
	s.stop()
	s.await(t, "stopping", func() bool {
		code, body := s.get(t, "/readyz")
		return code == 503 && strings.Contains(body, `"stopping":true`)
	})
	close(finish)
	if err := s.end(); err != nil {
		t.Error(err)
	}
	cfg.Store = s.cfg.Store
	again := serve(t, cfg, opts)
	again.emit(t, 1)
	again.await(t, "events", func() bool { return len(b.Messages("nats")) >= 2 })
	if err := again.end(); err != nil || len(b.Messages("nats")) != 2 {
		t.Errorf("%d messages, %v", len(b.Messages("nats")), err)
	}
}

func TestServeWithoutBroker(t *testing.T) {
	s := serve(t, Config{Broker: BrokerSpec{Kind: BrokerNone}}, ServeOptions{})
	s.emit(t, 1)
	if code, body := s.get(t, "/readyz"); code != 200 || !strings.Contains(body, `"destinations":[]`) {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if _, body := s.get(t, "/metrics"); !strings.Contains(body, "pulse_head 1\n") {
		t.Errorf("/metrics:\n%s", body)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

func TestServeToLog(t *testing.T) {
	s := serve(t, Config{Broker: BrokerSpec{Kind: BrokerLog}}, ServeOptions{})
	s.emit(t, 1)
	s.await(t, "the event", func() bool { return strings.Contains(s.log.String(), "event=lesson.published") })
}

func TestServeErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tc := range map[string]struct {
		change func(*Config, *ServeOptions)
		want   error
		text   string
	}{
		"a destination that takes only small messages": {func(_ *Config, o *ServeOptions) {
			_, *o = memory(membroker.New(&membroker.Options{MaxBytes: 1000}))
		}, pulse.ErrInvalid, "it takes messages of 1000 bytes, the log events of up to 524288: raise its limit"},
		"a broker that will never work": {func(_ *Config, o *ServeOptions) {
			o.open = func(context.Context) (*Destination, error) { return nil, pulse.ErrInvalid }
		}, pulse.ErrInvalid, ""},
		"an address that is taken": {func(c *Config, _ *ServeOptions) {
			c.Listen = taken.Addr().String()
		}, nil, "in use: give another address by --listen"},
		"a store in memory": {func(c *Config, _ *ServeOptions) {
			c.Store = StoreSpec{Kind: KindMemory}
		}, ErrConfig, "memory: is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, opts := memory(membroker.New(nil))
			tc.change(&cfg, &opts)
			s := serve(t, cfg, opts)
			s.await(t, "the end", func() bool { return len(s.ended) > 0 })
			err := s.end()
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// TestServeToSmallNATS: the limit of a real server is known when it is connected.
func TestServeToSmallNATS(t *testing.T) {
	srv := natsServer(t, &natsserver.Options{MaxPayload: 64 << 10})
	s := serve(t, Config{Broker: BrokerSpec{Kind: BrokerNATS, URL: srv.ClientURL()}}, ServeOptions{})
	s.await(t, "the end", func() bool { return len(s.ended) > 0 })
	if err := s.end(); !errors.Is(err, pulse.ErrInvalid) || !strings.Contains(err.Error(), "the log events of up to 524288") {
		t.Errorf("error is %v", err)
	}
}

// TestServeLogsIn in several ways, and is refused without.
func TestServeLogsIn(t *testing.T) {
	cert, key := certificate(t)
	inDir(t, map[string]string{"cert.pem": cert, "key.pem": key})
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	authority := x509.NewCertPool()
	authority.AppendCertsFromPEM([]byte(cert))
	locked := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority, MinVersion: tls.VersionTLS12}
	for name, tc := range map[string]struct {
		door *natsserver.Options
		with func(s *BrokerSpec)
	}{
		"a token":        {&natsserver.Options{Authorization: "secret"}, func(s *BrokerSpec) { s.NATS.Token = "secret" }},
		"a token in URL": {&natsserver.Options{Authorization: "secret"}, func(s *BrokerSpec) { s.URL = strings.Replace(s.URL, "://", "://secret@", 1) }},
		"a user":         {&natsserver.Options{Username: "school", Password: "secret"}, func(s *BrokerSpec) { s.NATS.User, s.NATS.Password = "school", "secret" }},
		"certificates": {&natsserver.Options{TLS: true, TLSVerify: true, TLSConfig: locked, TLSTimeout: 5}, func(s *BrokerSpec) {
			s.NATS.CA, s.NATS.Cert, s.NATS.KeyPEM = "cert.pem", "cert.pem", "key.pem"
			if problems := s.problems(func(setting string) string { return setting }); problems != nil {
				t.Error(problems)
			}
		}},
		"a user in the URL": {&natsserver.Options{Username: "school", Password: "secret"}, func(s *BrokerSpec) { s.URL = strings.Replace(s.URL, "://", "://school:secret@", 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			srv := natsServer(t, tc.door)
			spec := BrokerSpec{Kind: BrokerNATS, URL: srv.ClientURL()}
			stranger := serve(t, Config{Broker: spec}, ServeOptions{})
			stranger.awaitState(t, 503, health.Connecting, "natsbroker: connect")
			stranger.await(t, "advice", func() bool { return strings.Contains(stranger.log.String(), "without credentials: give nats-token") })
			tc.with(&spec)
			s := serve(t, Config{Broker: spec}, ServeOptions{})
			s.awaitState(t, 200, health.Running, "")
			if log := s.log.String(); strings.Contains(log, "secret") {
				t.Errorf("the log tells the password:\n%s", log)
			}
		})
	}
}

// natsServer runs a NATS server for the test.
func natsServer(t *testing.T, opts *natsserver.Options) *natsserver.Server {
	t.Helper()
	opts.Host, opts.Port, opts.JetStream, opts.StoreDir, opts.NoSigs, opts.NoLog = "127.0.0.1", natsserver.RANDOM_PORT, true, t.TempDir(), true, true
	srv, err := natsserver.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return srv
}

// TestServeEmbedded: two processes on one store; clients need the token.
func TestServeEmbedded(t *testing.T) {
	cfg := Config{Broker: BrokerSpec{Kind: BrokerEmbedded}, Store: StoreSpec{KindSQLite, filepath.Join(t.TempDir(), "school.db")}}
	cfg.Broker.NATS.Listen = "127.0.0.1:0"
	type access struct{ url, token string }
	given := make(chan access, 2)
	opts := ServeOptions{Token: func(url, token string) { given <- access{url, token} }}
	first := serve(t, cfg, opts)
	first.emit(t, 5)
	at := <-given
	if nc, err := nats.Connect(at.url); err == nil {
		nc.Close()
		t.Error("a client without the token is let in")
	}
	if messages := count(t, at.url, at.token, 5); messages != 5 {
		t.Errorf("%d messages", messages)
	}
	second := serve(t, cfg, opts)
	second.awaitState(t, 200, health.Standby, "another process runs the embedded broker")
	if err := first.end(); err != nil {
		t.Error(err)
	}
	second.emit(t, 5)
	second.awaitState(t, 200, health.Running, "")
	at = <-given
	if messages := count(t, at.url, at.token, 10); messages != 10 {
		t.Errorf("%d messages", messages)
	}
}

// count waits until the stream has a number of messages, and a moment longer.
func count(t *testing.T, url, token string, want uint64) uint64 {
	t.Helper()
	nc, err := nats.Connect(url, nats.Token(token))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if info, err := js.StreamInfo("PULSE"); err == nil && info.State.Msgs >= want {
			return info.State.Msgs
		}
	}
	return 0
}

// TestServeTwoStoresOnOneServer: a stream has one store; the error says how each gets its own.
func TestServeTwoStoresOnOneServer(t *testing.T) {
	srv := natsServer(t, &natsserver.Options{})
	cfg := Config{Broker: BrokerSpec{Kind: BrokerNATS, URL: srv.ClientURL()}}
	first := serve(t, cfg, ServeOptions{})
	first.emit(t, 3)
	if n := count(t, srv.ClientURL(), "", 3); n != 3 {
		t.Fatalf("%d messages", n)
	}
	second := serve(t, cfg, ServeOptions{})
	second.await(t, "the end", func() bool { return len(second.ended) > 0 })
	if err := second.end(); !errors.Is(err, pulse.ErrDiverged) || !strings.Contains(err.Error(), "--nats-stream and --nats-prefix") {
		t.Errorf("error is %v", err)
	}
	cfg.Broker.NATS.Stream, cfg.Broker.NATS.Prefix = "OTHER", "other.0"
	third := serve(t, cfg, ServeOptions{})
	third.emit(t, 1)
	third.awaitState(t, 200, health.Running, "")
	if err := first.end(); err != nil {
		t.Error(err)
	}
}
