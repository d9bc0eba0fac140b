package pulse_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/edupulse-live/pulse"

// floor is where a package stands: it imports packages of this module from lower floors only, and nothing beside the standard
// library, google/uuid and what else the floor allows.
type floor struct {
	level   int
	only    []string // of this module only these, "." for root; nil for all of lower floors
	modules int      // further modules; -1 for any number
	testing bool     // may import testing
}

// floors are the floors of the tree, by path or else by a path.Match pattern. A package that none matches is a mistake.
var floors = map[string]floor{
	".":              {level: 1},
	"cloudevents":    {level: 2},
	"httpapi":        {level: 2},
	"ledger":         {level: 2},
	"privacy":        {level: 2},
	"memstore":       {level: 2},
	"membroker":      {level: 2},
	"storetest":      {level: 2, testing: true},
	"brokertest":     {level: 2, testing: true},
	"pulsetest":      {level: 3, testing: true},
	"*store":         {level: 4, only: []string{".", "cloudevents"}, modules: 1},
	"*broker":        {level: 4, only: []string{".", "cloudevents"}, modules: 1},
	"natsbroker":     {level: 4, only: []string{".", "cloudevents"}, modules: 2}, // the client, and the server it can embed
	"kafkabroker":    {level: 4, only: []string{".", "cloudevents"}, modules: 3}, // the client, its administration, and the messages of the protocol
	"otelpulse":      {level: 4, only: []string{"."}, modules: 2},                // the API of OpenTelemetry is two modules
	"effects/*":      {level: 4, only: []string{"."}, modules: 1},
	"console":        {level: 5},
	"internal/app":   {level: 7, modules: -1},
	"internal/demo":  {level: 8, modules: -1},
	"internal/bench": {level: 8, modules: -1},
	"internal/cli":   {level: 10, modules: -1},
	"internal/*":     {level: 6, modules: -1},
	"cmd/*":          {level: 11},
	"examples/*":     {level: 11, only: []string{".", "cloudevents", "httpapi", "memstore", "sqlitestore", "pgstore", "natsbroker"}, modules: -1},

	"internal/kafkabench":  {level: 9, modules: -1},
	"internal/brokerworld": {level: 6, modules: -1, testing: true},
	"internal/pgtest":      {level: 6, modules: -1, testing: true},
	"internal/rabbittest":  {level: 6, modules: -1, testing: true},
}

// floorOf finds the floor of a package, by its path inside the module.
func floorOf(pkg string) (floor, bool) {
	if f, ok := floors[pkg]; ok {
		return f, true
	}
	for pattern, f := range floors {
		if ok, _ := path.Match(pattern, pkg); ok {
			return f, true
		}
	}
	return floor{}, false
}

