// Command testreport reads what `go test -json` prints and prints what a person wants of it: the output of what failed at
// once, and at the end the summary of go test, one line a package. With PULSE_TEST_REQUIRE=1 in its environment a
// skipped test is a failure, as where everything a test may need has been set up. A test whose reason to skip begins with
// "not applicable: " is none: it is about an ability that what it tests does not have.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	ok, err := report(os.Stdin, os.Stdout, os.Getenv("PULSE_TEST_REQUIRE") == "1")
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// event is a line of go test -json; see go doc test2json.
type event struct {
	Time       time.Time
	Action     string
	Package    string
	ImportPath string // in place of Package, about a build
	Test       string
	Output     string
}

// name is the test the event is about, or its package.
func (e *event) name() string {
	if e.Test == "" {
		return e.Package + e.ImportPath
	}
	return e.Package + " " + e.Test
}

// run is what is known of one run of go test.
type run struct {
	out      io.Writer
	output   map[string][]string // of each test and package, by name, until it ended
	skips    []string            // tests, with the reason
	notFor   map[string]int      // tests that are not applicable, by package and reason
	summary  []string            // one line a package
	failed   bool
	tests    int
	from, to time.Time
}

// report prints the run that in describes and tells whether it passed.
func report(in io.Reader, out io.Writer, requireAll bool) (ok bool, err error) {
	r := &run{out: out, output: map[string][]string{}, notFor: map[string]int{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			r.line(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
	}
	r.finish(requireAll)
	return !r.failed, nil
}

func (r *run) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprint(r.out, line) // not an event: somebody printed past the testing package
		return
	}
	if !e.Time.IsZero() {
		if r.from.IsZero() {
			r.from = e.Time
		}
		r.to = e.Time
	}
	name := e.name()
	switch e.Action {
	case "output", "build-output":
		r.output[name] = append(r.output[name], e.Output)
	case "pass", "skip", "fail", "build-fail":
		r.ended(&e, r.output[name])
		delete(r.output, name)
	}
}

// ended notes the end of a test, of a package or of a build.
func (r *run) ended(e *event, output []string) {
	bad := e.Action == "fail" || e.Action == "build-fail"
	r.failed = r.failed || bad
	switch {
	case e.Test != "" && e.Action == "skip":
		r.skipped(e, reason(output))
	case e.Test != "":
		r.tests++
	case e.Package != "":
		output = r.takeSummary(output)
	}
	if bad {
		fmt.Fprint(r.out, strings.Join(output, ""))
	}
}

// skipped notes a test that was skipped.
func (r *run) skipped(e *event, reason string) {
	if _, why, found := strings.Cut(reason, ": not applicable: "); found {
		r.notFor[e.Package+": "+why]++
		return
	}
	r.skips = append(r.skips, e.name()+reason)
}

// takeSummary keeps the last line of a package's output for the end and returns the rest.
func (r *run) takeSummary(output []string) []string {
	isSummary := func(line string) bool {
		return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t") || strings.HasPrefix(line, "?   \t") ||
			strings.HasPrefix(line, "\t") && strings.Contains(line, "coverage:")
	}
	for i, line := range slices.Backward(output) {
		if isSummary(line) {
			r.summary = append(r.summary, line)
			return slices.Delete(output, i, i+1)
		}
	}
	return output
}

// reason is what a skipped test gave as its reason, on one line.
func reason(output []string) string {
	for _, line := range output {
		if s := strings.TrimSpace(line); s != "" && !strings.HasPrefix(s, "===") && !strings.HasPrefix(s, "---") {
			return ": " + s
		}
	}
	return ""
}

// finish prints the skips and the summary.
func (r *run) finish(requireAll bool) {
	notFor := 0
	for _, why := range slices.Sorted(maps.Keys(r.notFor)) {
		fmt.Fprintf(r.out, "== %d not applicable: %s\n", r.notFor[why], why)
		notFor += r.notFor[why]
	}
	if len(r.skips) > 0 {
		fmt.Fprintf(r.out, "== skipped:\n   %s\n", strings.Join(r.skips, "\n   "))
		if requireAll {
			r.failed = true
			fmt.Fprintln(r.out, "== a skipped test proves nothing, and PULSE_TEST_REQUIRE=1 asks for all of them: set up what it needs, see scripts/setup.sh")
		}
	}
	if len(r.summary) == 0 {
		r.failed = true
		fmt.Fprintln(r.out, "== no package was tested")
	}
	fmt.Fprintf(r.out, "== tests: %d passed or failed, %d skipped, %d not applicable, %s\n", r.tests, len(r.skips), notFor, r.to.Sub(r.from).Round(time.Second))
	fmt.Fprint(r.out, strings.Join(r.summary, ""))
	if r.failed {
		fmt.Fprintln(r.out, "FAIL")
	}
}
