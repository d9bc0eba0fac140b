package cli

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writeYear writes a dataset of three students into a directory: 10 events.
func writeYear(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		"courses":             "code_module,code_presentation,module_presentation_length\nAAA,2013J,100\n",
		"vle":                 "id_site,code_module,code_presentation,activity_type\n1,AAA,2013J,url\n",
		"assessments":         "code_module,code_presentation,id_assessment,assessment_type,date,weight\nAAA,2013J,5,TMA,19,10\n",
		"studentRegistration": "code_module,code_presentation,id_student,date_registration,date_unregistration\nAAA,2013J,7,-3,\nAAA,2013J,8,-2,\nAAA,2013J,9,?,4\n",
		"studentAssessment":   "id_assessment,id_student,date_submitted,is_banked,score\n5,7,18,0,70\n",
		"studentInfo":         "code_module,code_presentation,id_student,final_result\nAAA,2013J,7,Distinction\nAAA,2013J,8,Fail\n",
	} {
		f, err := os.Create(filepath.Join(dir, name+".csv.gz"))
		if err != nil {
			t.Fatal(err)
		}
		zipped := gzip.NewWriter(f)
		if _, err := zipped.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := zipped.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDemoYearAsJSON(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { yearAsJSON(t, 10) })
	t.Run("none", func(t *testing.T) { yearAsJSON(t, 0, "--broker", "none") })
	t.Run("nats", func(t *testing.T) { yearAsJSON(t, 10, "--broker", natsServer(t)) })
}

func yearAsJSON(t *testing.T, published float64, more ...string) {
	data := filepath.Join(t.TempDir(), "year")
	env, stdout, stderr := testEnvironment("")
	args := append([]string{"demo", "--oulad", writeYear(t), "--rate", "0", "--data", data, "--json"}, more...)
	if code := run(t.Context(), args, env); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if n := strings.Count(stdout.String(), "\n"); n != 1 || stderr.Len() > 0 {
		t.Errorf("%d lines on stdout: %s; on stderr: %s", n, stdout, stderr)
	}
	var report map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("%s: %v", stdout, err)
	}
	fields := slices.Sorted(maps.Keys(report))
	want := []string{"duplicates", "emitted", "events_per_second", "handled", "latency_ms", "lost", "out_of_order", "peak_rss_mib", "published", "seconds"}
	if !slices.Equal(fields, want) {
		t.Errorf("the fields are %v, want %v", fields, want)
	}
	for name, n := range map[string]float64{"emitted": 10, "published": published, "handled": 10, "lost": 0, "duplicates": 0, "out_of_order": 0} {
		if report[name] != n {
			t.Errorf("%s is %v, want %g", name, report[name], n)
		}
	}
	for _, name := range []string{"seconds", "events_per_second", "peak_rss_mib"} {
		if v, ok := report[name].(float64); !ok || v <= 0 {
			t.Errorf("%s is %v", name, report[name])
		}
	}
	if latency, ok := report["latency_ms"].(map[string]any); !ok || len(latency) != 2 || latency["p50"] == nil || latency["p99"] == nil {
		t.Errorf("latency_ms is %v", report["latency_ms"])
	}
}

