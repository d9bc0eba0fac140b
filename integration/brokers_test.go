package integration_test

import (
	"context"
	"flag"
	"net"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/kafkabroker"
	"github.com/edupulse-live/pulse/natsbroker"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// rabbits is the RabbitMQ server of all tests.
var rabbits rabbittest.Shared

func TestMain(m *testing.M) {
	flag.Parse()
	zerolog.SetGlobalLevel(zerolog.InfoLevel)
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait far more than they compute
		panic(err)
	}
	os.Exit(rabbits.Main(m).Run())
}

// opener connects to a broker through the network of a line, and tells the line how to look past it.
type opener func(t *testing.T, l *line) (pulse.Publisher, pulse.Source)

// overEach runs a test over a line to each of the brokers.
func overEach(t *testing.T, test func(t *testing.T, l *line)) {
	t.Helper()
	for name, open := range map[string]opener{"nats": overNATS, "rabbitmq": overRabbitMQ, "kafka": overKafka} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newLine(t, open))
		})
	}
}

func overNATS(t *testing.T, l *line) (pulse.Publisher, pulse.Source) {
	t.Helper()
	srv := newNATS(t)
	l.messages = func(t *testing.T) [][]byte { return inStream(t, srv.ClientURL()) }
	b, err := natsbroker.Connect(t.Context(), "nats://"+l.through(t, srv.Addr().String()), &natsbroker.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b.Publisher(), b.Source()
}

// newNATS starts a server with JetStream.
func newNATS(t *testing.T) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not start")
	}
	return srv
}

// inStream reads all of the stream.
func inStream(t *testing.T, url string) (messages [][]byte) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for left := int(s.CachedInfo().State.Msgs); left > 0; {
		batch, err := c.Fetch(min(left, 1000), jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			left--
			messages = append(messages, m.Data())
		}
		if err := batch.Error(); err != nil {
			t.Fatalf("%d messages before the end: %v", left, err)
		}
	}
	return messages
}

// overRabbitMQ looks at the queue of another program at the exchange.
func overRabbitMQ(t *testing.T, l *line) (pulse.Publisher, pulse.Source) {
	t.Helper()
	srv, exchange := rabbits.Server(t), rabbits.Name()
	url := srv.URLFor(rabbittest.User, rabbittest.Password, l.through(t, srv.Address()), "/")
	b, err := rabbitbroker.Connect(t.Context(), url, &rabbitbroker.Options{Exchange: exchange, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	ch, queue := foreignQueue(t, srv, exchange)
	l.messages = func(t *testing.T) [][]byte { return inQueue(t, ch, queue) }
	return b.Publisher(), b.Source()
}

// inQueue takes all out of a queue, up to a message of its own.
func inQueue(t *testing.T, ch *amqp.Channel, queue string) (messages [][]byte) {
	t.Helper()
	const last = "the last one"
	if err := ch.PublishWithContext(t.Context(), "", queue, true, false, amqp.Publishing{MessageId: last}); err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume(queue, "", true, true, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case d, ok := <-deliveries:
			switch {
			case !ok:
				t.Fatal("the queue is closed")
			case d.MessageId == last:
				return messages
			}
			messages = append(messages, d.Body)
		case <-time.After(patience):
			t.Fatalf("nothing comes after %d messages", len(messages))
		}
	}
}

// overKafka has a cluster that tells its clients the address of the proxy.
func overKafka(t *testing.T, l *line) (pulse.Publisher, pulse.Source) {
	t.Helper()
	var direct string
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		inner, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		direct = inner.Addr().String()
		told, err := net.ResolveTCPAddr(network, l.through(t, direct))
		return advertised{inner, told}, err
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	l.messages = func(t *testing.T) [][]byte { return inTopic(t, c.ListenAddrs()[0], direct) }
	b, err := kafkabroker.Connect(t.Context(), c.ListenAddrs()[0], &kafkabroker.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b.Publisher(), b.Source()
}

// advertised is a listener whose clients are told another address.
type advertised struct {
	net.Listener
	told net.Addr
}

func (a advertised) Addr() net.Addr { return a.told }

// inTopic reads what is committed to the topic, from the server that listens at the address direct.
func inTopic(t *testing.T, server, direct string) (messages [][]byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(server), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, direct)
		}),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{kafkabroker.DefaultTopic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for next, end := int64(0), int64(1); next < end; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { end = max(end, p.HighWatermark) })
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				messages = append(messages, r.Value)
			}
		})
	}
	return messages
}
