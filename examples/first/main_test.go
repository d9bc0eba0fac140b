package main

import (
	"os"
	"strings"
	"testing"
)

// A first program works in an empty directory, and again on the file it left.
func Example() {
	home, err := os.Getwd()
	check(err)
	dir, err := os.MkdirTemp("", "pulse-first-")
	check(err)
	defer os.RemoveAll(dir)
	defer os.Chdir(home)
	check(os.Chdir(dir))
	main()
	main()
	// Output:
	// mail: a new lesson, Algebra I
	// mail: a new lesson, Algebra I
}

// The README shows this program, without its package comment, and not an older one.
func TestReadmeShowsThisProgram(t *testing.T) {
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(program), "\n")
	if !strings.HasPrefix(shown, "package main\n") {
		t.Fatalf("the package comment is not one line: %.40q", shown)
	}
	if lines := strings.Count(shown, "\n"); lines > 40 {
		t.Errorf("a first program has %d lines, 40 are enough", lines)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```go\n"+shown+"```\n") {
		t.Errorf("README.md does not contain this block:\n%s", shown)
	}
}
