package sqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/sqlitestore"
	"github.com/edupulse-live/pulse/storetest"
)

// mountTmpfs mounts a file system of a limited size, or skips the test where this is not permitted.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("mounting a tmpfs needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A full disk is an ErrStore: nothing is stored, what was stored can be read, and with space again the same store works.
func TestFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=3m")
	path := filepath.Join(dir, "log.db")
	s := openStore(t, path)
	origin := originOf(t, s)
	var stored []pulse.Record
	var err error
	for len(stored) < 100_000 {
		recs := lessons(origin, 1+len(stored)%40)
		if err = s.Append(t.Context(), recs); err != nil {
			break
		}
		stored = append(stored, recs...)
	}
	wantError(t, err, pulse.ErrStore, "disk full", "nothing was stored")
	if errors.Is(err, pulse.ErrUnknown) {
		t.Fatalf("a full disk left the outcome open: %v", err)
	}
	err = s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error { return tx.Append(ctx, lessons(origin, 100)) })
	wantError(t, err, pulse.ErrStore, "disk full")
	wantStored(t, s, stored)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	more := lessons(origin, 50)
	appendTo(t, s, more...)
	wantStored(t, s, append(stored, more...))
	wantIntact(t, path)
}

func wantStored(t *testing.T, s pulse.Store, recs []pulse.Record) {
	t.Helper()
	envs := readAll(t, s, pulse.Query{})
	if len(envs) != len(recs) || int(info(t, s).Head) != len(recs) {
		t.Fatalf("%d events are stored and the head is %d, want %d", len(envs), info(t, s).Head, len(recs))
	}
	for i := range recs {
		if envs[i].ID != recs[i].ID {
			t.Fatalf("event %s is at %d, want %s", envs[i].ID, i+1, recs[i].ID)
		}
	}
}

// A disk without any space is said when the store is opened.
func TestOpenOnFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=64k")
	filler := make([]byte, 60<<10)
	if err := os.WriteFile(filepath.Join(dir, "filler"), filler, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log.db")
	_, err := sqlitestore.Open(t.Context(), path, nil)
	wantError(t, err, pulse.ErrStore, "disk", "full")
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, path)
	appendTo(t, s, lessons(originOf(t, s), 3)...)
}

// Where nothing can be written a store cannot be opened, and says why.
func TestReadOnlyFileSystem(t *testing.T) {
	dir := mountTmpfs(t, "size=16m")
	path := filepath.Join(dir, "log.db")
	s := openStore(t, path)
	appendTo(t, s, lessons(originOf(t, s), 3)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"log.db", "new.db"} {
		before := snapshot(t, dir)
		_, err := sqlitestore.Open(t.Context(), filepath.Join(dir, name), nil)
		wantError(t, err, pulse.ErrStore, name, "read-only")
		wantUnchanged(t, dir, before)
	}
}

// A file that may not be written, and one whose directory may not, seen by a user who is not root.
func TestReadOnlyPermissions(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("not applicable: root may write everywhere: see TestReadOnlyFileSystem")
	}
	for _, test := range []struct {
		name      string
		file, dir os.FileMode
	}{{"file", 0o400, 0o700}, {"directory", 0o600, 0o500}} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "log.db")
			if err := openStore(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Chmod(path, test.file), os.Chmod(dir, test.dir)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
			before := snapshot(t, dir)
			_, err := sqlitestore.Open(t.Context(), path, nil)
			wantError(t, err, pulse.ErrStore, "right to write")
			wantUnchanged(t, dir, before)
		})
	}
}

// childWithLimitedFile appends to the file args[0] until the operating system refuses to let it grow, and checks that this is an
// ErrUnknown: the refusal comes in COMMIT.
func childWithLimitedFile(args []string) error {
	ctx := context.Background()
	s, err := sqlitestore.Open(ctx, args[0], nil)
	if err != nil {
		return err
	}
	defer s.Close()
	now, err := s.Info(ctx)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	const limit = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: syscall.RLIM_INFINITY & (1<<63 - 1)}); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		err = s.Append(ctx, []pulse.Record{storetest.Record(now.Origin, lesson)})
		if err != nil {
			break
		}
	}
	if !errors.Is(err, pulse.ErrUnknown) || errors.Is(err, pulse.ErrStore) {
		return fmt.Errorf("the error of a COMMIT that could not be written is %w, want an ErrUnknown", err)
	}
	fmt.Println("unknown:", err)
	return nil
}

// G2: when COMMIT itself fails the outcome is unknown, and the file stays sound.
func TestFailingCommitIsUnknown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	lines := startChild(t, "limitedFile", path).succeeded()
	if len(lines) != 1 {
		t.Fatalf("the child process printed %q", lines)
	}
	wantIntact(t, path)
}
