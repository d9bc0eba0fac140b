package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// certificate makes a certificate of 127.0.0.1 that vouches for itself, and its key, in PEM.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return block("CERTIFICATE", certDER), block("PRIVATE KEY", keyDER)
}

func TestParseBroker(t *testing.T) {
	for in, want := range map[string]struct{ kind, destination, shown string }{
		"embedded":                        {BrokerEmbedded, "nats", "embedded"},
		"log":                             {BrokerLog, "log", "log"},
		"none":                            {BrokerNone, "", "none"},
		"nats://host":                     {BrokerNATS, "nats", "nats://host"},
		"tls://host:4222":                 {BrokerNATS, "nats", "tls://host:4222"},
		"nats://u:secret@a:1,nats://b:2":  {BrokerNATS, "nats", "nats://a:1,nats://b:2"},
		"nats://[::1]:4222":               {BrokerNATS, "nats", "nats://[::1]:4222"},
		"nats://to%2Fken@nats.example:22": {BrokerNATS, "nats", "nats://nats.example:22"},
	} {
		s, err := ParseBroker(in)
		if err != nil || s.Kind != want.kind || s.Destination() != want.destination || s.String() != want.shown {
			t.Errorf("%s: %+v, %q, %q, %v", in, s, s.Destination(), &s, err)
		}
		if want.kind == BrokerNATS && s.URL != in {
			t.Errorf("%s: the URL is %s", in, s.URL)
		}
	}
}

func TestParseBrokerErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "the broker is empty",
		"kafka":                         `"kafka" is no broker`,
		"localhost:4222":                "is no broker",
		"redis://u:secret@host":         "redis:// is not known",
		"http://secret@host":            "http:// is not known",
		"nats://":                       "has no host",
		"nats://:4222":                  "has no host",
		"nats://u:secret@host:99999":    "port 99999",
		"nats://u:sec ret@host":         "cannot be read",
		"nats://u:secret/@host:4222":    "cannot be read",
		"nats://u:secret%zz@host":       "cannot be read",
		"nats://host/stream":            "goes on behind HOST:PORT",
		"nats://host?x=secret":          "goes on behind HOST:PORT",
		"nats://a:1,":                   "is not known",
		"nats://a:1,https://u:secret@b": "https:// is not known",
	} {
		_, err := ParseBroker(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "sec") {
			t.Errorf("%q: the error tells the password: %v", in, err)
		}
	}
}

