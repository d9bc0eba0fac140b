package app

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// BrokerSpec says which broker to publish to.
type BrokerSpec struct {
	Kind   string // BrokerEmbedded, BrokerNATS, BrokerRabbit, BrokerKafka, BrokerLog or BrokerNone
	URL    string // of the servers, for BrokerNATS, BrokerRabbit and BrokerKafka; it may hold a password: print the BrokerSpec instead
	NATS   NATSSpec
	Rabbit RabbitSpec
	Kafka  KafkaSpec
}

// NATSSpec is how to reach NATS, or how NATS is to be reached.
type NATSSpec struct {
	natsbroker.Auth
	Listen       string // address of the embedded server, "" for no port
	CA           string // file of the certificates that servers are checked against
	Cert, KeyPEM string // files of the certificate this client shows, and of its key
	TLS          *tls.Config

	Stream, Prefix string        // name of the stream, and what its subjects begin with
	Replicas       int           // copies of the stream in a cluster
	MaxAge         time.Duration // how long messages are kept
	MaxBytes       int64         // size of the stream; 0 leaves it
}

// options are those of the adapter.
func (n *NATSSpec) options(logger *slog.Logger) natsbroker.Options {
	return natsbroker.Options{
		Auth: n.Auth, TLS: n.TLS, Listen: n.Listen, Log: logger,
		Stream: n.Stream, Prefix: n.Prefix, Replicas: n.Replicas, MaxAge: n.MaxAge, MaxBytes: n.MaxBytes,
	}
}

// streamName is the name of the stream, also where no setting was read.
func (n *NATSSpec) streamName() string { return cmp.Or(n.Stream, "PULSE") }

// Kinds of brokers.
const (
	BrokerEmbedded = "embedded"
	BrokerNATS     = "nats"
	BrokerLog      = "log"
	BrokerNone     = "none"
)

// Destination is the name under which events are published to this broker: From in an application, and RelayName. It is one for
// NATS, wherever it runs, so that a server may take the place of the embedded one.
func (s *BrokerSpec) Destination() string {
	switch s.Kind {
	case BrokerEmbedded:
		return BrokerNATS
	case BrokerNone:
		return ""
	}
	return s.Kind
}

// String is the form ParseBroker reads, without credentials.
func (s *BrokerSpec) String() string {
	if s.URL == "" {
		return s.Kind
	}
	var redacted []string
	for part := range strings.SplitSeq(s.URL, ",") {
		u, err := url.Parse(part)
		if err != nil {
			continue // ParseBroker has refused it
		}
		u.User = nil
		redacted = append(redacted, u.String())
	}
	return strings.Join(redacted, ",")
}

// ParseBroker reads embedded, log, none, or the URLs of NATS, RabbitMQ or Kafka servers. Its errors quote no URL: a password may be in it.
func ParseBroker(v string) (BrokerSpec, error) {
	const advice = "use embedded, nats://HOST:PORT, amqp://HOST:PORT, kafka://HOST:PORT, log or none"
	switch v {
	case BrokerEmbedded, BrokerLog, BrokerNone:
		return BrokerSpec{Kind: v}, nil
	case "":
		return BrokerSpec{}, errors.New("the broker is empty: " + advice)
	}
	if !strings.Contains(v, "://") {
		return BrokerSpec{}, fmt.Errorf("%q is no broker: %s", v, advice)
	}
	switch scheme, _, _ := strings.Cut(v, "://"); scheme {
	case "amqp", "amqps":
		return parseRabbit(v)
	case "kafka":
		return parseKafka(v)
	}
	for part := range strings.SplitSeq(v, ",") {
		u, err := url.Parse(part)
		switch {
		case err != nil:
			return BrokerSpec{}, errors.New("a URL of the broker cannot be read: write nats://HOST:PORT, and percent-encode a password in it")
		case u.Scheme != "nats" && u.Scheme != "tls":
			return BrokerSpec{}, fmt.Errorf("a broker of the kind %s:// is not known: %s", u.Scheme, advice)
		case u.Hostname() == "":
			return BrokerSpec{}, errors.New("a URL of the broker has no host: write nats://HOST:PORT")
		case u.Port() != "" && !isPort(u.Port()):
			return BrokerSpec{}, fmt.Errorf("the port %s of the broker is none", u.Port())
		case u.Path != "" || u.RawQuery != "" || u.Fragment != "":
			return BrokerSpec{}, errors.New("a URL of the broker goes on behind HOST:PORT: write nats://HOST:PORT")
		}
	}
	return BrokerSpec{Kind: BrokerNATS, URL: v}, nil
}

