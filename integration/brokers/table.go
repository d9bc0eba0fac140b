package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/edupulse-live/pulse/internal/bench"
)

// rate is how many messages something does in a second.
type rate struct {
	what      string
	perSecond float64
}

// table is what was measured, for people.
type table struct {
	rows  [][3]string
	notes []string
}

// add adds a broker.
func (t *table) add(s *subject, r *bench.Relay) {
	clients := []rate{{"the client alone", r.ClientPerSecond}}
	if s.clients != nil {
		clients = s.clients()
	}
	rates := slices.Concat([]rate{{fmt.Sprintf("the relay, %d waiting events", r.Events), r.PerSecond}}, clients,
		[]rate{{"reading and encoding alone", r.ReadPerSecond}})
	for _, it := range rates {
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

// median of an odd number of measurements; of an even one, the lower of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
