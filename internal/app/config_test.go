package app

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// getenv is a Getenv over a map.
func getenv(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// inDir runs the test in an empty directory with these files.
func inDir(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConfigPrecedence(t *testing.T) {
	type sources struct{ flag, variable, file string }
	for name, tc := range map[string]struct {
		sources
		want string
	}{
		"default":                  {sources{}, "sqlite:pulse.db"},
		"file":                     {sources{file: "sqlite:file.db"}, "sqlite:file.db"},
		"variable over file":       {sources{variable: "sqlite:var.db", file: "sqlite:file.db"}, "sqlite:var.db"},
		"flag over all":            {sources{"sqlite:flag.db", "sqlite:var.db", "sqlite:file.db"}, "sqlite:flag.db"},
		"flag over a bad variable": {sources{flag: "sqlite:flag.db", variable: "bad"}, "sqlite:flag.db"},
		"variable over a bad file": {sources{variable: "sqlite:var.db", file: "bad"}, "sqlite:var.db"},
	} {
		t.Run(name, func(t *testing.T) {
			files, flags := map[string]string{}, map[string]string{}
			if tc.file != "" {
				files[DefaultFile] = "store: " + tc.file + "\n"
			}
			if tc.flag != "" {
				flags["store"] = tc.flag
			}
			inDir(t, files)
			cfg, err := LoadConfig(Inputs{Flags: flags, Getenv: getenv(map[string]string{"PULSE_STORE": tc.variable})})
			if err != nil {
				t.Fatal(err)
			}
			if got := cfg.Store.String(); got != tc.want {
				t.Errorf("store is %s, want %s", got, tc.want)
			}
		})
	}
}

func TestConfigSetsEverything(t *testing.T) {
	inDir(t, map[string]string{"etc/p.yaml": `
# a comment
store: "sqlite:/var/lib/pulse/a b.db"
source: /school     # another
log-level: debug
log-format: json
`})
	cfg, err := LoadConfig(Inputs{File: "etc/p.yaml", Getenv: getenv(map[string]string{FailpointVariable: "append.after=kill"})})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Store != (StoreSpec{KindSQLite, "/var/lib/pulse/a b.db"}) || cfg.Source != "/school" ||
		cfg.LogLevel != slog.LevelDebug || cfg.LogFormat != LogJSON || cfg.Failpoints == nil {
		t.Errorf("got %+v", cfg)
	}
}

func TestConfigFileIsFound(t *testing.T) {
	inDir(t, map[string]string{
		DefaultFile: "source: /default\n",
		"var.yaml":  "source: /variable\n",
		"flag.yaml": "source: /flag\n",
	})
	for name, tc := range map[string]struct{ flag, variable, want string }{
		"default":  {"", "", "/default"},
		"variable": {"", "var.yaml", "/variable"},
		"flag":     {"flag.yaml", "var.yaml", "/flag"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := LoadConfig(Inputs{File: tc.flag, Getenv: getenv(map[string]string{ConfigVariable: tc.variable})})
			if err != nil || cfg.Source != tc.want {
				t.Errorf("source %q, error %v, want %q", cfg.Source, err, tc.want)
			}
		})
	}
}

// TestConfigErrors checks that each error says where it comes from and what to do, and that all come at once.
func TestConfigErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		in    Inputs
		vars  map[string]string
		file  string
		wants []string // one for each problem, in order
	}{
		"a flag": {
			in:    Inputs{Flags: map[string]string{"log-level": "loud"}},
			wants: []string{`flag --log-level: "loud" is no log level: use debug, info, warn or error`},
		},
		"a variable": {
			vars:  map[string]string{"PULSE_LOG_FORMAT": "xml"},
			wants: []string{`variable PULSE_LOG_FORMAT: "xml" is no log format: use text or json`},
		},
		"a named file that is not there": {
			in:    Inputs{File: "nope.yaml"},
			wants: []string{"flag --config: there is no file nope.yaml"},
		},
		"a file from a variable that is not there": {
			vars:  map[string]string{ConfigVariable: "nope.yaml"},
			wants: []string{"variable PULSE_CONFIG: there is no file nope.yaml"},
		},
		"a directory":       {in: Inputs{File: "."}, wants: []string{"flag --config: cannot read the file"}},
		"a value in a file": {file: "source: /x\nstore: mysql:x\n", wants: []string{`pulse.yaml:2: the store "mysql:x" is of no known kind`}},
		"an unknown key":    {file: "\nstroe: sqlite:x.db\n", wants: []string{`pulse.yaml:2: unknown key "stroe": known are store, source, log-level, log-format`}},
		"a key twice":       {file: "source: /a\nsource: /b\n", wants: []string{"pulse.yaml:2: source is set again, first at pulse.yaml:1"}},
		"a key without one": {file: "source:\n", wants: []string{"pulse.yaml:1: source has no value"}},
		"a list":            {file: "source:\n  - /a\n", wants: []string{"source needs one plain value"}},
		"a mapping":         {file: "source:\n  a: b\n", wants: []string{"source needs one plain value"}},
		"an anchor":         {file: "source: &a /x\n", wants: []string{"source needs one plain value"}},
		"no mapping":        {file: "just words\n", wants: []string{"pulse.yaml:1: not a list of settings"}},
		"a second document": {file: "source: /a\n---\nsource: /b\n", wants: []string{"a second document"}},
		"broken YAML":       {file: "source: /a\n  x: [\n", wants: []string{"pulse.yaml:1: not YAML"}},
		"no text":           {file: "\x00\x01", wants: []string{"pulse.yaml: is not a text file"}},
		"too long":          {file: "#" + strings.Repeat("x", maxFile), wants: []string{"pulse.yaml: 1048577 bytes are too many"}},
		"failpoints":        {vars: map[string]string{FailpointVariable: "x=kill,append.after=boom"}, wants: []string{`no point "x"`, `no action "boom"`}},
		"one error of every kind at once": {
			in:   Inputs{Flags: map[string]string{"store": "school.db"}},
			vars: map[string]string{"PULSE_LOG_LEVEL": "loud"},
			file: "colour: red\nlog-format: xml\n",
			wants: []string{
				`pulse.yaml:1: unknown key "colour"`, `flag --store: the store "school.db" does not say its kind: write sqlite:school.db`,
				"variable PULSE_LOG_LEVEL: ", "pulse.yaml:2: ",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			if tc.file != "" {
				files[DefaultFile] = tc.file
			}
			inDir(t, files)
			tc.in.Getenv = getenv(tc.vars)
			_, err := LoadConfig(tc.in)
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("error %v is no ErrConfig", err)
			}
			problems := err.(*ConfigError).Problems
			if len(problems) != len(tc.wants) {
				t.Fatalf("%d problems, want %d: %v", len(problems), len(tc.wants), err)
			}
			for i, p := range problems {
				if got := p.Where + ": " + p.What; !strings.Contains(got, tc.wants[i]) {
					t.Errorf("problem %d is %q, want %q", i, got, tc.wants[i])
				}
				if !strings.Contains(err.Error(), p.What) {
					t.Errorf("the error does not tell of %q: %v", p.What, err)
				}
			}
		})
	}
}

