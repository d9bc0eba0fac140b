package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseRefuses(t *testing.T) {
	for list, want := range map[string]string{
		"append.after":              "write POINT=ACTION",
		"append.middle=kill":        `no point "append.middle": there are append.before, append.after`,
		"append.after=explode":      `no action "explode": there are kill, error, panic, sleep:DURATION`,
		"append.after=":             `no action ""`,
		"append.after=kill:1s":      `no action "kill:1s"`,
		"append.after=sleep":        `"" is no duration`,
		"append.after=sleep:-1s":    `"-1s" is no duration`,
		"append.after=kill@0":       `"0" is no count`,
		"append.after=kill@x":       `"x" is no count`,
		"append.after=kill,":        "write POINT=ACTION",
		"x=kill, append.after=boom": "boom",
	} {
		t.Run(list, func(t *testing.T) {
			p, err := Parse(list)
			if err == nil || !strings.Contains(err.Error(), want) || p != nil {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
	if _, err := Parse("x=kill,append.after=boom"); !strings.Contains(err.Error(), `"x"`) || !strings.Contains(err.Error(), `"boom"`) {
		t.Errorf("not all errors at once: %v", err)
	}
}

func TestParseNothing(t *testing.T) {
	p, err := Parse("")
	if p != nil || err != nil {
		t.Errorf("got %v, %v", p, err)
	}
	if err := p.Hit(AppendAfter); err != nil {
		t.Errorf("a point that is not armed: %v", err)
	}
}

// TestHit follows what armed points do hit by hit.
func TestHit(t *testing.T) {
	for name, tc := range map[string]struct {
		list string
		want []string // for each hit of append.after
	}{
		"each hit":       {"append.after=error", []string{"error", "error"}},
		"nth hit only":   {"append.after=error@2", []string{"", "error", ""}},
		"another point":  {"append.before=error", []string{"", ""}},
		"kill":           {"append.after=kill", []string{"kill"}},
		"panic":          {"append.after=panic@2", []string{"", "panic"}},
		"sleep":          {"append.after=sleep:3ms", []string{"sleep 3ms"}},
		"both in order":  {"append.after=sleep:2ms, append.after=error", []string{"sleep 2ms error"}},
		"sleep once":     {"append.after=sleep:1h@1", []string{"sleep 1h0m0s", ""}},
		"two counts":     {"append.after=error@1,append.after=kill@2", []string{"error", "kill"}},
		"spaces allowed": {" append.after=error ", []string{"error"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse(tc.list)
			if err != nil {
				t.Fatal(err)
			}
			var did []string
			p.kill = func() { did = append(did, "kill") }
			p.sleep = func(d time.Duration) { did = append(did, "sleep "+d.String()) }
			for i, want := range tc.want {
				did = nil
				func() {
					defer func() {
						if recover() != nil {
							did = append(did, "panic")
						}
					}()
					if err := p.Hit(AppendAfter); errors.Is(err, ErrInjected) {
						did = append(did, "error")
					} else if err != nil {
						t.Errorf("error %v", err)
					}
				}()
				if got := strings.Join(did, " "); got != want {
					t.Errorf("hit %d did %q, want %q", i+1, got, want)
				}
			}
		})
	}
}

// TestKill sees this very program end by SIGKILL at the second hit.
func TestKill(t *testing.T) {
	const variable = "FAILPOINT_TEST_KILL"
	if os.Getenv(variable) != "" {
		p, err := Parse("append.after=kill@2")
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Hit(AppendAfter)
		_, _ = os.Stdout.WriteString("first hit survived\n")
		_ = p.Hit(AppendAfter)
		_, _ = os.Stdout.WriteString("second hit survived\n")
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), variable+"=1")
	out, err := cmd.Output()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatalf("the program ended with %v:\n%s", err, out)
	}
	if ws := exit.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		t.Errorf("it ended by %v", exit)
	}
	if string(out) != "first hit survived\n" {
		t.Errorf("it wrote %q", out)
	}
}

func TestNamesAreAllKnown(t *testing.T) {
	names := Names()
	for _, n := range names {
		if _, err := Parse(n + "=kill"); err != nil {
			t.Error(err)
		}
	}
	if slices.Sort(names); len(slices.Compact(names)) != len(Names()) {
		t.Errorf("a name is there twice: %v", names)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("append.after=kill@3,transact.afterHandler=sleep:1s")
	f.Add("append.after=@:=,")
	f.Fuzz(func(t *testing.T, list string) {
		p, err := Parse(list)
		if (p == nil) != (err != nil || list == "") {
			t.Errorf("%q: points %v, error %v", list, p, err)
		}
	})
}
