package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

// scriptJSON is the script command `json FILE [FIELD=VALUE | FIELD | !FIELD]...`: each line of the file (or of stdout, stderr) is
// an object in JSON, and the last one has these fields.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: json FILE [FIELD=VALUE | FIELD | !FIELD]...")
	}
	text := strings.TrimSuffix(ts.ReadFile(args[0]), "\n")
	if text == "" {
		ts.Fatalf("%s is empty", args[0])
	}
	var last map[string]any
	for i, line := range strings.Split(text, "\n") {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		last = nil
		if err := d.Decode(&last); err != nil || d.More() {
			ts.Fatalf("line %d of %s is no object: %v", i+1, args[0], err)
		}
	}
	for _, want := range args[1:] {
		field, value, compare := strings.Cut(want, "=")
		field, absent := strings.CutPrefix(field, "!")
		got, there := lookup(last, strings.Split(field, "."))
		switch {
		case there == absent:
			ts.Fatalf("field %s: there %v, want %v", field, there, !absent)
		case compare && got != value:
			ts.Fatalf("field %s is %s, want %s", field, got, value)
		}
	}
}

// lookup finds a field by its path; numbers in the path are indices.
func lookup(v any, path []string) (string, bool) {
	for _, step := range path {
		switch x := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = x[step]; !ok {
				return "", false
			}
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(x) {
				return "", false
			}
			v = x[i]
		default:
			return "", false
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
	return strings.Trim(strings.TrimSpace(b.String()), `"`), true
}

// scriptExitCode is the script command `exitcode CODE PROGRAM ARG...`, which sees the exit code and not only failure. The output
// goes to files named stdout and stderr.
func scriptExitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// seed fills the store of PULSE_STORE for scripts. It makes two subscriptions: "mailer", ordered, which cannot handle
// quiz.failed and has the key quiz-1 blocked by one, and "search", which panics at lesson.broken.
func seed() int {
	if err := seedStore(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// gen writes a file of n CloudEvents.
func gen(n, name string) int {
	count, err := strconv.Atoi(n)
	var b bytes.Buffer
	for i := range count {
		fmt.Fprintf(&b, `{"specversion":"1.0","id":"0190c1f2-8a3b-7cde-9f01-%012x","source":"/gen","type":"quiz.submitted","subject":"quiz-%d","data":%d}`+"\n", i, i%10, i)
	}
	if err := errors.Join(err, os.WriteFile(name, b.Bytes(), 0o600)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func seedStore(ctx context.Context) (err error) {
	cfg, err := app.LoadConfig(app.Inputs{Getenv: os.Getenv})
	if err != nil {
		return err
	}
	a, err := app.Open(ctx, cfg, app.OpenOptions{Create: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	once := pulse.Retry(pulse.RetryPolicy{Attempts: 1})
	err = errors.Join(
		a.Bus.Subscribe("mailer", pulse.Ordered(), once, pulse.Start(pulse.Beginning),
			pulse.OnDelivery(">", func(_ context.Context, d *pulse.Delivery) error {
				if d.Name == "quiz.failed" {
					return errors.New("no mail server: connection refused\ntry later")
				}
				return nil
			})),
		a.Bus.Subscribe("search", once, pulse.Start(pulse.Beginning),
			pulse.OnDelivery(">", func(_ context.Context, d *pulse.Delivery) error {
				if d.Name == "lesson.broken" {
					panic("index out of paper")
				}
				return nil
			})))
	if err != nil {
		return err
	}
	for _, ev := range []pulse.Raw{
		{Name: "lesson.published", Key: "lesson-1", Data: []byte(`{"title":"Fractions"}`)},
		{Name: "quiz.failed", Key: "quiz-1", Data: []byte(`{"points":3}`)},
		{Name: "quiz.passed", Key: "quiz-1", Data: []byte(`{"points":9}`)},
		{Name: "quiz.failed", Key: "quiz-2", Data: []byte(`{"points":4}`)},
		{Name: "lesson.broken", Data: []byte(`{}`)},
	} {
		if _, err := a.Bus.Emit(ctx, ev); err != nil {
			return err
		}
	}
	// A key behind a dead letter is not drained, so wait for what there is to come.
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Bus.Run(run) }()
	err = awaitSeed(ctx, a)
	stop()
	return errors.Join(err, <-done)
}

// awaitSeed returns when both subscriptions are through the log.
func awaitSeed(ctx context.Context, a *app.App) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for tick := time.Tick(time.Millisecond); ; <-tick {
		states, err := a.Bus.Subscriptions(ctx)
		if err != nil {
			return err
		}
		dead, lag := 0, int64(0)
		for i := range states {
			dead += states[i].Dead
			lag += states[i].Lag()
		}
		if dead == 3 && lag == 0 {
			return nil
		}
	}
}
