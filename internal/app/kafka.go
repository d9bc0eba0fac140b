package app

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// BrokerKafka is the kind of a Kafka cluster. A command that is built without the tag kafka knows its settings and cannot reach one: the client
// would take a ninth of a command that most run without it.
const BrokerKafka = "kafka"

// errNoKafka is what a command says that was built without.
var errNoKafka = errors.New("this pulse was built without Kafka: build it with the tag kafka, go build -tags kafka ./cmd/pulse, as make build does")

// KafkaSpec is how to reach a Kafka cluster.
type KafkaSpec struct {
	User, Password string
	Mechanism      string // of SASL, "" for the adapter's default
	Encrypt        bool   // connect over TLS also without certificates of one's own
	CA             string // file of the certificates that servers are checked against
	Cert, KeyPEM   string // files of the certificate this client shows, and of its key
	TLS            *tls.Config
	Topic          string
	Partitions     int           // of a topic that is made; 0 for the adapter's default
	Replicas       int           // copies of a topic that is made; 0 for the cluster's default
	MaxAge         time.Duration // how long records are kept; 0 for the adapter's default
}

// topicName is the name of the topic, also where no setting was read.
func (k *KafkaSpec) topicName() string { return cmp.Or(k.Topic, "pulse") }

// kafkaMechanisms are the ways to log in.
func kafkaMechanisms() []string { return []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} }

// kafkaSettings are those of Kafka.
func kafkaSettings(text func(field func(*Config) *string) func(*Config, string) error) []Setting {
	kafka := func(field func(*KafkaSpec) *string) func(*Config, string) error {
		return text(func(c *Config) *string { return field(&c.Broker.Kafka) })
	}
	return []Setting{
		{"kafka-user", "PULSE_KAFKA_USER", "", "`USER` to log in to Kafka as", kafka(func(k *KafkaSpec) *string { return &k.User })},
		{"kafka-password", "PULSE_KAFKA_PASSWORD", "", "`PASSWORD` of the user; better a variable", kafka(func(k *KafkaSpec) *string { return &k.Password })},
		{"kafka-mechanism", "PULSE_KAFKA_MECHANISM", "SCRAM-SHA-512", "`WAY` to log in: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", func(c *Config, v string) error {
			c.Broker.Kafka.Mechanism = strings.ToUpper(v)
			if !slices.Contains(kafkaMechanisms(), c.Broker.Kafka.Mechanism) {
				return fmt.Errorf("%q is no way to log in: use %s", v, strings.Join(kafkaMechanisms(), ", "))
			}
			return nil
		}},
		{"kafka-tls", "PULSE_KAFKA_TLS", "false", "`true` to connect over TLS, as with certificates", func(c *Config, v string) (err error) {
			if c.Broker.Kafka.Encrypt, err = strconv.ParseBool(v); err != nil {
				return fmt.Errorf("%q is neither true nor false", v)
			}
			return nil
		}},
		{"kafka-ca", "PULSE_KAFKA_CA", "", "`FILE` of the certificates that servers are checked against", kafka(func(k *KafkaSpec) *string { return &k.CA })},
		{"kafka-cert", "PULSE_KAFKA_CERT", "", "`FILE` of the certificate to show to servers", kafka(func(k *KafkaSpec) *string { return &k.Cert })},
		{"kafka-key", "PULSE_KAFKA_KEY", "", "`FILE` of the key of that certificate", kafka(func(k *KafkaSpec) *string { return &k.KeyPEM })},
		{"kafka-topic", "PULSE_KAFKA_TOPIC", "pulse", "`NAME` of the topic; one for each store", func(c *Config, v string) error {
			c.Broker.Kafka.Topic = v
			return validateKafkaTopic(v)
		}},
		{"kafka-partitions", "PULSE_KAFKA_PARTITIONS", "1", "`COUNT` of partitions of a topic that is made", func(c *Config, v string) (err error) {
			c.Broker.Kafka.Partitions, err = parseCount(v)
			return err
		}},
		{"kafka-replicas", "PULSE_KAFKA_REPLICAS", "", "`COPIES` of a topic that is made. Default: as the cluster has it", func(c *Config, v string) (err error) {
			if v == "" {
				return nil
			}
			c.Broker.Kafka.Replicas, err = parseCount(v)
			return err
		}},
		{"kafka-max-age", "PULSE_KAFKA_MAX_AGE", "72h", "`AGE` at which records leave the topic", func(c *Config, v string) (err error) {
			c.Broker.Kafka.MaxAge, err = parseAge(v)
			return err
		}},
	}
}

