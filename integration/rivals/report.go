package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// report is what was measured.
type report struct {
	Numbers []*number `json:"numbers"`
	Checks  []check   `json:"checks"`

	live io.Writer // is told each number when it is known; nil: nobody is
}

// number is one thing measured of one contestant, once in each round.
type number struct {
	Section    string    `json:"section"`
	What       string    `json:"what"`
	Contestant string    `json:"contestant"`
	Unit       string    `json:"unit"`
	Rounds     []float64 `json:"rounds"`
	Median     float64   `json:"median"`
}

// check compares medians with what Pulse has to reach.
type check struct {
	Section string  `json:"section"`
	What    string  `json:"what"`
	Value   float64 `json:"value"`
	Bound   float64 `json:"bound"`
	AtMost  bool    `json:"at_most"`
	Reached bool    `json:"reached"`
}

// add notes what a round gave.
func (r *report) add(section, what, contestant, unit string, value float64) {
	n := r.find(section, what, contestant)
	if n == nil {
		n = &number{Section: section, What: what, Contestant: contestant, Unit: unit}
		r.Numbers = append(r.Numbers, n)
	}
	n.Rounds = append(n.Rounds, value)
	n.Median = quantile(n.Rounds, 0.5)
	if r.live != nil {
		fmt.Fprintf(r.live, "  %s, %s: %s %s\n", what, contestant, short(value), unit)
	}
}

func (r *report) find(section, what, contestant string) *number {
	i := slices.IndexFunc(r.Numbers, func(n *number) bool { return n.Section == section && n.What == what && n.Contestant == contestant })
	if i < 0 {
		return nil
	}
	return r.Numbers[i]
}

// median returns the median of what was added; it must have been.
func (r *report) median(section, what string, e entry) float64 {
	return r.find(section, what, e.name).Median
}

func (r *report) atLeast(section, what string, value, bound float64) {
	r.Checks = append(r.Checks, check{section, what, value, bound, false, value >= bound})
}

func (r *report) atMost(section, what string, value, bound float64) {
	r.Checks = append(r.Checks, check{section, what, value, bound, true, value <= bound})
}

// quantile of values by the nearest rank.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// print writes the tables for people.
func (r *report) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "section\twhat\tcontestant\tmedian\tunit\trounds")
	for _, n := range r.Numbers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t", n.Section, n.What, n.Contestant, short(n.Median), n.Unit)
		for _, v := range n.Rounds {
			fmt.Fprintf(w, "%s ", short(v))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "\nsection\tPulse\tis\tbound\t\t")
	for _, c := range r.Checks {
		sign, answer := "at least", "reached"
		if c.AtMost {
			sign = "at most"
		}
		if !c.Reached {
			answer = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s %s\t%s\t\n", c.Section, c.What, short(c.Value), sign, short(c.Bound), answer)
	}
	w.Flush()
}

func short(v float64) string {
	if v >= 100 || v <= -100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
