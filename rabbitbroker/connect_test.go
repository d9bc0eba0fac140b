package rabbitbroker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]rabbitbroker.Options{
		"the name of the exchange":     {Exchange: "a b"},
		"are the server's own":         {Exchange: "amq.topic"},
		"use at most 246":              {Exchange: strings.Repeat("x", 250)},
		"must not be negative":         {MaxBytes: -1},
		"a password and no user":       {Password: "secret"},
		"the URL of the broker cannot": {},
	} {
		_, err := rabbitbroker.Connect(t.Context(), "http://u:secret@h", &o)
		if !errors.Is(err, pulse.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}

// Of several addresses the first that answers is taken. A context that ends, ends connecting.
func TestConnect(t *testing.T) {
	t.Parallel()
	srv := shared.Server(t)
	b := connect(t, "amqp://127.0.0.1:1,"+srv.URL(), rabbitbroker.Options{})
	publish(t, b.Publisher(), events(1, 1))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err = rabbitbroker.Connect(ctx, "amqp://"+silent.Addr().String(), &rabbitbroker.Options{Log: quiet})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 3*time.Second {
		t.Errorf("from one who does not answer: %v after %s", err, time.Since(begin))
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if r := b.Publisher().PublishBatch(t.Context(), events(2, 1))[0]; !errors.Is(r.Err, pulse.ErrClosed) {
		t.Errorf("publishing after Close: %+v", r)
	}
}

// The rights the guide names are enough: to publish only, to read only, once somebody has made the exchange. Others are refused with words
// that say what to do, and nothing is Rejected.
func rights(t *testing.T, srv *rabbittest.Server) {
	admin := connect(t, srv.URL(), rabbitbroker.Options{Exchange: "pulse"})
	grant := func(configure, write, read string) {
		t.Helper()
		if err := srv.Control(t.Context(), "set_permissions", rabbittest.Stranger, configure, write, read); err != nil {
			t.Fatal(err)
		}
	}
	stranger := srv.URLFor(rabbittest.Stranger, rabbittest.Password, srv.Address(), "/")
	b := connect(t, stranger, rabbitbroker.Options{Exchange: "pulse"})
	p := b.Publisher()
	refusedWith(t, p, events(1, 3), pulse.Unknown, "the user lacks a right", "rabbitmqctl set_permissions", "'pulse' in vhost '/' refused for user 'stranger'")
	if _, err := b.Source().Open(t.Context(), pulse.FeedConfig{Subscription: "mailer"}); !errors.Is(err, pulse.ErrBroker) || !strings.Contains(err.Error(), "'pulse.mailer' in vhost '/' refused for user 'stranger'") {
		t.Errorf("opening without rights: %v", err)
	}
	grant("^$", "^pulse$", "^$")
	publish(t, p, events(1, 3))
	grant(`^pulse\.mailer$`, `^pulse\.mailer$`, `^pulse(\.mailer)?$`)
	f := open(t, b, pulse.FeedConfig{})
	publish(t, admin.Publisher(), events(4, 2))
	take(t, f, 2)
}

// certificate makes a certificate of 127.0.0.1 that vouches for itself, in files of a directory.
func certificate(t *testing.T) (dir string, authority *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir, authority = t.TempDir(), x509.NewCertPool()
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	authority.AppendCertsFromPEM(cert)
	err = errors.Join(os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return dir, authority
}

// What a server of its own is needed for: it lets in over TLS, takes small messages only, and is told who may do what, and to have no memory.
func TestServerWithLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: starts a server")
	}
	t.Parallel()
	dir, authority := certificate(t)
	srv := rabbittest.New(t, append(rabbittest.TLS(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")), "max_message_size = 100000")...)
	t.Run("TLS", func(t *testing.T) { overTLS(t, srv, authority) })
	t.Run("rights", func(t *testing.T) { rights(t, srv) })
	t.Run("takes less than it was said to", func(t *testing.T) { takesLess(t, srv) })
	t.Run("is short of memory", func(t *testing.T) { shortOfMemory(t, srv) })
}

// Over TLS events come and go; a server whose certificate nobody vouches for is not trusted.
func overTLS(t *testing.T, srv *rabbittest.Server, authority *x509.CertPool) {
	b := connect(t, srv.TLSURL(), rabbitbroker.Options{TLS: &tls.Config{RootCAs: authority, MinVersion: tls.VersionTLS12}})
	f := open(t, b, pulse.FeedConfig{})
	publish(t, b.Publisher(), events(1, 100))
	take(t, f, 100)
	if _, err := rabbitbroker.Connect(t.Context(), srv.TLSURL(), &rabbitbroker.Options{Log: quiet}); err == nil || !strings.Contains(err.Error(), "do not agree about certificates") {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
}

// Close ends a connection too that is just being made.
func TestCloseWhileConnecting(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, shared.Server(t).Address())
	b := connect(t, "amqp://school:chalk@"+n.Addr().String(), rabbitbroker.Options{})
	p := b.Publisher()
	n.mu.Lock()
	before := n.came.Load()
	published := make(chan pulse.Result)
	go func() { published <- p.PublishBatch(t.Context(), events(1, 1))[0] }()
	eventually(t, "connecting", func() bool { return n.came.Load() > before })
	err := b.Close()
	n.mu.Unlock()
	if r := <-published; err != nil || r.Outcome != pulse.Unknown || !errors.Is(r.Err, pulse.ErrClosed) {
		t.Errorf("after Close, which gave %v, publishing gives %+v", err, r)
	}
}
