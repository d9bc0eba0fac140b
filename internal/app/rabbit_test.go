package app

import (
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/health"
	"github.com/edupulse-live/pulse/internal/rabbittest"
)

// rabbit is the RabbitMQ server of the tests.
var rabbit rabbittest.Shared

func TestParseRabbit(t *testing.T) {
	for in, shown := range map[string]string{
		"amqp://host":                       "amqp://host",
		"amqp://u:secret@host:5672/school":  "amqp://host:5672/school",
		"amqps://host/a%2Fb":                "amqps://host/a%2Fb",
		"amqp://u:secret@a,amqp://b:2/":     "amqp://a,amqp://b:2/",
		"amqp://u:se%2Fcret@[::1]:1/school": "amqp://[::1]:1/school",
	} {
		s, err := ParseBroker(in)
		if err != nil || s.Kind != BrokerRabbit || s.URL != in || s.Destination() != "rabbitmq" || s.String() != shown {
			t.Errorf("%s: %+v, %q, %q, %v", in, s, s.Destination(), &s, err)
		}
	}
	for in, want := range map[string]string{
		"amqp://":                 "has no host",
		"amqp://u:secret@h:99999": "port 99999",
		"amqp://u:sec ret@h":      "cannot be read",
		"amqp://u:secret@h/a/b":   "goes on behind its virtual host",
		"amqp://u:secret@h?x=1":   "--rabbitmq-ca",
		"amqp://h,nats://h":       "nats:// does not go with",
		"amqp://h,":               "does not go with",
	} {
		_, err := ParseBroker(in)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sec") {
			t.Errorf("%q: %v, want %q and no password", in, err, want)
		}
	}
}

func TestRabbitSettings(t *testing.T) {
	cert, key := certificate(t)
	inDir(t, map[string]string{"ca.pem": cert, "cert.pem": cert, "key.pem": key})
	serve := func(vars, flags map[string]string) (Config, error) {
		return LoadConfig(Inputs{Flags: flags, Getenv: getenv(vars), Serve: true})
	}
	cfg, err := serve(map[string]string{"PULSE_RABBITMQ_USER": "school", "PULSE_RABBITMQ_PASSWORD": "secret"},
		map[string]string{"broker": "amqps://host", "rabbitmq-ca": "ca.pem", "rabbitmq-cert": "cert.pem", "rabbitmq-key": "key.pem", "rabbitmq-exchange": "lessons", "rabbitmq-max-bytes": "1MiB"})
	o := cfg.Broker.Rabbit.options(nil)
	if err != nil || o.User != "school" || o.Password != "secret" || o.TLS == nil || o.TLS.RootCAs == nil || len(o.TLS.Certificates) != 1 || o.Exchange != "lessons" || o.MaxBytes != 1<<20 {
		t.Errorf("%+v, %v", o, err)
	}
	for want, flags := range map[string]map[string]string{
		"is for RabbitMQ: the broker is embedded": {"rabbitmq-user": "school"},
		"is another way to log in":                {"broker": "amqp://u:p@host", "rabbitmq-user": "school"},
		"has no rabbitmq-user":                    {"broker": "amqp://host", "rabbitmq-password": "secret"},
		"write amqps://":                          {"broker": "amqp://host", "rabbitmq-ca": "ca.pem"},
		"has no rabbitmq-key":                     {"broker": "amqps://host", "rabbitmq-cert": "cert.pem"},
		"there is no certificate":                 {"broker": "amqps://host", "rabbitmq-ca": "key.pem"},
		"is no name of an exchange":               {"broker": "amqp://host", "rabbitmq-exchange": "a b"},
		"is for a NATS server":                    {"broker": "amqp://host", "nats-user": "school"},
	} {
		if _, err := serve(nil, flags); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v, want %q", flags, err, want)
		}
	}
}

