package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

// readLines reads all lines, "!" for one that is too long, each with its number.
func readLines(t testing.TB, r io.Reader, max int) (lines []string, numbers []int) {
	t.Helper()
	for l := newLineReader(r, max); ; {
		line, err := l.next()
		switch {
		case err == io.EOF:
			return lines, numbers
		case errors.Is(err, errLineTooLong):
			line = []byte("!")
		case err != nil:
			t.Fatal(err)
		}
		lines, numbers = append(lines, string(line)), append(numbers, l.number)
	}
}

func TestLines(t *testing.T) {
	huge := strings.Repeat("x", 600<<10) // longer than the buffer
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":              {"", ""},
		"one":                  {"a\n", "a"},
		"no end":               {"a\nb", "a|b"},
		"empty lines":          {"\n\na\n\n", "||a|"},
		"exactly the most":     {strings.Repeat("y", 10) + "\nb\n", strings.Repeat("y", 10) + "|b"},
		"one byte more":        {strings.Repeat("y", 11) + "\nb\n", "!|b"},
		"huge":                 {"a\n" + huge + "\nb\n" + huge, "a|!|b|!"},
		"carriage return kept": {"a\r\nb\n", "a\r|b"},
	} {
		t.Run(name, func(t *testing.T) {
			for kind, r := range map[string]io.Reader{
				"at once": strings.NewReader(tc.in), "in halves": iotest.HalfReader(strings.NewReader(tc.in)), "with EOF": iotest.DataErrReader(strings.NewReader(tc.in)),
			} {
				lines, numbers := readLines(t, r, 10)
				if got := strings.Join(lines, "|"); got != tc.want {
					t.Errorf("%s: got %.80q, want %.80q", kind, got, tc.want)
				}
				for i, n := range numbers {
					if n != i+1 {
						t.Errorf("%s: line %d has the number %d", kind, i+1, n)
					}
				}
			}
		})
	}
}

// TestOpeningAPipeEndsWithTheContext: nobody may ever open its other end.
func TestOpeningAPipeEndsWithTheContext(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openFile(ctx, pipe); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	writer, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for who still opens it, and lets it go
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	file, err := openFile(t.Context(), pipe)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
}

func TestLinesBelowTheMostAreKept(t *testing.T) {
	long := strings.Repeat("z", 700<<10)
	lines, _ := readLines(t, strings.NewReader("a\n"+long+"\nb"), 1<<20)
	if len(lines) != 3 || lines[1] != long || lines[2] != "b" {
		t.Errorf("%d lines", len(lines))
	}
}

func TestLinesOfABrokenReader(t *testing.T) {
	broken := errors.New("cable cut")
	l := newLineReader(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)), 10)
	if line, err := l.next(); string(line) != "a" || err != nil {
		t.Errorf("first %q, error %v", line, err)
	}
	if _, err := l.next(); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\n\nbcdefghijklm\nc"), 3)
	f.Fuzz(func(t *testing.T, data []byte, max int) {
		max = 1 + (max&0xff+0x100)%0x100
		lines, _ := readLines(t, iotest.OneByteReader(bytes.NewReader(data)), max)
		want := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		if len(data) == 0 {
			want = nil
		}
		for i := range want {
			if len(want[i]) > max {
				want[i] = "!"
			}
		}
		if strings.Join(lines, "\n") != strings.Join(want, "\n") || len(lines) != len(want) {
			t.Errorf("%q read as %q", data, lines)
		}
	})
}

// TestInterruptible ends a Read that nobody feeds, and loses nothing before.
func TestInterruptible(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	defer out.Close()
	r := newInterruptible(ctx, in)
	go func() { _, _ = out.Write([]byte("hello")) }()
	buf := make([]byte, 16)
	if n, err := r.Read(buf); string(buf[:n]) != "hello" || err != nil {
		t.Fatalf("read %q, error %v", buf[:n], err)
	}
	ended := make(chan error)
	go func() {
		_, err := r.Read(buf)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := r.Read(buf); !errors.Is(err, context.Canceled) {
		t.Errorf("afterwards: error %v", err)
	}
}
