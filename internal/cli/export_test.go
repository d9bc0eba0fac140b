package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/edupulse-live/pulse"
)

// shortReads pages one event at a time and fails at a position, or tells somebody.
type shortReads struct {
	pulse.Store
	failAfter pulse.Position
	reading   func()
}

var errUnreadable = errors.New("unreadable")

func (s *shortReads) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	if s.reading != nil {
		s.reading()
	}
	if s.failAfter > 0 && q.After >= s.failAfter {
		return pulse.Page{}, errUnreadable
	}
	q.Limit = 1
	return s.Store.Read(ctx, q)
}

// TestExportFileIsWholeOrOld: a failing export leaves the older file as it was, and nothing beside it.
func TestExportFileIsWholeOrOld(t *testing.T) {
	t.Chdir(t.TempDir())
	store := &shortReads{}
	a := openMemory(t, func(s pulse.Store) pulse.Store { store.Store = s; return store })
	if _, _, err := importAll(t.Context(), a, eventLines(1, 5)); err != nil {
		t.Fatal(err)
	}
	if n, err := exportFile(t.Context(), a, pulse.Query{}, "out"); n != 5 || err != nil {
		t.Fatalf("%d events, error %v", n, err)
	}
	old, err := os.ReadFile("out")
	if err != nil || bytes.Count(old, []byte("\n")) != 5 {
		t.Fatalf("%s, error %v", old, err)
	}
	if _, _, err := importAll(t.Context(), a, eventLines(6, 7)); err != nil {
		t.Fatal(err)
	}
	store.failAfter = 4
	store.reading = func() { // while it is written the old one is there
		if now, err := os.ReadFile("out"); err != nil || !bytes.Equal(now, old) {
			t.Error("the file is touched before the new one is complete")
		}
	}
	if _, err := exportFile(t.Context(), a, pulse.Query{}, "out"); !errors.Is(err, errUnreadable) {
		t.Errorf("error %v", err)
	}
	if now, err := os.ReadFile("out"); err != nil || !bytes.Equal(now, old) {
		t.Errorf("the old file is gone, error %v", err)
	}
	if files, err := os.ReadDir("."); err != nil || len(files) != 1 {
		t.Errorf("files are left: %v, error %v", files, err)
	}
	store.failAfter, store.reading = 0, nil
	if n, err := exportFile(t.Context(), a, pulse.Query{}, "out"); n != 7 || err != nil {
		t.Errorf("%d events, error %v", n, err)
	}
}

// TestExportEnds although each event it reads lets another one be emitted.
func TestExportEnds(t *testing.T) {
	store := &shortReads{}
	a := openMemory(t, func(s pulse.Store) pulse.Store { store.Store = s; return store })
	if _, _, err := importAll(t.Context(), a, eventLines(1, 5)); err != nil {
		t.Fatal(err)
	}
	more := 100
	store.reading = func() {
		if more--; more < 0 {
			return
		}
		if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "x.y", Data: []byte(`0`)}); err != nil {
			t.Error(err)
		}
	}
	var out strings.Builder
	if n, err := exportEvents(t.Context(), a, pulse.Query{}, &out); n != 5 || err != nil {
		t.Errorf("%d events, error %v", n, err)
	}
}

// TestExportTellsOfAFullDisk: the last write may be the one that fails.
func TestExportTellsOfAFullDisk(t *testing.T) {
	a := openMemory(t, nil)
	if _, _, err := importAll(t.Context(), a, eventLines(1, 5)); err != nil {
		t.Fatal(err)
	}
	if _, err := exportEvents(t.Context(), a, pulse.Query{}, fullDisk{}); !errors.Is(err, errUnreadable) {
		t.Errorf("error %v", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errUnreadable }

// TestExportIntoWhatIsNoFile: a pipe stays one and gets the events, and so does the file that a link leads to. A directory is refused.
func TestExportIntoWhatIsNoFile(t *testing.T) {
	t.Chdir(t.TempDir())
	a := openMemory(t, nil)
	if _, _, err := importAll(t.Context(), a, eventLines(1, 5)); err != nil {
		t.Fatal(err)
	}
	err := errors.Join(syscall.Mkfifo("pipe", 0o600), os.Mkdir("dir", 0o700), os.WriteFile("dir/file", nil, 0o600), os.Symlink("dir/file", "link"))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile("pipe", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for name, mode := range map[string]os.FileMode{"pipe": os.ModeNamedPipe, "link": os.ModeSymlink} {
		n, err := exportFile(t.Context(), a, pulse.Query{}, name)
		if info, statErr := os.Lstat(name); n != 5 || err != nil || statErr != nil || info.Mode().Type() != mode {
			t.Fatalf("%s: %d events, error %v; then it is %v, %v", name, n, err, info, statErr)
		}
	}
	whole, err := os.ReadFile("dir/file")
	if err != nil || bytes.Count(whole, []byte("\n")) != 5 {
		t.Errorf("the file has %q, %v", whole, err)
	}
	got := make([]byte, len(whole))
	if _, err := io.ReadFull(reader, got); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("the pipe got %q, %v", got, err)
	}
	if _, err := exportFile(t.Context(), a, pulse.Query{}, "dir"); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("a directory: %v", err)
	}
}
