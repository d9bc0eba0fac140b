package sqlitestore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/edupulse-live/pulse"
)

// What is written to a file that has no name any more is lost with the process, so it is refused: until the file is back.
func TestMovedFile(t *testing.T) {
	away := func(path string) error { return os.Rename(path, path+".away") }
	for _, test := range []struct {
		name string
		take func(t *testing.T, path string) error
	}{
		{"moved", func(_ *testing.T, path string) error { return away(path) }},
		{"replaced", func(t *testing.T, path string) error {
			other := filepath.Join(t.TempDir(), "backup.db")
			storeFile(t, other)
			return errors.Join(away(path), os.Rename(other, path))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "school.db")
			s := openStore(t, path)
			origin := originOf(t, s)
			appendTo(t, s, lessons(origin, 3)...)
			if err := test.take(t, path); err != nil {
				t.Fatal(err)
			}
			wantError(t, s.Append(t.Context(), lessons(origin, 1)), pulse.ErrStore, path, "moved, removed or replaced", "bring it back")
			_, err := s.Read(t.Context(), pulse.Query{})
			wantError(t, err, pulse.ErrStore, "moved, removed or replaced")
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
			appendTo(t, s, lessons(origin, 1)...)
			if got := info(t, s).Head; got != 4 {
				t.Fatalf("with the file back the log ends at %d, want 4", got)
			}
		})
	}
}

// A transaction whose file goes while its function runs is not committed.
func TestFileMovedInATransaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "school.db")
	s := openStore(t, path)
	origin := originOf(t, s)
	err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		return errors.Join(tx.Append(ctx, lessons(origin, 1)), os.Rename(path, path+".away"))
	})
	wantError(t, err, pulse.ErrStore, "moved, removed or replaced")
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if got := info(t, s).Head; got != 0 {
		t.Fatalf("the log ends at %d after a transaction that failed", got)
	}
}

// A store opened by a link is where the link leads to, with all its files, and needs the link no longer.
func TestLinkedFile(t *testing.T) {
	target := filepath.Join(t.TempDir(), "school.db")
	storeFile(t, target)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, link)
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, lessons(originOf(t, s), 1)...)
	if got := info(t, openStore(t, target)).Head; got != 501 {
		t.Fatalf("the log ends at %d, want 501", got)
	}
	if left, err := filepath.Glob(link + "-*"); err != nil || len(left) > 0 {
		t.Fatalf("files beside the link: %v, %v", left, err)
	}
}