func parseCount(v string) (int, error) {
	n, err := strconv.ParseInt(v, 10, 16)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no number from 1 on", v)
	}
	return int(n), nil
}

// parseKafka reads the URL of a Kafka cluster.
func parseKafka(v string) (BrokerSpec, error) {
	const scheme, form = "kafka://", "write kafka://HOST:PORT,HOST:PORT"
	if !kafkaLinked {
		return BrokerSpec{}, errNoKafka
	}
	var servers []string
	for part := range strings.SplitSeq(v, ",") {
		u, err := url.Parse(scheme + strings.TrimPrefix(part, scheme))
		switch {
		case err != nil:
			return BrokerSpec{}, errors.New("the URL of the broker cannot be read: " + form + ", and percent-encode a password in it")
		case u.Hostname() == "":
			return BrokerSpec{}, errors.New("a server of the broker has no host: " + form)
		case u.Port() != "" && !isPort(u.Port()):
			return BrokerSpec{}, fmt.Errorf("the port %s of the broker is none", u.Port())
		case u.Path != "" || u.RawQuery != "" || u.Fragment != "":
			return BrokerSpec{}, errors.New("the URL of the broker goes on behind HOST:PORT: " + form + ", and give the topic by --kafka-topic")
		}
		u.Host = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "9092"))
		servers = append(servers, u.String())
	}
	return BrokerSpec{Kind: BrokerKafka, URL: strings.Join(servers, ",")}, nil
}

// Servers are the addresses in the URLs, HOST:PORT with commas between them, and who logs in.
func (k *KafkaSpec) Servers(urls string) (servers, user, password string) {
	user, password = k.User, k.Password
	var hosts []string
	for part := range strings.SplitSeq(urls, ",") {
		u, err := url.Parse(part)
		if err != nil {
			continue // parseKafka has refused it
		}
		hosts = append(hosts, u.Host)
		if u.User != nil {
			user = u.User.Username()
			password, _ = u.User.Password()
		}
	}
	return strings.Join(hosts, ","), user, password
}

// given lists the settings of Kafka that are set.
func (k *KafkaSpec) given() []string {
	return named([]setting{
		{"kafka-user", k.User},
		{"kafka-password", k.Password},
		{"kafka-ca", k.CA},
		{"kafka-cert", k.Cert},
		{"kafka-key", k.KeyPEM},
	})
}

// problems are what is wrong with the settings of Kafka together.
func (k *KafkaSpec) problems(s *BrokerSpec, fault faultFunc) {
	if s.Kind != BrokerKafka {
		for _, setting := range k.given() {
			fault(setting, "is for Kafka: the broker is %s", s)
		}
		return
	}
	if ways := k.ways(s.URL); len(ways) > 1 {
		fault("kafka-user", "is another way to log in beside the broker's URL: give one")
	}
	if k.Password != "" && k.User == "" {
		fault("kafka-password", "has no kafka-user to go with it")
	}
	k.TLS = readTLS("kafka", k.CA, k.Cert, k.KeyPEM, fault)
	if k.TLS == nil && k.Encrypt {
		k.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
}

// ways lists the settings by which to log in.
func (k *KafkaSpec) ways(servers string) []string {
	var names []string
	if credentials(servers) {
		names = append(names, "broker")
	}
	if k.User != "" {
		names = append(names, "kafka-user")
	}
	return names
}