func TestServeSettings(t *testing.T) {
	cert, key := certificate(t)
	inDir(t, map[string]string{
		DefaultFile:  "broker: log\nlisten: 0.0.0.0:80\n",
		"user.creds": "creds", "seed.nk": "seed", "ca.pem": cert, "cert.pem": cert, "key.pem": key,
	})
	serve := func(vars, flags map[string]string) (Config, error) {
		return LoadConfig(Inputs{Flags: flags, Getenv: getenv(vars), Serve: true})
	}
	cfg, err := serve(nil, nil)
	if err != nil || cfg.Broker.Kind != BrokerLog || cfg.Listen != "0.0.0.0:80" {
		t.Errorf("from the file: %+v, %v", cfg, err)
	}
	cfg, err = serve(map[string]string{"PULSE_BROKER": "embedded", "PULSE_NATS_LISTEN": ":4222", "PULSE_NATS_TOKEN": "secret"}, nil)
	if err != nil || cfg.Broker.Kind != BrokerEmbedded || cfg.Broker.NATS.Listen != ":4222" || cfg.Broker.NATS.Token != "secret" {
		t.Errorf("embedded: %+v, %v", cfg.Broker, err)
	}
	if cfg.Broker.ensureToken() || cfg.EmbeddedDir() != "pulse.db.nats" {
		t.Errorf("embedded: %+v in %s", cfg.Broker, cfg.EmbeddedDir())
	}
	tls := map[string]string{"broker": "nats://host:4222", "nats-ca": "ca.pem", "nats-cert": "cert.pem", "nats-key": "key.pem", "nats-creds": "user.creds"}
	cfg, err = serve(nil, tls)
	if n := cfg.Broker.NATS; err != nil || n.TLS == nil || n.TLS.RootCAs == nil || len(n.TLS.Certificates) != 1 || n.CredentialsFile != "user.creds" {
		t.Errorf("TLS: %+v, %v", n, err)
	}
	cfg, err = serve(nil, map[string]string{"broker": "nats://host", "nats-user": "school", "nats-password": "secret"})
	if n := cfg.Broker.NATS; err != nil || n.User != "school" || n.Password != "secret" || n.TLS != nil {
		t.Errorf("user: %+v, %v", n, err)
	}
	cfg, err = serve(nil, map[string]string{"broker": "nats://host", "nats-nkey": "seed.nk"})
	if err != nil || cfg.Broker.NATS.NKeyFile != "seed.nk" {
		t.Errorf("nkey: %+v, %v", cfg.Broker.NATS, err)
	}
	cfg, err = serve(map[string]string{"PULSE_NATS_STREAM": "SCHOOL", "PULSE_NATS_PREFIX": "school.0"},
		map[string]string{"broker": "nats://host", "nats-replicas": "3", "nats-max-age": "90m", "nats-max-bytes": "20GiB"})
	o := cfg.Broker.NATS.options(nil)
	if err != nil || o.Stream != "SCHOOL" || o.Prefix != "school.0" || o.Replicas != 3 || o.MaxAge != 90*time.Minute || o.MaxBytes != 20<<30 {
		t.Errorf("stream: %+v, %v", o, err)
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{"": 0, "1": 1, "512 MiB": 512 << 20, "1KiB": 1024, "2TiB": 2 << 40, "9223372036854775807": 1<<63 - 1} {
		if got, err := parseBytes(in); err != nil || got != want {
			t.Errorf("%q is %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"0", "-1", "1GB", "x", "MiB", "1.5GiB", "9007199254740992KiB", "9223372036854775808"} {
		if got, err := parseBytes(in); err == nil {
			t.Errorf("%q is %d, want an error", in, got)
		}
	}
}

func TestServeDefaults(t *testing.T) {
	inDir(t, nil)
	cfg, err := LoadConfig(Inputs{Getenv: getenv(nil), Serve: true})
	if err != nil || cfg.Broker.Kind != BrokerEmbedded || cfg.Listen != "127.0.0.1:8080" || cfg.Broker.NATS.Listen != "" {
		t.Errorf("%+v, %v", cfg, err)
	}
	if o := cfg.Broker.NATS.options(nil); o.Stream != "PULSE" || o.Prefix != "pulse.0" || o.Replicas != 1 || o.MaxAge != 72*time.Hour || o.MaxBytes != 0 {
		t.Errorf("stream: %+v", o)
	}
	cfg.Broker.NATS.Listen = "127.0.0.1:0"
	if !cfg.Broker.ensureToken() || len(cfg.Broker.NATS.Token) < 26 {
		t.Errorf("the token is %q", cfg.Broker.NATS.Token)
	}
}

// Commands that do not publish do not care what is said about it, as long as the file is well-formed.
func TestOtherCommandsTakeNoNoticeOfTheBroker(t *testing.T) {
	inDir(t, map[string]string{DefaultFile: "broker: bad\nnats-ca: nowhere.pem\nlisten: bad\n"})
	if _, err := LoadConfig(Inputs{Getenv: getenv(map[string]string{"PULSE_BROKER": "worse"})}); err != nil {
		t.Error(err)
	}
}

func TestServeSettingsErrors(t *testing.T) {
	cert, key := certificate(t)
	for name, tc := range map[string]struct {
		flags map[string]string
		vars  map[string]string
		wants []string // one for each problem, in order
	}{
		"everything at once": {
			flags: map[string]string{"broker": "nats://host", "listen": "80", "nats-listen": "4222", "log-level": "loud", "nats-password": "secret"},
			wants: []string{
				`flag --log-level: "loud" is no log level`, `flag --listen: "80" is no address`, `flag --nats-listen: "4222" is no address`,
				"flag --nats-listen: is for the embedded broker: the broker is nats://host", "flag --nats-password: has no nats-user to go with it",
			},
		},
		"credentials for an embedded broker": {
			flags: map[string]string{"nats-user": "school"}, vars: map[string]string{"PULSE_NATS_PASSWORD": "secret"},
			wants: []string{"flag --nats-user: is for a NATS server: the broker is embedded", "variable PULSE_NATS_PASSWORD: is for a NATS server"},
		},
		"a token nobody needs": {
			flags: map[string]string{"nats-token": "secret"},
			wants: []string{"flag --nats-token: is for a NATS server: the broker is embedded"},
		},
		"a port for a log": {
			flags: map[string]string{"broker": "log", "nats-listen": ":4222"},
			wants: []string{"flag --nats-listen: is for the embedded broker: the broker is log"},
		},
		"several ways to log in": {
			flags: map[string]string{"broker": "nats://u:secret@host", "nats-user": "u", "nats-token": "secret"},
			wants: []string{"flag --nats-user: is another way to log in beside broker and nats-token: give one"},
		},
		"files that are not there": {
			flags: map[string]string{"broker": "nats://host", "nats-ca": "no.pem", "nats-cert": "no.pem", "nats-key": "no.key", "nats-creds": "no.creds"},
			wants: []string{
				"flag --nats-creds: cannot read the file", "flag --nats-ca: cannot read the file", "flag --nats-cert: cannot be used",
			},
		},
		"files of something else": {
			flags: map[string]string{"broker": "nats://host", "nats-ca": "text", "nats-cert": "text", "nats-key": "text"},
			wants: []string{"flag --nats-ca: there is no certificate in PEM in text", "flag --nats-cert: cannot be used"},
		},
		"a certificate without its key": {
			flags: map[string]string{"broker": "nats://host", "nats-cert": "cert.pem"},
			wants: []string{"flag --nats-cert: has no nats-key to go with it"},
		},
		"a key without its certificate": {
			flags: map[string]string{"broker": "nats://host", "nats-key": "key.pem"},
			wants: []string{"flag --nats-key: has no nats-cert to go with it"},
		},
		"a stream that is none": {
			flags: map[string]string{"nats-stream": "a.b", "nats-prefix": "Pulse.*", "nats-replicas": "3", "nats-max-age": "7d", "nats-max-bytes": "1GB"},
			wants: []string{
				`flag --nats-stream: "a.b" is no name`, `flag --nats-prefix: "Pulse.*" cannot begin`, `flag --nats-max-age: "7d" is no age`,
				`flag --nats-max-bytes: "1GB" is no size`, "flag --nats-replicas: is for a cluster of NATS servers: the broker is embedded",
			},
		},
		"too many copies": {flags: map[string]string{"nats-replicas": "6"}, wants: []string{`flag --nats-replicas: "6" is no number of copies`}},
		"a broker that is none": {
			flags: map[string]string{"broker": "kafka", "nats-user": "u"},
			wants: []string{`flag --broker: "kafka" is no broker`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inDir(t, map[string]string{"text": "secret", "cert.pem": cert, "key.pem": key})
			vars := map[string]string{}
			maps.Copy(vars, tc.vars)
			_, err := LoadConfig(Inputs{Flags: tc.flags, Getenv: getenv(vars), Serve: true})
			e, ok := errors.AsType[*ConfigError](err)
			if !ok {
				t.Fatalf("error is %v", err)
			}
			if len(e.Problems) != len(tc.wants) {
				t.Fatalf("%v, want %d problems", err, len(tc.wants))
			}
			for i, want := range tc.wants {
				if got := e.Problems[i].Where + ": " + e.Problems[i].What; !strings.HasPrefix(got, want) || strings.Contains(got, "secret") {
					t.Errorf("problem %d is %q, want %q", i, got, want)
				}
			}
		})
	}
}
