package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/kafkabroker"
	"github.com/edupulse-live/pulse/natsbroker"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// moved is an event that several destinations get; those of one lesson are numbered from 0.
type moved struct {
	Lesson string    `json:"lesson" pulse:"key"`
	N      int       `json:"n"`
	Phase  int       `json:"phase"` // of the test
	At     time.Time `json:"at"`    // when it was emitted
	Text   string    `json:"text"`
}

func (moved) EventName() string { return "lesson.moved" }

// place is a destination as another client sees it, one that reads past the network that can be hurt.
type place struct {
	name      string
	publisher pulse.Publisher
	pattern   string // of the route
	line             // the way of the publisher; not for Kafka

	mu      sync.Mutex
	next    map[string]int          // number of the next change of each lesson
	took    map[int][]time.Duration // from emitting to arriving for the first time, by phase
	again   int                     // changes that arrived again
	problem string                  // what must not be, the first time
}

func newPlace(name, pattern string) *place {
	return &place{name: name, pattern: pattern, next: map[string]int{}, took: map[int][]time.Duration{}}
}

// arrive notes what a client has read.
func (p *place) arrive(data []byte) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var e moved
	err := json.Unmarshal(data, &e)
	next := p.next[e.Lesson]
	switch {
	case err != nil:
		p.complain(err.Error())
	case e.N > next:
		p.complain(fmt.Sprintf("change %d of lesson %s came before %d", e.N, e.Lesson, next))
	case e.N < next:
		p.again++
	default:
		p.next[e.Lesson]++
		p.took[e.Phase] = append(p.took[e.Phase], now.Sub(e.At))
	}
}

func (p *place) complain(problem string) {
	if p.problem == "" {
		p.problem = problem
	}
}

// arrived is how long the changes of a phase took that are there.
func (p *place) arrived(phase int) []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.took[phase])
}

// inNATS is a server of NATS.
func inNATS(t *testing.T) *place {
	t.Helper()
	p, srv := newPlace("nats", "lesson.>"), newNATS(t)
	b, err := natsbroker.Connect(t.Context(), "nats://"+p.through(t, srv.Addr().String()), &natsbroker.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	p.publisher = b.Publisher()
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.OrderedConsumer(t.Context(), "PULSE", jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	reading, err := c.Consume(func(m jetstream.Msg) { p.arrive(m.Data()) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reading.Stop)
	return p
}

// inRabbit is an exchange of RabbitMQ with a queue.
func inRabbit(t *testing.T) *place {
	t.Helper()
	p, srv, exchange := newPlace("rabbit", "lesson.*"), rabbits.Server(t), rabbits.Name()
	url := srv.URLFor(rabbittest.User, rabbittest.Password, p.through(t, srv.Address()), "/")
	b, err := rabbitbroker.Connect(t.Context(), url, &rabbitbroker.Options{Exchange: exchange, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	p.publisher = b.Publisher()
	ch, queue := foreignQueue(t, srv, exchange)
	const acked, exclusive = true, true
	arriving, err := ch.ConsumeWithContext(t.Context(), queue, "", acked, exclusive, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for d := range arriving {
			p.arrive(d.Body)
		}
	}()
	return p
}

// foreignQueue is a queue of another program that gets what is said of lessons.
func foreignQueue(t *testing.T, srv *rabbittest.Server, exchange string) (*amqp.Channel, string) {
	t.Helper()
	conn, err := amqp.Dial(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	q, err := ch.QueueDeclare(exchange+".foreign", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	if err == nil {
		err = ch.QueueBind(q.Name, "lesson.#", exchange, false, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ch, q.Name
}

// inKafka is a topic of a cluster in this process. restrict sets what it takes.
func inKafka(t *testing.T) (p *place, restrict func(maxBytes string)) {
	t.Helper()
	p = newPlace("kafka", "lesson.moved")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	address := cluster.ListenAddrs()[0]
	b, err := kafkabroker.Connect(t.Context(), address, &kafkabroker.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	p.publisher = b.Publisher()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics(kafkabroker.DefaultTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	go func() {
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			fetches.EachRecord(func(r *kgo.Record) { p.arrive(r.Value) })
		}
	}()
	return p, func(maxBytes string) {
		t.Helper()
		change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &maxBytes}}
		answers, err := kadm.NewClient(client).AlterTopicConfigs(t.Context(), change, kafkabroker.DefaultTopic)
		if err == nil {
			_, err = answers.On(kafkabroker.DefaultTopic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
