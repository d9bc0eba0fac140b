package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
)

// lineReader reads lines of a bounded length.
type lineReader struct {
	r      *bufio.Reader
	max    int // bytes of one line, without its end
	number int // of the line read last, from 1
	read   int64
	buf    []byte
}

// errLineTooLong is about one line; reading may go on behind it.
var errLineTooLong = errors.New("line too long")

func newLineReader(r io.Reader, max int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 256<<10), max: max}
}

// next returns the next line without its end, valid until the next call; io.EOF when there is none. Of a line that is too long
// nothing is kept.
func (l *lineReader) next() ([]byte, error) {
	l.buf = l.buf[:0]
	long := false
	for begun := false; ; begun = true {
		part, err := l.r.ReadSlice('\n')
		l.read += int64(len(part))
		if !begun && (len(part) > 0 || err == nil) {
			l.number++
		}
		switch {
		case err == io.EOF && len(part) == 0 && !begun:
			return nil, io.EOF
		case err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
		complete := err == nil || err == io.EOF
		if err == nil {
			part = part[:len(part)-1]
		}
		if long = long || len(l.buf)+len(part) > l.max; long {
			l.buf = l.buf[:0]
		} else if complete && !begun {
			return part, nil
		} else {
			l.buf = append(l.buf, part...)
		}
		if complete && long {
			return nil, errLineTooLong
		}
		if complete {
			return l.buf, nil
		}
	}
}

// openFile opens a file to read.
func openFile(ctx context.Context, name string) (*os.File, error) {
	return openFor(ctx, name, os.O_RDONLY)
}

// openFor opens a file to read or to write. Opening a pipe waits until somebody opens its other end: until ctx ends, then what still opens
// ends with the process.
func openFor(ctx context.Context, name string, flag int) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	opened := make(chan result, 1)
	go func() {
		file, err := os.OpenFile(name, flag, 0)
		opened <- result{file, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-opened:
		return got.file, got.err
	}
}

// interruptible reads from r until ctx ends, even when r blocks: nobody may ever type what stdin waits for.
type interruptible struct {
	ctx   context.Context
	r     io.Reader
	buf   []byte
	reads chan readResult // has room for the result of a Read nobody waits for any more
}

type readResult struct {
	n   int
	err error
}

func newInterruptible(ctx context.Context, r io.Reader) *interruptible {
	return &interruptible{ctx: ctx, r: r, reads: make(chan readResult, 1)}
}

// Read is io.Reader's. After the context ended the goroutine that still reads ends with the process, or with its input.
func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	if len(i.buf) < len(p) {
		i.buf = make([]byte, len(p))
	}
	buf := i.buf[:len(p)]
	go func() {
		n, err := i.r.Read(buf)
		i.reads <- readResult{n, err}
	}()
	select {
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	case got := <-i.reads:
		return copy(p, buf[:got.n]), got.err
	}
}
