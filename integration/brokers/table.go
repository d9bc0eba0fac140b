package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/edupulse-live/pulse/internal/bench"
)

// table is what was measured, for people.
type table struct {
	rows  [][3]string
	notes []string
}

// add adds a broker.
func (t *table) add(s *subject, r *bench.Relay) {
	for _, it := range []struct {
		what      string
		perSecond float64
	}{
		{fmt.Sprintf("the relay, %d waiting events", r.Events), r.PerSecond},
		{"the client alone", r.ClientPerSecond},
		{"reading and encoding alone", r.ReadPerSecond},
	} {
		t.rows = append(t.rows, [3]string{s.label, it.what, fmt.Sprintf("%.0f/s", it.perSecond)})
	}
	t.rows = append(t.rows, [3]string{s.label, "the relay, of the slower of its parts", fmt.Sprintf("%.2f", r.Ratio)})
}

// note adds a line below.
func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\n", row[0], row[1], row[2])
	}
	err := w.Flush()
	for _, note := range t.notes {
		fmt.Fprintln(out, note)
	}
	return err
}
