package pulse_test

import (
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
