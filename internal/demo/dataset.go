package demo

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
)

// row is one line of a table, read by the place of its columns in the list given to readTable. The first value that makes no
// sense is remembered in err.
type row struct {
	table  string
	line   int // of the file, from 1
	fields []string
	at     []int // wanted column -> field
	names  []string
	err    error
}

// text returns a column, "" when it is missing.
func (r *row) text(column int) string {
	if s := r.fields[r.at[column]]; s != "?" {
		return s
	}
	return ""
}

// number returns a column as an integer; ok is false when it is missing.
func (r *row) number(column int) (n int32, ok bool) {
	s := r.text(column)
	if s == "" {
		return 0, false
	}
	v, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		r.fail("%s is %q, not a whole number", r.names[column], s)
		return 0, false
	}
	return int32(v), true
}

// required is number for a column that may not be missing.
func (r *row) required(column int) int32 {
	n, ok := r.number(column)
	if !ok {
		r.fail("%s is missing", r.names[column])
	}
	return n
}

func (r *row) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s line %d: %s", r.table, r.line, fmt.Sprintf(format, args...))
	}
}

// readTable reads a gzip CSV file of dir line by line and calls each with every row. It never holds more than one.
func readTable(dir, name string, columns []string, each func(r *row)) (err error) {
	path := filepath.Join(dir, name)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has no %s: give the directory that holds the OULAD tables as gzip CSV: %w", dir, name, err)
	} else if err != nil {
		return err
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	in := csv.NewReader(zipped)
	in.ReuseRecord = true
	r := row{table: path, names: columns}
	if r.fields, err = in.Read(); err != nil {
		return fmt.Errorf("%s: its header: %w", path, err)
	}
	if r.at, err = findColumns(r.fields, columns); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for r.err == nil {
		if r.fields, err = in.Read(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		r.line, _ = in.FieldPos(0)
		each(&r)
	}
	return r.err
}

func findColumns(header, columns []string) (at []int, err error) {
	place := make(map[string]int, len(header))
	for i, name := range header {
		place[name] = i
	}
	for _, name := range columns {
		i, ok := place[name]
		if !ok {
			return nil, fmt.Errorf("has no column %q", name)
		}
		at = append(at, i)
	}
	return at, nil
}

// undated is the day of what has no date. It comes before all days.
const undated = math.MinInt32
