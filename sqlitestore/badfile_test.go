package sqlitestore_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/sqlitestore"
)

// snapshot reads all files of a directory.
func snapshot(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// wantUnchanged ends the test if anything in dir was created, removed or written. What is in a -shm file is no matter: it is the memory
// that SQLite's processes share, made anew from the -wal file.
func wantUnchanged(t testing.TB, dir string, before map[string][]byte) {
	t.Helper()
	after := snapshot(t, dir)
	for path := range before {
		if _, ok := after[path]; ok && strings.HasSuffix(path, "-shm") {
			after[path] = before[path]
		}
	}
	if !maps.EqualFunc(before, after, bytes.Equal) {
		t.Fatalf("the directory was changed: before %v, after %v", sizes(before), sizes(after))
	}
}

func sizes(files map[string][]byte) (list []string) {
	for _, path := range slices.Sorted(maps.Keys(files)) {
		list = append(list, fmt.Sprintf("%s (%d bytes)", filepath.Base(path), len(files[path])))
	}
	return list
}

// storeFile makes a store with some hundred events and closes it.
func storeFile(t testing.TB, path string) {
	t.Helper()
	s := openStore(t, path)
	appendTo(t, s, lessons(originOf(t, s), 500)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// edit changes the bytes of a file.
func edit(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sqliteFile makes a database of another program.
func sqliteFile(t testing.TB, path, options string, statements ...string) {
	t.Helper()
	db := openRaw(t, path, options)
	for _, statement := range append([]string{"CREATE TABLE settings (name TEXT, value TEXT)"}, statements...) {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// A file that cannot be used is refused in a sentence that says why, and is left as it is, byte for byte.
func TestUnusableFiles(t *testing.T) {
	garble := func(b []byte) { copy(b, bytes.Repeat([]byte{0xa5}, len(b))) }
	for _, test := range []struct {
		name   string
		make   func(t *testing.T, path string)
		target error
		says   string
	}{
		{"text", func(t *testing.T, path string) {
			writeFile(t, path, []byte("Dear diary, this is not a database, although it is long enough to be the header of one. Really."+" It goes on."))
		}, pulse.ErrInvalid, "is not an SQLite database; nothing was changed"},
		{"a few bytes", func(t *testing.T, path string) { writeFile(t, path, []byte("SQLite format 3\x00")) }, pulse.ErrInvalid, "is not an SQLite database"},
		{
			"database of another program", func(t *testing.T, path string) { sqliteFile(t, path, "_journal_mode=DELETE") },
			pulse.ErrInvalid, "is an SQLite database, but not a Pulse store; nothing was changed",
		},
		{
			"database of another program in WAL mode", func(t *testing.T, path string) { sqliteFile(t, path, "_journal_mode=WAL") },
			pulse.ErrInvalid, "not a Pulse store",
		},
		{
			"marked by another program", func(t *testing.T, path string) {
				sqliteFile(t, path, "_journal_mode=DELETE", "PRAGMA application_id = 42")
			},
			pulse.ErrInvalid, "not a Pulse store",
		},
		{
			"database of another program that crashed", func(t *testing.T, path string) { crashed(t, path, "CREATE TABLE pupils (name TEXT)") },
			pulse.ErrInvalid, "not a Pulse store",
		},
		{"newer schema", func(t *testing.T, path string) {
			storeFile(t, path)
			sqliteExec(t, path, "PRAGMA user_version = 7")
		}, pulse.ErrInvalid, "written by a newer pulse (schema 7, this one knows 2): upgrade pulse"},
		{"damaged schema", func(t *testing.T, path string) {
			storeFile(t, path)
			edit(t, path, func(b []byte) []byte { garble(b[100:4096]); return b })
		}, pulse.ErrStore, "damaged"},
		{"damaged log", func(t *testing.T, path string) {
			storeFile(t, path)
			edit(t, path, func(b []byte) []byte { garble(b[len(b)-40*4096:]); return b })
		}, pulse.ErrStore, "damaged"},
		{"cut off", func(t *testing.T, path string) {
			storeFile(t, path)
			edit(t, path, func(b []byte) []byte { return b[:len(b)/2/4096*4096] })
		}, pulse.ErrStore, "damaged"},
		{"cut off in a page", func(t *testing.T, path string) {
			storeFile(t, path)
			edit(t, path, func(b []byte) []byte { return b[:2000] })
		}, pulse.ErrStore, "damaged"},
		{"directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, pulse.ErrInvalid, "not a regular file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "school.db")
			test.make(t, path)
			before := snapshot(t, dir)
			s, err := sqlitestore.Open(t.Context(), path, nil)
			if err == nil {
				s.Close()
			}
			wantError(t, err, test.target, path, test.says)
			wantUnchanged(t, dir, before)
		})
	}
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func sqliteExec(t testing.TB, path, statement string) {
	t.Helper()
	db := openRaw(t, path, "")
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// crashed makes the files that a program leaves which was killed after statement: what it did is in the -wal file only.
func crashed(t testing.TB, path, statement string) {
	t.Helper()
	live := filepath.Join(t.TempDir(), "live.db")
	db := openRaw(t, live, "_journal_mode=WAL")
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(live + suffix)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, path+suffix, b)
	}
}

func TestUnusablePaths(t *testing.T) {
	dir := t.TempDir()
	for path, says := range map[string]string{
		"":                                  "needs a file",
		":memory:":                          "use memstore",
		filepath.Join(dir, "no", "such.db"): "the directory does not exist: create it first",
	} {
		before := snapshot(t, dir)
		_, err := sqlitestore.Open(t.Context(), path, nil)
		wantError(t, err, pulse.ErrInvalid, says)
		wantUnchanged(t, dir, before)
	}
}

// A database without any content may become a store: a creator that was killed leaves one.
func TestBlankFilesBecomeStores(t *testing.T) {
	for name, make := range map[string]func(path string){
		"no bytes": func(path string) { writeFile(t, path, nil) },
		"blank in WAL mode": func(path string) {
			db := openRaw(t, path, "_journal_mode=WAL")
			if err := db.Ping(); err != nil {
				t.Fatal(err)
			}
			db.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log.db")
			make(path)
			s := openStore(t, path)
			appendTo(t, s, lessons(originOf(t, s), 1)...)
		})
	}
}

// Every character that a file name can have is only a character.
func TestOddPaths(t *testing.T) {
	for _, name := range []string{"a b.db", "100%.db", "what?mode=ro.db", "#1.db", "käse&brot=1.db", "x;y.db"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			s := openStore(t, name)
			appendTo(t, s, lessons(originOf(t, s), 1)...)
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Fatalf("%v; there is %v", err, sizes(snapshot(t, dir)))
			}
		})
	}
}

func TestOrigin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	open := func(opts sqlitestore.Options) (pulse.Info, error) {
		s, err := sqlitestore.Open(t.Context(), path, &opts)
		if err != nil {
			return pulse.Info{}, err
		}
		defer s.Close()
		return s.Info(t.Context())
	}
	want := pulse.Info{Origin: "school/north", Epoch: 1, MaxBytes: 1 << 20}
	for _, opts := range []sqlitestore.Options{
		{Origin: "school/north", MaxEventBytes: 1 << 20},
		{Origin: "school/north", MaxEventBytes: 5},
		{},
	} {
		if got, err := open(opts); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("opened with %+v: %+v, %v, want %+v", opts, got, err, want)
		}
	}
	_, err := open(sqlitestore.Options{Origin: "school/south"})
	wantError(t, err, pulse.ErrInvalid, `"school/north"`, `"school/south"`)
}