// says is what the doctor finds at the broker and of the destination.
func (s *serving) says(t *testing.T) (said string) {
	t.Helper()
	cfg := s.cfg
	cfg.Source = "/"
	err := Doctor(t.Context(), cfg, OpenOptions{Logger: slog.New(slog.DiscardHandler)}, func(f Finding) error {
		if f.Check == "broker" || strings.HasPrefix(f.Check, "destination") {
			said += string(f.Verdict) + " " + f.Check + ": " + f.Detail + "\n"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// Who cannot get in is told why, by those who are ready and by the doctor, in words that say what to do. The events wait in the log, and
// are published once somebody is let in.
func TestServeIsNotLetIn(t *testing.T) {
	srv := rabbit.Server(t)
	for name, tc := range map[string]struct{ url, want string }{
		"wrong password":       {srv.URLFor(rabbittest.User, "secret", srv.Address(), "/"), "when the server does not let a user in: check user and password"},
		"unknown virtual host": {srv.URLFor(rabbittest.User, rabbittest.Password, srv.Address(), "nowhere"), "the virtual host is not there, or not for this user"},
		"no right":             {srv.URLFor(rabbittest.Stranger, rabbittest.Password, srv.Address(), "/"), "the user lacks a right: grant it by rabbitmqctl set_permissions"},
		"nobody there":         {"amqp://127.0.0.1:1", "nobody listens there: check the address"},
	} {
		t.Run(name, func(t *testing.T) {
			store := StoreSpec{KindSQLite, filepath.Join(t.TempDir(), "school.db")}
			cfg := Config{Store: store, Broker: BrokerSpec{Kind: BrokerRabbit, URL: tc.url}}
			cfg.Broker.Rabbit.Exchange = rabbit.Name()
			s := serve(t, cfg, ServeOptions{})
			s.emit(t, 3)
			s.awaitState(t, 503, health.Connecting, tc.want)
			if said := s.says(t); name != "no right" && !strings.Contains(said, tc.want) { // a doctor looks only
				t.Errorf("the doctor says\n%s", said)
			}
			if err := s.end(); err != nil {
				t.Error(err)
			}
			if log := s.log.String(); strings.Contains(log, "secret") {
				t.Errorf("the log tells the password:\n%s", log)
			}
			cfg.Broker.URL = srv.URL()
			s = serve(t, cfg, ServeOptions{})
			s.await(t, "publishing", func() bool {
				code, d := s.ready(t)
				return code == 200 && d.Lag == 0 && d.Cursor == pulse.Position(3) && d.Parked == 0
			})
			if said := s.says(t); !strings.Contains(said, "ok broker: RabbitMQ") || !strings.Contains(said, "it cannot tell what was published last") {
				t.Errorf("the doctor says\n%s", said)
			}
			if _, body := s.get(t, "/metrics"); !strings.Contains(body, `pulse_unrouted_total{destination="rabbitmq"} 3`) {
				t.Errorf("nobody listened, and the metrics are\n%s", body)
			}
		})
	}
}

// A queue that is full: events wait in the log and those who ask are told. When there is room again all come, for the first time in order.
func TestServeToAFullQueue(t *testing.T) {
	srv := rabbit.Server(t)
	cfg := Config{Broker: BrokerSpec{Kind: BrokerRabbit, URL: srv.URL()}}
	cfg.Broker.Rabbit.Exchange = rabbit.Name()
	s := serve(t, cfg, ServeOptions{})
	s.awaitState(t, 200, health.Running, "")
	conn, err := amqp.Dial(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	const most = 3
	q, err := ch.QueueDeclare(cfg.Broker.Rabbit.Exchange+".small", true, false, false, false, amqp.Table{
		"x-queue-type": "quorum", "x-max-length": most, "x-overflow": "reject-publish",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(q.Name, "#", cfg.Broker.Rabbit.Exchange, false, nil); err != nil {
		t.Fatal(err)
	}
	all := 0
	s.await(t, "a full queue", func() bool { // which takes some more than its limit when they come at once
		code, d := s.ready(t)
		if code == 200 && d.Lag == 0 {
			s.emit(t, most)
			all += most
		}
		return code == 503 && d.State == health.Broken && strings.Contains(d.Reason, "a queue refuses the message for now")
	})
	if said := s.says(t); !strings.Contains(said, "a queue refuses the message for now") || !strings.Contains(said, "reject-publish") {
		t.Errorf("the doctor says\n%s", said)
	}
	next := 1
	s.await(t, "all events", func() bool {
		d, ok, err := ch.Get(q.Name, true)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			position, _ := d.Headers["cloudEvents_position"].(string)
			switch n, err := strconv.Atoi(position); {
			case err != nil || n > next:
				t.Fatalf("position %s came when %d was next: %v", position, next, err)
			case n == next:
				next++
			}
		}
		return next > all
	})
	s.awaitState(t, 200, health.Running, "")
}