// sources parses every package of the module that is not only tests.
func sources(t testing.TB) []*source {
	byDir := map[string]*source{}
	err := filepath.WalkDir(".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			_, nested := os.Stat(filepath.Join(name, "go.mod"))
			base := e.Name()
			if name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "node_modules" || nested == nil) {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		dir := filepath.ToSlash(filepath.Dir(name))
		if byDir[dir] == nil {
			byDir[dir] = &source{path: dir, fset: token.NewFileSet()}
		}
		s := byDir[dir]
		f, err := parser.ParseFile(s.fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		s.files = append(s.files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []*source
	for _, s := range byDir {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *source) int { return strings.Compare(a.path, b.path) })
	return all
}

// requires lists the modules that go.mod names.
func requires(t testing.TB) []string {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for _, m := range regexp.MustCompile(`(?m)^(?:require)?\s+(\S+) v\d`).FindAllSubmatch(text, -1) {
		modules = append(modules, string(m[1]))
	}
	if len(modules) == 0 {
		t.Fatal("go.mod names no modules")
	}
	return modules
}

// TestImports keeps the floors of the tree and the habits that can be read from its source.
func TestImports(t *testing.T) {
	modules := requires(t)
	names, bare := 0, []string(nil)
	for _, s := range sources(t) {
		for _, problem := range s.check(modules) {
			t.Error(problem)
		}
		if !strings.HasPrefix(s.path, "internal/") && s.files[0].Name.Name != "main" {
			n, b := s.documented(t)
			names += n
			bare = append(bare, b...)
		}
	}
	if names < 100 {
		t.Fatalf("only %d exported names were found: the test reads the wrong directory", names)
	}
	if share := 1 - float64(len(bare))/float64(names); share < 0.95 {
		t.Errorf("%.1f %% of %d exported names have a comment, 95 %% should; without one:\n%s", 100*share, names, strings.Join(bare, "\n"))
	}
}

// TestImportsRules plants a violation of each rule and sees it found.
func TestImportsRules(t *testing.T) {
	const pkg = "// Package p is documented.\npackage p\n"
	modules := []string{"modernc.org/sqlite", "github.com/nats-io/nats.go", "github.com/jackc/pgx/v5"}
	for name, tc := range map[string]struct {
		path, source string
		want         string // "" when nothing is wrong
	}{
		"root imports std and uuid":               {".", pkg + `import ("net/http"; "github.com/google/uuid")`, ""},
		"root imports a client":                   {".", pkg + `import "modernc.org/sqlite"`, "its floor allows 0 modules"},
		"root imports a store":                    {".", pkg + `import "github.com/edupulse-live/pulse/memstore"`, "only lower floors"},
		"root imports internal":                   {".", pkg + `import "github.com/edupulse-live/pulse/internal/rss"`, "only lower floors"},
		"cloudevents imports root":                {"cloudevents", pkg + `import "github.com/edupulse-live/pulse"`, ""},
		"a name that only begins like the module": {"cloudevents", pkg + `import "github.com/edupulse-live/pulsed"`, "its floor allows 0 modules"},
		"memory store imports a suite":            {"memstore", pkg + `import "github.com/edupulse-live/pulse/storetest"`, "only lower floors"},
		"suite imports testing":                   {"storetest", pkg + `import "testing/synctest"`, ""},
		"store imports testing":                   {"memstore", pkg + `import "testing"`, "imports testing"},
		"cli imports testing/fstest":              {"internal/cli", pkg + `import "testing/fstest"`, "imports testing/fstest"},
		"pulsetest imports memstore":              {"pulsetest", pkg + `import ("testing"; "github.com/edupulse-live/pulse/memstore")`, ""},
		"adapter with its client":                 {"sqlitestore", pkg + `import ("modernc.org/sqlite"; "modernc.org/sqlite/lib"; "github.com/edupulse-live/pulse/cloudevents")`, ""},
		"adapter with two clients":                {"rabbitbroker", pkg + `import ("github.com/nats-io/nats.go/jetstream"; "github.com/jackc/pgx/v5/pgxpool")`, "its floor allows 1 modules"},
		"adapter imports an adapter":              {"pgstore", pkg + `import "github.com/edupulse-live/pulse/sqlitestore"`, "only lower floors"},
		"adapter imports a memory adapter":        {"pgstore", pkg + `import "github.com/edupulse-live/pulse/memstore"`, "it may import only"},
		"adapter imports internal":                {"pgstore", pkg + `import "github.com/edupulse-live/pulse/internal/failpoint"`, "only lower floors"},
		"app imports adapters":                    {"internal/app", pkg + `import ("github.com/edupulse-live/pulse/sqlitestore"; "github.com/spf13/cobra")`, ""},
		"app imports a helper for tests":          {"internal/app", pkg + `import "github.com/edupulse-live/pulse/internal/pgtest"`, "which is for tests"},
		"app imports cli":                         {"internal/app", pkg + `import "github.com/edupulse-live/pulse/internal/cli"`, "only lower floors"},
		"cmd imports cli":                         {"cmd/pulse", pkg + `import "github.com/edupulse-live/pulse/internal/cli"`, ""},
		"cmd imports a library":                   {"cmd/pulse", pkg + `import "github.com/spf13/cobra"`, "its floor allows 0 modules"},
		"an example imports internal":             {"examples/first", pkg + `import "github.com/edupulse-live/pulse/internal/app"`, "it may import only"},
		"a package on no floor":                   {"util", pkg, "is on no floor"},
		"an import on no floor":                   {"internal/app", pkg + `import "github.com/edupulse-live/pulse/util"`, "is on no floor"},

		"no package comment": {".", "package p", "no package comment"},
		"init":               {".", pkg + "func init() {}", "func init"},
		"a method init":      {".", pkg + "type T int\nfunc (T) init() {}", ""},

		"sentinel":             {".", pkg + `var ErrX = errors.New("x")`, ""},
		"assertion":            {".", pkg + `var _ fmt.Stringer = (*T)(nil)`, ""},
		"expression":           {".", pkg + "var re = regexp.MustCompile(`x`)", ""},
		"a date":               {".", pkg + `var Forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)`, ""},
		"embedded files":       {".", pkg + "//go:embed x\nvar files embed.FS", ""},
		"table":                {".", pkg + `var names = map[string]int{"a": 1}; func f() int { return names["a"] }`, ""},
		"table as bytes":       {".", pkg + `var crlf = []byte("\r\n")`, ""},
		"exported table":       {".", pkg + `var Names = []string{"a"}`, "others can change"},
		"table with a new row": {".", pkg + `var names = map[string]int{}; func f() { names["a"] = 1 }`, "is changed here"},
		"table grown":          {".", pkg + `var names = []string{}; func f() { names = append(names, "a") }`, "is changed here"},
		"table cleared":        {".", pkg + `var names = map[string]int{}; func f() { clear(names) }`, "is changed here"},
		"field of a table":     {".", pkg + `var names = [1]struct{ n int }{}; func f() { names[0].n++ }`, "is changed here"},
		"address of a table":   {".", pkg + `var names = [1]int{}; func f() *int { return &names[0] }`, "is changed here"},
		"counter":              {".", pkg + `var calls int`, "has no value of its own"},
		"number":               {".", pkg + `var limit = 5`, "can change"},
		"function":             {".", pkg + `var now = time.Now`, "can change"},
		"another's struct":     {".", pkg + `var mu = sync.Mutex{}`, "can change"},
		"a pool":               {".", pkg + `var rooms = sync.Pool{New: func() any { return new(T) }}`, ""},
		"exported pool":        {".", pkg + `var Rooms = sync.Pool{}`, "can change"},
		"pointer":              {".", pkg + `var cache = &T{}`, "can change"},
		"made map":             {".", pkg + `var cache = make(map[string]int)`, "can change"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &source{path: tc.path, fset: token.NewFileSet()}
			f, err := parser.ParseFile(s.fset, "p.go", tc.source, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			s.files = append(s.files, f)
			got := strings.Join(s.check(modules), "\n")
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("found %q, want %q", got, tc.want)
			}
		})
	}
}

// TestImportsCountsComments sees names without a comment.
func TestImportsCountsComments(t *testing.T) {
	const text = `// Package p is documented.
package p

// A is documented.
const A = 1

// The group is documented.
const (
	B = 1
	C = 2 // and this one too
)

const D = 1

// T is documented.
type T struct{}

// M is documented.
func (T) M() {}

func (T) N() {}

func F() {}

func g() {}
`
	s := &source{path: ".", fset: token.NewFileSet()}
	f, err := parser.ParseFile(s.fset, "p.go", text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	s.files = append(s.files, f)
	names, bare := s.documented(t)
	slices.Sort(bare)
	if want := []string{".: D", ".: F", ".: T.N"}; names != 8 || !slices.Equal(bare, want) {
		t.Errorf("%d names, without a comment %q, want 8 and %q", names, bare, want)
	}
}
