package cli

import (
	"slices"
	"strings"

	"github.com/rivo/uniseg"
)

// column is one column of a table. All but the last are as wide as their widest cell, on a terminal up to most.
type column struct {
	title string
	right bool // numbers
	most  int  // 0: no limit, and never shortened
}

// gap is what stands between columns; least and readable are how narrow a column that may be shortened and the last column become.
const (
	gap      = 2
	least    = 12
	readable = 16
)

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
		if t.env.width > 0 { // what goes elsewhere is cut by nobody
			cells[i] = cut(cells[i], c.most)
		}
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
	widths, rest := t.fit()
	last := len(t.columns) - 1
	for i, c := range t.columns[:last] {
		b.WriteString(pad(cut(cells[i], widths[i]), widths[i], c.right))
		b.WriteString(strings.Repeat(" ", gap))
	}
	b.WriteString(strings.TrimRight(cut(cells[last], rest), " "))
	b.WriteByte('\n')
}

// fit returns the widths of the columns, and of the last one what the terminal has left, 0 for no limit. Long columns are
// shortened when nothing readable would be left.
func (t *table) fit() (widths []int, rest int) {
	if t.env.width <= 0 {
		return t.widths, 0
	}
	widths = slices.Clone(t.widths)
	rest = t.env.width
	for _, w := range widths[:len(widths)-1] {
		rest -= w + gap
	}
	for rest < readable {
		widest := -1
		for i, c := range t.columns[:len(widths)-1] {
			if c.most > 0 && widths[i] > least && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		rest++
	}
	return widths, max(rest, readable)
}
