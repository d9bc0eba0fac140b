package app

import "slices"

// DefaultListen is where serve answers HTTP unless told otherwise: only this machine can ask.
const DefaultListen = "127.0.0.1:8080"

// ServeSettings lists what only concerns commands that publish, or look at the broker. Other commands have no flags for them and take no notice of
// their values, wherever they are set.
func ServeSettings() []Setting {
	text := func(field func(*Config) *string) func(*Config, string) error {
		return func(c *Config, v string) error { *field(c) = v; return nil }
	}
	address := func(field func(*Config) *string) func(*Config, string) error {
		return func(c *Config, v string) error {
			*field(c) = v
			if v == "" {
				return nil
			}
			return parseAddress(v)
		}
	}
	nats := func(field func(*NATSSpec) *string) func(*Config) *string {
		return func(c *Config) *string { return field(&c.Broker.NATS) }
	}
	settings := []Setting{
		{"broker", "PULSE_BROKER", BrokerEmbedded, "`BROKER` to publish to: embedded, log, none, or nats://, amqp://, kafka://HOST:PORT", func(c *Config, v string) error {
			spec, err := ParseBroker(v)
			c.Broker.Kind, c.Broker.URL = spec.Kind, spec.URL
			return err
		}},
		{"listen", "PULSE_LISTEN", DefaultListen, "`ADDRESS` for /healthz, /readyz and /metrics", address(func(c *Config) *string { return &c.Listen })},
		{"nats-listen", "PULSE_NATS_LISTEN", "", "`ADDRESS` at which the embedded broker takes clients, who need a token", address(nats(func(n *NATSSpec) *string { return &n.Listen }))},
		{"nats-token", "PULSE_NATS_TOKEN", "", "`TOKEN` to log in with; with nats-listen the one clients need", text(nats(func(n *NATSSpec) *string { return &n.Token }))},
		{"nats-user", "PULSE_NATS_USER", "", "`USER` to log in as", text(nats(func(n *NATSSpec) *string { return &n.User }))},
		{"nats-password", "PULSE_NATS_PASSWORD", "", "`PASSWORD` of the user; better a variable, other users of a machine can see flags", text(nats(func(n *NATSSpec) *string { return &n.Password }))},
		{"nats-creds", "PULSE_NATS_CREDS", "", "`FILE` of credentials, a JWT with its key", text(nats(func(n *NATSSpec) *string { return &n.CredentialsFile }))},
		{"nats-nkey", "PULSE_NATS_NKEY", "", "`FILE` with the seed of an NKey", text(nats(func(n *NATSSpec) *string { return &n.NKeyFile }))},
		{"nats-ca", "PULSE_NATS_CA", "", "`FILE` of the certificates that servers are checked against", text(nats(func(n *NATSSpec) *string { return &n.CA }))},
		{"nats-cert", "PULSE_NATS_CERT", "", "`FILE` of the certificate to show to servers", text(nats(func(n *NATSSpec) *string { return &n.Cert }))},
		{"nats-key", "PULSE_NATS_KEY", "", "`FILE` of the key of that certificate", text(nats(func(n *NATSSpec) *string { return &n.KeyPEM }))},
		{"nats-stream", "PULSE_NATS_STREAM", "PULSE", "`NAME` of the stream; one for each store", func(c *Config, v string) error {
			c.Broker.NATS.Stream = v
			return parseStream(v)
		}},
		{"nats-prefix", "PULSE_NATS_PREFIX", "pulse.0", "`PREFIX` of the subjects; one for each store", func(c *Config, v string) error {
			c.Broker.NATS.Prefix = v
			return parsePrefix(v)
		}},
		{"nats-replicas", "PULSE_NATS_REPLICAS", "1", "`COPIES` of the stream in a cluster, 3 for three servers", func(c *Config, v string) (err error) {
			c.Broker.NATS.Replicas, err = parseReplicas(v)
			return err
		}},
		{"nats-max-age", "PULSE_NATS_MAX_AGE", "72h", "`AGE` at which messages leave the stream", func(c *Config, v string) (err error) {
			c.Broker.NATS.MaxAge, err = parseAge(v)
			return err
		}},
		{"nats-max-bytes", "PULSE_NATS_MAX_BYTES", "", "`SIZE` of the stream, such as 20GiB; when full it takes no more. Default: as it is", func(c *Config, v string) (err error) {
			c.Broker.NATS.MaxBytes, err = parseBytes(v)
			return err
		}},
	}
	return slices.Concat(settings, rabbitSettings(text), kafkaSettings(text))
}

// DefaultText is the default for people to read, "" when there is none.
func (s *Setting) DefaultText() string {
	if s.Default == "" {
		return ""
	}
	return " (default " + s.Default + ")"
}
