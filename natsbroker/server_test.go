package natsbroker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/natsbroker"
)

// run starts a server and stops it with the test.
func run(t testing.TB, o *server.Options) *server.Server {
	t.Helper()
	o.NoSigs, o.NoLog, o.JetStream = true, true, true
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// certificates are a server's, and what a client needs to trust it. Clients show the same one.
func certificates(t testing.TB) (forServer, forClient *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	own := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	return &tls.Config{Certificates: own, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}, &tls.Config{Certificates: own, RootCAs: pool}
}

// conformance runs the suite, each case on its own stream of one server or cluster.
func conformance(t *testing.T, url string, o natsbroker.Options) {
	var n atomic.Int64
	brokertest.Run(t, brokertest.Options{
		Keeps: true,
		Open: func(t testing.TB) brokertest.Broker {
			o := o
			o.Stream = fmt.Sprint("case", n.Add(1))
			o.Prefix = o.Stream
			b := connect(t, url, o)
			return brokertest.Broker{Publisher: b.Publisher(), Source: b.Source()}
		},
	})
}

func TestConformanceTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: the same again, over TLS")
	}
	t.Parallel()
	forServer, forClient := certificates(t)
	s := run(t, &server.Options{Authorization: token, TLSConfig: forServer, TLSTimeout: 5, TLSVerify: true})
	conformance(t, s.ClientURL(), natsbroker.Options{TLS: forClient})
	if b, err := natsbroker.Connect(t.Context(), s.ClientURL(), &natsbroker.Options{Log: quiet, Auth: natsbroker.Auth{Token: token}}); err == nil {
		b.Close()
		t.Error("connected without a certificate")
	}
}

func TestConformanceCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: runs three servers")
	}
	t.Parallel()
	_, addresses := cluster(t)
	conformance(t, addresses, natsbroker.Options{Replicas: 3})
}

// cluster runs three servers and returns them with their addresses.
func cluster(t *testing.T) (servers []*server.Server, addresses string) {
	t.Helper()
	var routes []*url.URL
	var listeners []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
	}
	for i, l := range listeners {
		l.Close() // its port is free for the server
		s := run(t, &server.Options{
			ServerName: fmt.Sprint("n", i), Authorization: token, Routes: routes,
			Cluster: server.ClusterOpts{Name: "school", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port},
		})
		servers = append(servers, s)
		addresses += s.ClientURL() + ","
	}
	eventually(t, "the election of a leader", func() bool {
		leaders := 0
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				leaders++
			}
		}
		return leaders == 1
	})
	return servers, addresses[:len(addresses)-1]
}
