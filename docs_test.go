package pulse_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocsLinks follows the links between the documents, and to files.
func TestDocsLinks(t *testing.T) {
	links := 0
	for _, name := range documents(t) {
		text := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`").ReplaceAllString(read(t, name), "")
		for _, m := range regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`).FindAllStringSubmatch(text, -1) {
			target, anchor := m[1], strings.TrimPrefix(m[2], "#")
			links++
			path := name
			if target != "" {
				path = filepath.Join(filepath.Dir(name), target)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", name, target, err)
				continue
			}
			if anchor != "" && !strings.Contains(anchors(read(t, path)), "\n"+anchor+"\n") {
				t.Errorf("%s links to %s, which has no such heading", name, m[0])
			}
		}
	}
	if links < 10 {
		t.Fatalf("only %d links were found: the test reads the wrong files", links)
	}
}

// anchors lists the anchors of a document's headings, a line each.
func anchors(text string) string {
	var b strings.Builder
	b.WriteByte('\n')
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		heading := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
		b.WriteString(regexp.MustCompile(`[^\p{L}\p{N}_-]`).ReplaceAllString(heading, "") + "\n")
	}
	return b.String()
}

// TestDocsPromises finds tests for every promise in docs/guarantees.md, and a promise for every test of one. Tests of
// promise 7 are called TestG07_….
func TestDocsPromises(t *testing.T) {
	tests := map[string]bool{}
	proved := map[string]bool{}
	err := filepath.WalkDir(".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`).FindAllStringSubmatch(read(t, name), -1) {
			tests[m[1]] = true
			if g := regexp.MustCompile(`^TestG(\d\d)_`).FindStringSubmatch(m[1]); g != nil {
				proved["G"+strings.TrimPrefix(g[1], "0")] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	promised := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (G\d+) \|`).FindAllStringSubmatch(read(t, "docs/guarantees.md"), -1) {
		promised[m[1]] = true
		if !proved[m[1]] {
			t.Errorf("docs/guarantees.md promises %s, and no test is called TestG%s_…", m[1], m[1][1:])
		}
	}
	for g := range proved {
		if !promised[g] {
			t.Errorf("there are tests of %s, which docs/guarantees.md does not promise", g)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\| (G\d+) \|`).FindAllStringSubmatch(read(t, "README.md"), -1) {
		if !promised[m[1]] {
			t.Errorf("README.md promises %s, docs/guarantees.md does not", m[1])
		}
	}
	for _, name := range documents(t) {
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(read(t, name), -1) {
			if !tests[m[1]] {
				t.Errorf("%s names %s, which does not exist", name, m[1])
			}
		}
	}
}

// documents lists the documents by path.
func documents(t testing.TB) []string {
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, names...)
	}
	return all
}

func read(t testing.TB, name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
