package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// checked runs the tests and then looks for goroutines left behind.
type checked struct{ m interface{ Run() int } }

func (c checked) Run() int {
	code := c.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// TestMain also makes the programs that scripts run: this test binary under another name.
func TestMain(m *testing.M) {
	testscript.Main(checked{postgres.Main(m)}, map[string]func(){
		"pulse": func() { os.Exit(Main()) },
		"seed":  func() { os.Exit(seed()) },
		"teach": func() { os.Exit(teach()) },
		"gen":   func() { os.Exit(gen(os.Args[1], os.Args[2])) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PULSE_STORE", "sqlite:school.db")
			return setupPostgres(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"json":     scriptJSON,
			"exitcode": scriptExitCode,
			"psql":     scriptPSQL,
		},
	})
}

// pulseProgram is the path of this binary as a pulse that tests run themselves.
func pulseProgram(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "pulse")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return link
}
