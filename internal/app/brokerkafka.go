package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/edupulse-live/pulse/kafkabroker"
)

// BrokerKafka is the kind of a broker that is a Kafka cluster.
const BrokerKafka = "kafka"

const kafkaScheme = "kafka://"

// kafkaForm is how a Kafka cluster is given.
const kafkaForm = "kafka://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][/TOPIC][?partitions=N&replicas=N&max-age=72h&mechanism=SCRAM-SHA-512&tls=true&ca=FILE&cert=FILE&key=FILE]"

// parseKafka reads the URL of a Kafka cluster: its servers, and the options for the adapter. Its errors quote no password.
func parseKafka(v string) (servers string, o kafkabroker.Options, err error) {
	u, hosts, err := splitKafka(v)
	if err != nil {
		return "", o, err
	}
	for host := range strings.SplitSeq(hosts, ",") {
		h, err := url.Parse(kafkaScheme + host)
		if err != nil || h.Hostname() == "" || h.User != nil || h.Path != "" || h.Port() != "" && !isPort(h.Port()) {
			return "", o, errors.New("a server of the broker is no HOST:PORT: write " + kafkaForm)
		}
		servers += "," + h.Hostname() + ":" + cmp.Or(h.Port(), "9092")
		if strings.Contains(h.Hostname(), ":") {
			servers = strings.TrimSuffix(servers, h.Hostname()+":"+cmp.Or(h.Port(), "9092")) + "[" + h.Hostname() + "]:" + cmp.Or(h.Port(), "9092")
		}
	}
	o.Topic = strings.TrimPrefix(u.Path, "/")
	if o.Topic != "" {
		if err := kafkabroker.ValidateTopic(o.Topic); err != nil {
			return "", o, fmt.Errorf("the topic of the broker: %w", err)
		}
	}
	o.Auth.User = u.User.Username()
	o.Auth.Password, _ = u.User.Password()
	return strings.TrimPrefix(servers, ","), o, kafkaQuery(u.Query(), &o)
}

// splitKafka takes the servers out of the URL, which may be several.
func splitKafka(v string) (u *url.URL, hosts string, err error) {
	rest := strings.TrimPrefix(v, kafkaScheme)
	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = i
	}
	login := ""
	if i := strings.LastIndexByte(rest[:end], '@'); i >= 0 {
		login = rest[:i+1]
	}
	hosts = rest[len(login):end]
	u, err = url.Parse(kafkaScheme + login + "servers" + rest[end:])
	if err != nil || u.Fragment != "" {
		return nil, "", errors.New("the URL of the broker cannot be read: write " + kafkaForm + ", and percent-encode a password in it")
	}
	return u, hosts, nil
}

// kafkaQuery reads what stands behind the question mark.
func kafkaQuery(q url.Values, o *kafkabroker.Options) error {
	var ca, cert, key string
	encrypt := false
	for name := range q {
		var err error
		switch v := q.Get(name); name {
		case "partitions":
			o.Partitions, err = parseCount(v)
		case "replicas":
			o.Replicas, err = parseCount(v)
		case "max-age":
			o.MaxAge, err = parseAge(v)
		case "mechanism":
			switch o.Auth.Mechanism = strings.ToUpper(v); o.Auth.Mechanism {
			case kafkabroker.Plain, kafkabroker.ScramSHA256, kafkabroker.ScramSHA512:
			default:
				err = fmt.Errorf("%q is no way to log in: use %s, %s or %s", v, kafkabroker.Plain, kafkabroker.ScramSHA256, kafkabroker.ScramSHA512)
			}
		case "tls":
			encrypt, err = strconv.ParseBool(v)
		case "ca":
			ca, encrypt = v, true
		case "cert":
			cert, encrypt = v, true
		case "key":
			key, encrypt = v, true
		default:
			err = errors.New("it is not known: write " + kafkaForm)
		}
		if err != nil {
			return fmt.Errorf("%s of the broker: %w", name, err)
		}
	}
	if !encrypt {
		return nil
	}
	var err error
	o.TLS, err = readTLS(ca, cert, key)
	return err
}

func parseCount(v string) (int, error) {
	n, err := strconv.ParseInt(v, 10, 16)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no number from 1", v)
	}
	return int(n), nil
}

// readTLS reads the files that are named.
func readTLS(ca, cert, key string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("ca of the broker: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca of the broker: there is no certificate in PEM in %s", ca)
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("cert and key of the broker: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// redactKafka is the URL without credentials.
func redactKafka(v string) string {
	servers, o, err := parseKafka(v)
	if err != nil {
		return BrokerKafka
	}
	return kafkaScheme + servers + "/" + cmp.Or(o.Topic, kafkabroker.DefaultTopic)
}

func openKafka(ctx context.Context, spec *BrokerSpec, logger *slog.Logger) (*Destination, error) {
	servers, o, err := parseKafka(spec.URL)
	if err != nil {
		return nil, err
	}
	o.Log = logger
	broker, err := kafkabroker.Connect(ctx, servers, &o)
	if err != nil {
		return nil, err
	}
	return &Destination{Name: spec.Destination(), Publisher: broker.Publisher(), Source: broker.Source(), close: broker.Close}, nil
}

func forgetKafka(ctx context.Context, spec *BrokerSpec, subscription string, logger *slog.Logger) error {
	servers, o, err := parseKafka(spec.URL)
	if err != nil {
		return err
	}
	o.Log = logger
	return kafkabroker.Forget(ctx, servers, subscription, &o)
}

// kafka compares what was published to a Kafka cluster with the log, and changes nothing there.
func (d *doctor) kafka(ctx context.Context) {
	servers, o, err := parseKafka(d.app.Config.Broker.URL)
	if err != nil {
		d.found("broker", Fail, "%v", err)
		return
	}
	o.Log = d.logger
	state, err := kafkabroker.Inspect(ctx, servers, &o)
	if err != nil {
		d.found("broker", Fail, "%v", err)
		return
	}
	topic := cmp.Or(o.Topic, kafkabroker.DefaultTopic)
	d.publication(ctx, &publication{
		what: "topic " + topic, exists: state.Exists, known: state.Known, last: state.Last,
		own: "a topic of its own, behind the / of --broker", anew: "delete the topic " + topic + " (kafka-topics.sh --delete)",
	})
	if len(state.Differences) > 0 {
		d.found("broker", Warn, "the topic %s is configured otherwise than here: %s: pulse serve sets that right when it starts with the settings of this command",
			topic, strings.Join(state.Differences, ", "))
	}
}
