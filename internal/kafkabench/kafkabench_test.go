package kafkabench

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/internal/bench"
	"github.com/edupulse-live/pulse/sqlitestore"
)

func newCluster(t *testing.T, opts ...kfake.Opt) *cluster {
	t.Helper()
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &cluster{servers: c.ListenAddrs()[0]}
}

// TestMeasure measures a little, and leaves nothing behind. It logs in.
func TestMeasure(t *testing.T) {
	c := newCluster(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "school", "secret"))
	c.user, c.password = "school", "secret"
	opts := bench.Options{
		Path:   filepath.Join(t.TempDir(), "bench.db"),
		Open:   func(ctx context.Context, path string) (bench.Store, error) { return sqlitestore.Open(ctx, path, nil) },
		Rounds: 1, Time: 50 * time.Millisecond, Backlog: 2500,
	}
	Measure(&opts, c.servers, c.user, c.password)
	report, err := bench.Run(t.Context(), opts)
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
	if line := report.Lines()[1].Measure; !strings.Contains(line, "the Kafka client alone") {
		t.Errorf("the line %q", line)
	}
	client, err := kgo.NewClient(c.options()...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(t.Context())
	if err != nil || len(topics) > 0 {
		t.Errorf("%v, and the topics left behind: %v", err, topics.Names())
	}
	groups, err := admin.ListGroups(t.Context())
	if err != nil || len(groups) > 0 {
		t.Errorf("%v, and the groups left behind: %v", err, groups.Groups())
	}
}

// TestProducer reads what the client says to have published: whole transactions, a part of one, and less than one.
func TestProducer(t *testing.T) {
	for _, transactional := range []bool{false, true} {
		for _, n := range []int{2*inTransaction + 500, 3} {
			t.Run(fmt.Sprintf("%d, transactional %t", n, transactional), func(t *testing.T) {
				const name = "lessons"
				c := newCluster(t, kfake.SeedTopics(1, name))
				p, err := (&topic{c, name}).producer(t.Context(), transactional)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				var envs []pulse.Envelope
				for i := range 7 {
					envs = append(envs, brokertest.Envelope(pulse.Position(i+1), func(*pulse.Envelope) {}))
				}
				records, err := recordsOf(envs, n)
				if err != nil {
					t.Fatal(err)
				}
				publish, first := p.publish, 1 // behind the record that warms up
				if transactional {
					publish, first = p.transact, 0 // which is not there
				}
				if err := publish(t.Context(), records); err != nil {
					t.Fatal(err)
				}
				for i, r := range committed(t, c, name, first+n)[first:] {
					want := &envs[i%len(envs)]
					if string(r.Key) != want.Key || !bytes.Equal(r.Value, want.Data) || len(r.Headers) < 5 {
						t.Fatalf("record %d is %s with %v and %s", i, r.Key, r.Headers, r.Value)
					}
				}
			})
		}
	}
}

// committed reads n records that are committed, and makes sure that there are no more.
func committed(t *testing.T, c *cluster, name string, n int) (records []*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.servers), kgo.ConsumeTopics(name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	end := &kgo.Record{Topic: name, Value: []byte("the end")}
	if err := client.ProduceSync(t.Context(), end).FirstErr(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%v after %d records", err, len(records))
		}
		for _, r := range fetches.Records() {
			if string(r.Value) != string(end.Value) {
				records = append(records, r)
				continue
			}
			if len(records) != n {
				t.Fatalf("%d records are committed, not %d", len(records), n)
			}
			return records
		}
	}
}