// parseStream checks the name of a stream.
func parseStream(v string) error {
	if v == "" || strings.ContainsAny(v, " .*>/\\\t\r\n") {
		return fmt.Errorf("%q is no name of a stream: use no space, '.', '*', '>', '/' and '\\'", v)
	}
	return nil
}

// parsePrefix checks what subjects begin with: it is made like the names of events.
func parsePrefix(v string) error {
	if err := pulse.ValidateName(v); err != nil {
		return fmt.Errorf("%q cannot begin subjects: use words of a-z, 0-9, '_' and '-', joined by dots, such as school.0", v)
	}
	return nil
}

func parseReplicas(v string) (int, error) {
	const most = 5 // that NATS takes
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%q is no number of copies: give 1 to %d", v, most)
	}
	return n, nil
}

func parseAge(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Minute {
		return 0, fmt.Errorf("%q is no age of messages: give a minute or more, such as 72h or 90m", v)
	}
	return d, nil
}

// parseBytes reads a size such as 20GiB; "" is 0.
func parseBytes(v string) (int64, error) {
	if v == "" {
		return 0, nil
	}
	digits, shift := v, 0
	for unit, n := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40} {
		if rest, ok := strings.CutSuffix(v, unit); ok {
			digits, shift = strings.TrimSpace(rest), n
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is no size: give bytes, or a number with KiB, MiB, GiB or TiB", v)
	}
	return n << shift, nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n <= 65535
}

// parseAddress checks an address to listen on.
func parseAddress(v string) error {
	_, port, err := net.SplitHostPort(v)
	if err != nil || !isPort(port) {
		return fmt.Errorf("%q is no address to listen on: write HOST:PORT, such as 127.0.0.1:8080, with port 0 for any free one", v)
	}
	return nil
}

// faultFunc notes what is wrong with a setting.
type faultFunc func(setting, format string, args ...any)

// problems are what is wrong with the settings of the broker together. where tells the place of a setting.
func (s *BrokerSpec) problems(where func(setting string) string) []Problem {
	var all []Problem
	fault := func(setting, format string, args ...any) {
		all = append(all, Problem{where(setting), fmt.Sprintf(format, args...)})
	}
	s.NATS.problems(s, fault)
	s.Rabbit.problems(s, fault)
	s.Kafka.problems(s, fault)
	return all
}

// problems are what is wrong with the settings of NATS together.
func (n *NATSSpec) problems(s *BrokerSpec, fault faultFunc) {
	given := n.given()
	if s.Kind != BrokerNATS {
		for _, setting := range given {
			if setting != "nats-token" || n.Listen == "" {
				fault(setting, "is for a NATS server: the broker is %s", s.Kind)
			}
		}
		if n.Replicas > 1 {
			fault("nats-replicas", "is for a cluster of NATS servers: the broker is %s", s.Kind)
		}
		if n.Listen != "" && s.Kind != BrokerEmbedded {
			fault("nats-listen", "is for the embedded broker: the broker is %s", s.Kind)
		}
		return
	}
	if n.Listen != "" {
		fault("nats-listen", "is for the embedded broker: the broker is %s", s)
	}
	if ways := n.ways(s.URL); len(ways) > 1 {
		fault(ways[len(ways)-1], "is another way to log in beside %s: give one", strings.Join(ways[:len(ways)-1], " and "))
	}
	if n.Password != "" && n.User == "" {
		fault("nats-password", "has no nats-user to go with it")
	}
	n.readFiles(fault)
}