func TestDemoYearOnATerminal(t *testing.T) {
	for broker, want := range map[string]struct {
		bar   string
		parts []string
	}{
		"embedded": {"emitted 10, published 10, handled", []string{"published    10, as the broker acknowledged\n", "handled      10 from the broker,"}},
		"none":     {"emitted 10, handled", []string{"published    0, with no broker\n", "handled      10 from the log,"}},
	} {
		t.Run(broker, func(t *testing.T) {
			env, stdout, stderr := testEnvironment("")
			env.stderrTerminal = true
			if code := run(t.Context(), []string{"demo", "--oulad", writeYear(t), "--data", t.TempDir(), "--broker", broker}, env); code != exitOK {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			if !strings.Contains(stderr.String(), want.bar) {
				t.Errorf("no bar with %q on stderr: %q", want.bar, stderr)
			}
			parts := append(want.parts, "emitted      10\n", "lost         0\n", "duplicates   0\n", "out of order 0\n", "pulse log --store sqlite:")
			for _, part := range parts {
				if !strings.Contains(stdout.String(), part) {
					t.Errorf("%q is missing in\n%s", part, stdout)
				}
			}
		})
	}
}

func TestDemoYearInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	env, stdout, _ := testEnvironment("")
	stderr := &lockedBuffer{}
	env.stderr, env.stderrTerminal = stderr, true
	dataset, data := writeYear(t), t.TempDir()
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"demo", "--oulad", dataset, "--data", data, "--rate", "2"}, env) }()
	stderr.await(t, "emitted 1, published")
	cancel(&signalError{syscall.SIGINT})
	if got := <-code; got != exitSignalBase+int(syscall.SIGINT) {
		t.Errorf("exit code %d: %s", got, stderr)
	}
	stderr.await(t, "start again with --data "+data)
	if stdout.Len() > 0 {
		t.Errorf("an interrupted year reports %s", stdout)
	}
	if code := run(t.Context(), []string{"demo", "--oulad", dataset, "--data", data}, env); code != exitOK || !strings.Contains(stdout.String(), "handled      10 from the broker,") {
		t.Errorf("going on ends with %d: %s", code, stdout)
	}
}

func TestDemoStopsWellWithCtrlC(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	env, _, stderr := testEnvironment("")
	stdout := &lockedBuffer{}
	env.stdout, env.stdoutTerminal = stdout, true
	data := filepath.Join(t.TempDir(), "demo")
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"demo", "--data", data, "--rate", "50"}, env) }()
	stdout.await(t, "\x1b[32m✓ mailer")
	cancel(&signalError{syscall.SIGINT})
	select {
	case got := <-code:
		if got != exitOK {
			t.Errorf("exit code %d: %s", got, stderr)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not stop")
	}
	text := stdout.String()
	for _, part := range []string{"⇢ published", " published, handled ", "Try next:", "pulse status --store sqlite:" + data, "pulse serve --store sqlite:" + data} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in\n%s", part, text)
		}
	}
}

// TestDemoLeavesABrokerThatOthersUse plays, and then has another command find the relay and the broker that are left.
func TestDemoLeavesABrokerThatOthersUse(t *testing.T) {
	data := t.TempDir()
	env, stdout, stderr := testEnvironment("")
	if code := run(t.Context(), []string{"demo", "--data", data, "--events", "20", "--rate", "0", "--json"}, env); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var summary struct{ Emitted, Published int }
	if err := json.Unmarshal(stdout.Bytes(), &summary); err != nil || summary.Emitted < 20 || summary.Published != summary.Emitted {
		t.Fatalf("%s: %v", stdout, err)
	}
	store := "sqlite:" + filepath.Join(data, "pulse.db")
	env, _, stderr = testEnvironment("")
	if code := run(t.Context(), []string{"republish", "--to", "nats", "--from", "beginning", "--store", store}, env); code != exitOK {
		t.Fatalf("republish: exit code %d: %s", code, stderr)
	}
}

// TestDemoRefusesOtherBrokers does not repeat what was given either: a password may be in it.
func TestDemoRefusesOtherBrokers(t *testing.T) {
	for _, broker := range []string{"mqtt://user:secret@example.org:1883", "log", ""} {
		env, _, stderr := testEnvironment("")
		if code := run(t.Context(), []string{"demo", "--data", t.TempDir(), "--events", "1", "--broker", broker}, env); code != exitUsage {
			t.Errorf("%q: exit code %d", broker, code)
		}
		if text := stderr.String(); !strings.Contains(text, "embedded") || !strings.Contains(text, "none") || strings.Contains(text, "sec") {
			t.Errorf("%q: %s", broker, text)
		}
	}
}
