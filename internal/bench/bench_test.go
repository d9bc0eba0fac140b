package bench

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/natsbroker"
	"github.com/edupulse-live/pulse/sqlitestore"
)

// rabbits is the RabbitMQ server of the tests.
var rabbits rabbittest.Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(rabbits.Main(m)) }

func openSQLite(ctx context.Context, path string) (Store, error) {
	return sqlitestore.Open(ctx, path, nil)
}

func embedNATS(ctx context.Context, path string) (*Broker, error) {
	dir := path + ".nats"
	b, err := natsbroker.Embed(ctx, dir, nil)
	if err != nil {
		return nil, err
	}
	return &Broker{Dir: dir, Publisher: b.Publisher(), Source: b.Source(), Close: b.Close}, nil
}

// TestRun measures a little of everything: each number is there, makes sense, and nothing is left behind.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	report, err := Run(t.Context(), Options{
		Path: filepath.Join(dir, "bench.db"), Open: openSQLite, Broker: embedNATS, Rounds: 1, Time: 50 * time.Millisecond, Waiting: 3000, Backlog: 2500,
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for section, names := range map[string][]string{
		SectionStart:   {"ready_ms", "binary_mib"},
		SectionEmit:    {"callers", "per_second", "raw_batch", "raw_per_second", "ratio"},
		SectionHandle:  {"events", "per_second"},
		SectionLatency: {"rate_per_second", "events", "p50_ms", "p99_ms", "max_ms"},
		SectionStalled: {"waiting", "rss_before_mib", "rss_after_mib", "normal_per_second", "stalled_per_second", "ratio"},
		SectionRelay:   {"events", "per_second", "client_per_second", "read_per_second", "ratio"},
		SectionBroker:  {"rate_per_second", "events", "p50_ms", "p99_ms", "max_ms"},
		SectionDown: {
			"waiting", "rss_before_mib", "rss_after_mib", "normal_per_second", "down_per_second", "ratio", "catch_up_seconds", "catch_up_per_second",
		},
	} {
		for _, name := range names {
			if n, _ := fields[section][name].(float64); n <= 0 {
				t.Errorf("%s.%s is %v in %s", section, name, fields[section][name], text)
			}
		}
	}
	if n := report.Stalled.Waiting; n < 3000 {
		t.Errorf("%d events waited for the stalled subscription, want 3000", n)
	}
	if e := report.Emit; e.Ratio != e.PerSecond/e.RawPerSecond {
		t.Errorf("of one round the ratio is %v of %v and %v", e.Ratio, e.PerSecond, e.RawPerSecond)
	}
	if n := report.Relay.Events; n < 2500 {
		t.Errorf("%d events waited for the relay, want 2500", n)
	}
	if r := report.Relay; r.Ratio != r.PerSecond/min(r.ClientPerSecond, r.ReadPerSecond) {
		t.Errorf("of one round the ratio is %v of %v to the slower of %v and %v", r.Ratio, r.PerSecond, r.ClientPerSecond, r.ReadPerSecond)
	}
	if n := report.Down.Waiting; n < 3000 {
		t.Errorf("%d events waited for the broker that was down, want 3000", n)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	lines := report.Lines()
	for _, section := range Sections() {
		if !slices.ContainsFunc(lines, func(l Line) bool { return l.Section == section }) {
			t.Errorf("section %s has no line for people", section)
		}
	}
	for _, line := range lines {
		if line.Value == "" || strings.Contains(line.Value, "%!") {
			t.Errorf("line %+v", line)
		}
	}
}

func TestOnlyAndKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.db")
	report, err := Run(t.Context(), Options{Path: path, Open: openSQLite, Only: []string{SectionStart}, Rounds: 1, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	if report.Start == nil || report.Emit != nil || report.Stalled != nil {
		t.Errorf("measured %+v", report)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file was not kept: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	existing := filepath.Join(t.TempDir(), "school.db")
	if err := os.WriteFile(existing, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]Options{
		"existing file":   {Path: existing, Open: openSQLite},
		"unknown section": {Path: existing + "x", Open: openSQLite, Only: []string{"speed"}},
		"less than none":  {Path: existing + "x", Open: openSQLite, Backlog: -1},
	} {
		if _, err := Run(t.Context(), opts); !errors.Is(err, pulse.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, err := os.ReadFile(existing); err != nil || string(text) != "mine" {
		t.Errorf("the file that existed: %q, %v", text, err)
	}
}

func TestBrokenOffLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	opts := Options{Path: filepath.Join(dir, "bench.db"), Open: openSQLite, Time: time.Minute}
	opts.Say = func(string, ...any) { cancel() } // after the first section
	if _, err := Run(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("broken off: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v", c.values, got)
		}
	}
}

func TestGrowthIsNotLessThanZeroByLessThanOne(t *testing.T) {
	for growth, want := range map[float64]string{-0.3: "grown by 0 MiB", -1.2: "grown by -1 MiB", 0.6: "grown by 1 MiB"} {
		r := Report{Stalled: &Stalled{RSSGrowth: growth}, Down: &Down{RSSGrowth: growth}}
		for _, line := range r.Lines() {
			if strings.Contains(line.Value, "grown") && !strings.HasSuffix(line.Value, want) {
				t.Errorf("%s %v: %q", line.Section, growth, line.Value)
			}
		}
	}
}
