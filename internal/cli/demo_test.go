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
	data := filepath.Join(t.TempDir(), "year")
	env, stdout, stderr := testEnvironment("")
	if code := run(t.Context(), []string{"demo", "--oulad", writeYear(t), "--rate", "0", "--data", data, "--json"}, env); code != exitOK {
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
	for name, n := range map[string]float64{"emitted": 10, "published": 0, "handled": 10, "lost": 0, "duplicates": 0, "out_of_order": 0} {
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
	env, stdout, stderr := testEnvironment("")
	env.stderrTerminal = true
	if code := run(t.Context(), []string{"demo", "--oulad", writeYear(t), "--data", t.TempDir()}, env); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if !strings.Contains(stderr.String(), "emitted 10, handled") {
		t.Errorf("no bar on stderr: %q", stderr)
	}
	for _, part := range []string{"emitted      10\n", "handled      10,", "lost         0\n", "duplicates   0\n", "out of order 0\n", "pulse log --store sqlite:"} {
		if !strings.Contains(stdout.String(), part) {
			t.Errorf("%q is missing in\n%s", part, stdout)
		}
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
	stderr.await(t, "emitted 1, handled")
	cancel(&signalError{syscall.SIGINT})
	if got := <-code; got != exitSignalBase+int(syscall.SIGINT) {
		t.Errorf("exit code %d: %s", got, stderr)
	}
	stderr.await(t, "start again with --data "+data)
	if stdout.Len() > 0 {
		t.Errorf("an interrupted year reports %s", stdout)
	}
	if code := run(t.Context(), []string{"demo", "--oulad", dataset, "--data", data}, env); code != exitOK || !strings.Contains(stdout.String(), "handled      10,") {
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
	if text := stdout.String(); !strings.Contains(text, "Try next:") || !strings.Contains(text, "pulse status --store sqlite:"+data) {
		t.Errorf("no advice at the end of\n%s", text)
	}
}
