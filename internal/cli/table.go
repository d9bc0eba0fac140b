package cli

import (
	"strings"

	"github.com/rivo/uniseg"
)

// column is one column of a table. All but the last are as wide as their widest cell, up to most.
type column struct {
	title string
	right bool // numbers
	most  int  // 0: no limit
}

// table prints rows in columns. It may be fed bit by bit: columns grow, they do not shrink.
type table struct {
	env     *environment
	columns []column
	widths  []int
	rows    [][]string
	headed  bool
}

func (env *environment) newTable(columns ...column) *table {
	t := &table{env: env, columns: columns, widths: make([]int, len(columns))}
	for i, c := range columns {
		t.widths[i] = len(c.title)
	}
	return t
}

// add takes one row, to be printed by flush.
func (t *table) add(cells ...string) {
	for i, c := range t.columns {
		cells[i] = cut(cells[i], c.most)
		t.widths[i] = max(t.widths[i], uniseg.StringWidth(cells[i]))
	}
	t.rows = append(t.rows, cells)
}

// flush prints what was added since the last flush, under the titles if they were not printed yet.
func (t *table) flush() error {
	var b strings.Builder
	if !t.headed && len(t.rows) > 0 {
		t.headed = true
		titles := make([]string, len(t.columns))
		for i, c := range t.columns {
			titles[i] = c.title
		}
		t.line(&b, titles)
	}
	for _, row := range t.rows {
		t.line(&b, row)
	}
	t.rows = t.rows[:0]
	_, err := t.env.stdout.Write([]byte(b.String()))
	return err
}

// line writes one row. The last column gets what the terminal has left.
func (t *table) line(b *strings.Builder, cells []string) {
	const gap, readable = 2, 20
	used := 0
	last := len(t.columns) - 1
	for i, c := range t.columns[:last] {
		b.WriteString(pad(cells[i], t.widths[i], c.right))
		b.WriteString(strings.Repeat(" ", gap))
		used += t.widths[i] + gap
	}
	rest := 0
	if t.env.width > 0 {
		rest = max(readable, t.env.width-used)
	}
	b.WriteString(strings.TrimRight(cut(cells[last], rest), " "))
	b.WriteByte('\n')
}
