package app

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

func sqliteAt(path string) Config {
	return Config{Store: StoreSpec{KindSQLite, path}, Source: "/test"}
}

// create makes a store with n events.
func create(t *testing.T, path string, n int) {
	t.Helper()
	a, err := Open(t.Context(), sqliteAt(path), OpenOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for range n {
		if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "lesson.published", Data: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenCreatesOnlyWhenAsked(t *testing.T) {
	for name, prepare := range map[string]func(){
		"no file":       func() {},
		"an empty file": func() { _ = os.WriteFile("p.db", nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			inDir(t, nil)
			prepare()
			_, err := Open(t.Context(), sqliteAt("p.db"), OpenOptions{})
			if !errors.Is(err, ErrNoStore) || !strings.Contains(err.Error(), "p.db") || !strings.Contains(err.Error(), "--store") {
				t.Fatalf("error %v", err)
			}
			if st, err := os.Stat("p.db"); err == nil && st.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a file now: %v %v", st, err)
			}
			for _, created := range []bool{true, false} {
				a, err := Open(t.Context(), sqliteAt("p.db"), OpenOptions{Create: true})
				if err != nil {
					t.Fatal(err)
				}
				if a.Created != created {
					t.Errorf("Created is %v, want %v", a.Created, created)
				}
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestOpenNamesTheSource(t *testing.T) {
	inDir(t, nil)
	create(t, "p.db", 1)
	a, err := Open(t.Context(), sqliteAt("p.db"), OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for e, err := range a.Bus.Log(t.Context(), pulse.Query{}) {
		if err != nil || e.Source != "/test" {
			t.Errorf("source %q, error %v", e.Source, err)
		}
	}
}

func TestOpenMemory(t *testing.T) {
	cfg := Config{Store: StoreSpec{Kind: KindMemory}}
	if _, err := Open(t.Context(), cfg, OpenOptions{Create: true}); !errors.Is(err, ErrConfig) {
		t.Errorf("where a file is needed: error %v", err)
	}
	a, err := Open(t.Context(), cfg, OpenOptions{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "a.b", Data: []byte(`1`)}); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	inDir(t, map[string]string{"text": strings.Repeat("not a database ", 20)})
	cfg := sqliteAt("text")
	if _, err := Open(t.Context(), cfg, OpenOptions{Create: true}); !errors.Is(err, pulse.ErrInvalid) {
		t.Errorf("a text file: error %v", err)
	}
	cfg = sqliteAt("p.db")
	cfg.Source = "no\ncontrols"
	if _, err := Open(t.Context(), cfg, OpenOptions{Create: true}); !errors.Is(err, pulse.ErrInvalid) {
		t.Errorf("a bad source: error %v", err)
	}
}

func TestOpenArmsFailpoints(t *testing.T) {
	inDir(t, nil)
	create(t, "p.db", 0)
	cfg := sqliteAt("p.db")
	var err error
	if cfg.Failpoints, err = failpoint.Parse("append.before=error"); err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), cfg, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, ok := a.Store.(pulse.Indexer); !ok {
		t.Error("the failpoints hide that the store has an index")
	}
	if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "a.b", Data: []byte(`1`)}); !errors.Is(err, failpoint.ErrInjected) {
		t.Errorf("error %v", err)
	}
}

// findings runs the doctor and returns what it found, one line each.
func findings(t *testing.T, cfg Config) string {
	t.Helper()
	var lines []string
	err := Doctor(t.Context(), cfg, OpenOptions{}, func(f Finding) error {
		lines = append(lines, string(f.Verdict)+" "+f.Check+": "+f.Detail)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func TestDoctorOnASoundStore(t *testing.T) {
	inDir(t, nil)
	create(t, "p.db", 3)
	got := findings(t, sqliteAt("p.db"))
	for _, want := range []string{"ok store: sqlite:p.db opens", "3 events", "ok space: ", "ok sequence: no gap in all 3 events", "ok subscriptions: there are none"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "fail") || strings.Contains(got, "warn") {
		t.Errorf("a sound store is blamed:\n%s", got)
	}
}

func TestDoctorWithoutAStore(t *testing.T) {
	inDir(t, map[string]string{"damaged.db": "SQLite format 3\x00" + strings.Repeat("\xff", 4096)})
	if got := findings(t, sqliteAt("none.db")); !strings.HasPrefix(got, "fail store: no store at none.db") {
		t.Errorf("no file:\n%s", got)
	}
	if got := findings(t, sqliteAt("damaged.db")); !strings.HasPrefix(got, "fail store: ") {
		t.Errorf("a damaged file:\n%s", got)
	}
	if _, err := os.Stat("none.db"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the doctor created a store")
	}
}

func TestDoctorStops(t *testing.T) {
	inDir(t, nil)
	create(t, "p.db", 1)
	full := errors.New("nobody listens")
	if err := Doctor(t.Context(), sqliteAt("p.db"), OpenOptions{}, func(Finding) error { return full }); !errors.Is(err, full) {
		t.Errorf("when nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Doctor(ctx, sqliteAt("p.db"), OpenOptions{}, func(Finding) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("when interrupted: %v", err)
	}
}
