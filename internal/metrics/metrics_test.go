package metrics

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
	"github.com/edupulse-live/pulse/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(rec.Body)
	if err != nil || rec.Code != 200 {
		t.Fatalf("%d, %v", rec.Code, err)
	}
	return families
}

// value finds one number; labels are pairs of name and value. ok is false when there is none.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) (v float64, ok bool) {
	for _, m := range families[name].GetMetric() {
		same := len(m.GetLabel()) == len(labels)/2
		for i := 0; i < len(labels); i += 2 {
			found := false
			for _, l := range m.GetLabel() {
				found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
			}
			same = same && found
		}
		if same {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
		}
	}
	return 0, false
}

func expect(t *testing.T, families map[string]*dto.MetricFamily, want float64, name string, labels ...string) {
	t.Helper()
	if got, ok := value(families, name, labels...); !ok || got != want {
		t.Errorf("%s%v is %v (%v), want %v", name, labels, got, ok, want)
	}
}

// fixed is a store with these states.
type fixed struct {
	states []pulse.SubscriptionState
	err    error
}

func (f *fixed) Info(context.Context) (pulse.Info, error) { return pulse.Info{Head: 100}, nil }

func (f *fixed) States(context.Context) ([]pulse.SubscriptionState, error) { return f.states, f.err }

func TestEveryNumberOfASubscription(t *testing.T) {
	states := []pulse.SubscriptionState{
		{Name: "mailer", Head: 100, Cursor: pulse.Cursor{Position: 90}, Retries: 1, Waiting: 2, Blocked: 3, Dead: 4, Holder: "host"},
		{Name: "relay/mailer", Head: 100, Cursor: pulse.Cursor{Position: 70}, PausedUntil: pulse.Forever},
		{Name: "search", Head: 100, Cursor: pulse.Cursor{Position: 101}, PausedUntil: time.Now().Add(-time.Minute)},
	}
	got := scrape(t, New(&fixed{states: states}))
	for name, want := range map[string][3]float64{
		"pulse_cursor":       {90, 70, 101},
		"pulse_lag":          {10, 30, -1},
		"pulse_retries":      {1, 0, 0},
		"pulse_waiting":      {2, 0, 0},
		"pulse_blocked_keys": {3, 0, 0},
		"pulse_dead_letters": {4, 0, 0},
		"pulse_paused":       {0, 1, 0},
		"pulse_held":         {1, 0, 0},
	} {
		expect(t, got, want[0], name, "kind", "subscription", "name", "mailer")
		expect(t, got, want[1], name, "kind", "relay", "name", "mailer")
		expect(t, got, want[2], name, "kind", "subscription", "name", "search")
		if len(got[name].GetMetric()) != 3 || got[name].GetHelp() == "" {
			t.Errorf("%s: %v", name, got[name])
		}
	}
	expect(t, got, 100, "pulse_head")
	expect(t, got, 1, "pulse_store_up")
	if _, ok := value(got, "process_start_time_seconds"); !ok {
		t.Error("there is nothing about the process")
	}
}

func TestStoreDown(t *testing.T) {
	got := scrape(t, New(&fixed{err: errors.New("disk I/O error")}))
	expect(t, got, 0, "pulse_store_up")
	if got["pulse_head"] != nil || got["pulse_lag"] != nil {
		t.Error("there are numbers nobody can know")
	}
}

func TestCount(t *testing.T) {
	broker := membroker.New(&membroker.Options{Hook: func(_ context.Context, _ string, env *pulse.Envelope) membroker.Fault {
		switch env.Position {
		case 2:
			return membroker.Refuse
		case 4:
			return membroker.Drop
		}
		return membroker.None
	}})
	m := New(memstore.New(nil))
	p := m.Count("nats", broker.Publisher("nats"))
	envs := make([]pulse.Envelope, 5)
	for i := range envs {
		envs[i].Position = pulse.Position(i + 1)
	}
	if results := p.PublishBatch(t.Context(), envs); len(results) != 5 || results[1].Outcome != pulse.Rejected {
		t.Errorf("%+v", results)
	}
	p.PublishBatch(t.Context(), envs[2:])
	if last, ok, err := p.Last(t.Context()); last.Position != 3 || !ok || err != nil || p.Capabilities().MaxBatch != 1000 {
		t.Errorf("Last is %v, %v, %v", last, ok, err)
	}
	got := scrape(t, m)
	for outcome, want := range map[string]float64{"acked": 2, "rejected": 1, "withheld": 3, "unknown": 2} {
		expect(t, got, want, "pulse_published_total", "destination", "nats", "outcome", outcome)
	}
}

// TestGuideListsMetrics: each metric is in the guide.
func TestGuideListsMetrics(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan *prometheus.Desc, 100)
	m := New(memstore.New(nil))
	m.published.Describe(out)
	newLog(memstore.New(nil)).Describe(out)
	close(out)
	for d := range out {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		if !strings.HasPrefix(name, "pulse_") || !strings.Contains(string(guide), "\n| `"+name) {
			t.Errorf("docs/guide.md has no row for %q", name)
		}
	}
}
