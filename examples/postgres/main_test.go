package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/edupulse-live/pulse/internal/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv("EXAMPLE_TEST") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The program emits what it commits, and nothing else.
func TestExample(t *testing.T) {
	server := pgtest.New(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "EXAMPLE_TEST=1", "DATABASE_URL="+pgtest.URL(t, server.DSN()))
	out, err := cmd.CombinedOutput()
	const want = `Algebra I: <nil>
Algebra I, again: there is such a lesson already
in the log: lesson.published {"lesson_id":"algebra-1","title":"Algebra I"}
`
	if err != nil || string(out) != want {
		t.Errorf("%v, it printed:\n%s\nwant:\n%s", err, out, want)
	}
}
