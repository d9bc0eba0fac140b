package bench

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
)

// TestRabbit measures a little with RabbitMQ, and leaves nothing behind there.
func TestRabbit(t *testing.T) {
	url := rabbits.Server(t).URL()
	opts := Options{Path: filepath.Join(t.TempDir(), "bench.db"), Open: openSQLite, Rounds: 1, Time: 50 * time.Millisecond, Backlog: 2500}
	Rabbit(&opts, url)
	var queues []*rabbitQueue
	opts.Broker = func(ctx context.Context, path string) (*Broker, error) {
		r := &rabbit{url}
		b, q, err := r.place(ctx)
		if err != nil {
			return nil, err
		}
		queues = append(queues, q)
		return q.broker(b), nil
	}
	report, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	r := report.Relay
	if r.Events < 2500 || r.ClientPerSecond <= 0 || r.ReadPerSecond <= 0 || r.Ratio != r.PerSecond/min(r.ClientPerSecond, r.ReadPerSecond) {
		t.Errorf("the relay: %+v", r)
	}
	if report.Broker == nil || report.Broker.P50 <= 0 || report.Down != nil || report.Emit != nil {
		t.Errorf("the report: %+v", report)
	}
	if line := report.Lines()[1].Measure; !strings.Contains(line, "the RabbitMQ client alone") {
		t.Errorf("the line %q", line)
	}
	if len(queues) != 2 {
		t.Errorf("%d places were made, want one for each section", len(queues))
	}
	left := gone(t, url, queues)
	if left != "" {
		t.Errorf("%s was left behind", left)
	}
	opts.Only = []string{SectionDown}
	if _, err := Run(t.Context(), opts); !errors.Is(err, pulse.ErrInvalid) {
		t.Errorf("a broker elsewhere that is down: %v", err)
	}
}

// gone names what is still there of places that were removed, "" when nothing is.
func gone(t *testing.T, url string, queues []*rabbitQueue) string {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, q := range queues {
		for _, name := range []string{q.name, q.exchange + "." + LatencyName} {
			ch, err := conn.Channel()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ch.QueueDeclarePassive(name, true, false, false, false, nil); err == nil {
				return name
			}
		}
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.ExchangeDeclarePassive(q.exchange, "topic", true, false, false, false, nil); err == nil {
			return q.exchange
		}
	}
	return ""
}