// setting is one by its name.
type setting struct{ name, value string }

// named lists the names of those that are set.
func named(settings []setting) (names []string) {
	for _, s := range settings {
		if s.value != "" {
			names = append(names, s.name)
		}
	}
	return names
}

// given lists the settings of a NATS server that are set.
func (n *NATSSpec) given() []string {
	return named([]setting{
		{"nats-token", n.Token},
		{"nats-user", n.User},
		{"nats-password", n.Password},
		{"nats-creds", n.CredentialsFile},
		{"nats-nkey", n.NKeyFile},
		{"nats-ca", n.CA},
		{"nats-cert", n.Cert},
		{"nats-key", n.KeyPEM},
	})
}

// ways lists the settings by which to log in.
func (n *NATSSpec) ways(servers string) []string {
	var names []string
	if credentials(servers) {
		names = append(names, "broker")
	}
	for _, name := range n.given() {
		switch name {
		case "nats-token", "nats-user", "nats-creds", "nats-nkey":
			names = append(names, name)
		}
	}
	return names
}

// credentials tells whether there are some in a list of URLs.
func credentials(urls string) bool {
	for part := range strings.SplitSeq(urls, ",") {
		if u, err := url.Parse(part); err == nil && u.User != nil {
			return true
		}
	}
	return false
}

// attrs say for the log which broker this is, and by which settings this process logs in.
func (s *BrokerSpec) attrs() []any {
	attrs := []any{"broker", s.String()}
	var ways []string
	without := ""
	switch s.Kind {
	case BrokerNATS:
		ways, without = s.NATS.ways(s.URL), "without credentials: give nats-token, nats-user, nats-creds or nats-nkey where the server wants them"
	case BrokerRabbit:
		ways, without = s.Rabbit.ways(s.URL), "as guest: give rabbitmq-user, as servers let guest in only from their own machine"
	case BrokerKafka:
		ways, without = s.Kafka.ways(s.URL), "without credentials: give kafka-user where the cluster wants them"
	default:
		return attrs
	}
	if len(ways) > 0 {
		return append(attrs, "login", "by "+strings.Join(ways, " and "))
	}
	return append(attrs, "login", without)
}

// readFiles reads the files that are named, into TLS where they belong there.
func (n *NATSSpec) readFiles(fault faultFunc) {
	for _, f := range []struct{ setting, path string }{{"nats-creds", n.CredentialsFile}, {"nats-nkey", n.NKeyFile}} {
		if f.path == "" {
			continue
		}
		if _, err := os.ReadFile(f.path); err != nil {
			fault(f.setting, "cannot read the file: %v", err)
		}
	}
	n.TLS = readTLS("nats", n.CA, n.Cert, n.KeyPEM, fault)
}

// readTLS reads the files of certificates that are named by the settings of a kind of broker, nil when none is.
func readTLS(kind, ca, cert, key string, fault faultFunc) *tls.Config {
	if ca == "" && cert == "" && key == "" {
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		config.RootCAs = x509.NewCertPool()
		switch pem, err := os.ReadFile(ca); {
		case err != nil:
			fault(kind+"-ca", "cannot read the file: %v", err)
		case !config.RootCAs.AppendCertsFromPEM(pem):
			fault(kind+"-ca", "there is no certificate in PEM in %s", ca)
		}
	}
	switch {
	case cert != "" && key == "":
		fault(kind+"-cert", "has no %s-key to go with it", kind)
	case cert == "" && key != "":
		fault(kind+"-key", "has no %s-cert to go with it", kind)
	case cert != "":
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			fault(kind+"-cert", "cannot be used: %v", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}
