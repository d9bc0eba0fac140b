package main

import (
	"strings"
	"testing"
)

// Each stream is what go test -json prints, shortened.
const (
	passes = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: all is well\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.01s\n"}
{"Action":"pass","Package":"p"}
`
	fails = `{"Action":"output","Package":"q","Test":"TestB","Output":"    b_test.go:9: lost an event\n"}
{"Action":"output","Package":"q","Test":"TestB","Output":"--- FAIL: TestB (0.00s)\n"}
{"Action":"fail","Package":"q","Test":"TestB"}
{"Action":"output","Package":"q","Output":"FAIL\n"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t0.02s\n"}
{"Action":"fail","Package":"q"}
`
	skips = `{"Action":"output","Package":"s","Test":"TestC/node","Output":"=== RUN   TestC/node\n"}
{"Action":"output","Package":"s","Test":"TestC/node","Output":"    c_test.go:4: node is not installed\n"}
{"Action":"output","Package":"s","Test":"TestC/node","Output":"--- SKIP: TestC/node (0.00s)\n"}
{"Action":"skip","Package":"s","Test":"TestC/node"}
{"Action":"output","Package":"s","Output":"ok  \ts\t0.03s\n"}
{"Action":"pass","Package":"s"}
`
	notApplicable = `{"Action":"output","Package":"n","Test":"TestE","Output":"    e_test.go:4: not applicable: the store is not durable\n"}
{"Action":"skip","Package":"n","Test":"TestE"}
{"Action":"output","Package":"n","Output":"ok  \tn\t0.03s\n"}
{"Action":"pass","Package":"n"}
`
	withoutTests = `{"Action":"output","Package":"n","Output":"?   \tn\t[no test files]\n"}
{"Action":"skip","Package":"n"}
`
	doesNotBuild = `{"ImportPath":"b [b.test]","Action":"build-output","Output":"b.go:1: undefined: x\n"}
{"ImportPath":"b [b.test]","Action":"build-fail"}
{"Action":"output","Package":"b","Output":"FAIL\tb [build failed]\n"}
{"Action":"fail","Package":"b","FailedBuild":"b [b.test]"}
`
	crashes = `{"Action":"output","Package":"c","Test":"TestD","Output":"panic: oh no\n"}
{"Action":"fail","Package":"c","Test":"TestD"}
{"Action":"output","Package":"c","Output":"FAIL\tc\t0.04s\n"}
{"Action":"fail","Package":"c"}
`
)

func TestReport(t *testing.T) {
	for name, tc := range map[string]struct {
		in      string
		require bool
		ok      bool
		want    []string // in this order
		not     string
	}{
		"a pass is one line":                {in: passes, ok: true, want: []string{"1 passed or failed, 0 skipped", "ok  \tp\t0.01s\n"}, not: "all is well"},
		"a failure shows its output":        {in: passes + fails, want: []string{"lost an event", "--- FAIL: TestB", "ok  \tp", "FAIL\tq\t0.02s\nFAIL\n"}},
		"a skip is named":                   {in: skips, ok: true, want: []string{"s TestC/node: c_test.go:4: node is not installed", "1 skipped", "ok  \ts"}},
		"a skip fails where all is needed":  {in: skips, require: true, want: []string{"s TestC/node", "a skipped test proves nothing", "FAIL\n"}},
		"not applicable is no skip":         {in: notApplicable + notApplicable, require: true, ok: true, want: []string{"== 2 not applicable: n: the store is not durable\n", "0 skipped, 2 not applicable", "ok  \tn"}},
		"no test files is no skipped test":  {in: passes + withoutTests, require: true, ok: true, want: []string{"0 skipped", "?   \tn\t[no test files]"}},
		"a build failure shows the error":   {in: doesNotBuild, want: []string{"undefined: x", "FAIL\tb [build failed]\nFAIL\n"}},
		"a crash is a failure":              {in: crashes, want: []string{"panic: oh no", "FAIL\tc"}},
		"nothing at all is a failure":       {in: "", want: []string{"no package was tested", "FAIL\n"}},
		"a line that is no event is passed": {in: "go: downloading x\n" + passes, ok: true, want: []string{"go: downloading x", "ok  \tp"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			ok, err := report(strings.NewReader(tc.in), &out, tc.require)
			if err != nil || ok != tc.ok {
				t.Errorf("report = %v, %v, want %v", ok, err, tc.ok)
			}
			rest := out.String()
			for _, want := range tc.want {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("no %q in its place in:\n%s", want, out.String())
				}
				rest = after
			}
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if last := lines[len(lines)-1]; tc.ok && !strings.Contains(last, "\t") || !tc.ok && last != "FAIL" {
				t.Errorf("the last line is %q", last)
			}
			if tc.not != "" && strings.Contains(out.String(), tc.not) {
				t.Errorf("there is %q in:\n%s", tc.not, out.String())
			}
		})
	}
}