func TestParseStore(t *testing.T) {
	for in, want := range map[string]string{ // want is an error unless it is in
		"sqlite:pulse.db":    "sqlite:pulse.db",
		"sqlite:/a/b c:d":    "sqlite:/a/b c:d",
		"memory:":            "memory:",
		"":                   "is empty",
		"pulse.db":           "write sqlite:pulse.db",
		"sqlite:":            "has no path",
		"sqlite::memory:":    "empty each time",
		"sqlite:///a/b.db":   "is no URL",
		"memory:x":           "has no name",
		"mysql://x/y":        "of no known kind",
		"sqlite:a\x00b":      "NUL",
		"SQLITE:pulse.db":    "of no known kind",
		`sqlite:C:\pulse.db`: `sqlite:C:\pulse.db`,
	} {
		t.Run(in, func(t *testing.T) {
			spec, err := ParseStore(in)
			if in == want {
				if err != nil || spec.String() != in {
					t.Errorf("got %v, error %v", spec, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}

// FuzzConfigFile: whatever is in the file, it is read or refused with a place; nothing unknown gets through.
func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{
		"", "store: sqlite:x.db\n", "a: 1\nb: [1, {c: d}]\n", "source: |\n  x\n", "source: &a b\nstore: *a\n", "---\n...\n", "\"store\": 'x'\n",
		"source: !!str 1\n", "? store\n: x\n", "store: ~\n", "<<: {store: x}\n", "%YAML 1.2\n---\nsource: /\n", "source: 1.5\n- x\n", "\tx: y\n", "{store: x, source: y}",
	} {
		f.Add([]byte(seed))
	}
	known := map[string]bool{}
	for _, s := range Settings() {
		known[s.Name] = true
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		values, problems := parseFile("f.yaml", data)
		for name, v := range values {
			if !known[name] || v.text == "" || !strings.HasPrefix(v.where, "f.yaml") {
				t.Errorf("got %q = %+v", name, v)
			}
		}
		for _, p := range problems {
			if !strings.HasPrefix(p.Where, "f.yaml") || p.What == "" {
				t.Errorf("problem %+v", p)
			}
		}
		if len(problems) == 0 && len(values) == 0 && strings.Contains(string(data), "\nstore: x\n") && !strings.ContainsAny(string(data), "#\"'|>&*!%{[\\") {
			t.Errorf("a setting was overlooked in %q", data)
		}
	})
}
