package pulse

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestNoBatchOvertakesAnother: the next batch of an ordered subscription leaves only when the one before is booked, and with
// it what may no longer be handled. Others need not wait.
func TestNoBatchOvertakesAnother(t *testing.T) {
	batch := func(context.Context, []Delivery) error { return nil }
	for _, c := range []struct {
		name    string
		ordered bool
		route   route
		want    int // deliveries handed out beside a running one
	}{
		{"ordered batches", true, route{pattern: ">", batch: batch, max: 10}, 0},
		{"unordered batches", false, route{pattern: ">", batch: batch, max: 10}, 3},
		{"ordered deliveries", true, route{pattern: ">", handle: func(context.Context, *Delivery) error { return nil }}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := &subscription{ordered: c.ordered, routes: []route{c.route}, concurrency: 4}
			s := newSession(&runner{sub: sub}, Lease{}, Cursor{})
			s.ready = []*item{{}, {}, {}}
			running := &item{}
			s.running[running] = struct{}{}
			if work, items := s.next(); work != nil != (c.want > 0) || len(items) != c.want {
				t.Errorf("beside a running one %d are handed out, want %d", len(items), c.want)
			}
			delete(s.running, running)
			if work, items := s.next(); work == nil || len(items) == 0 {
				t.Error("with nothing running nothing is handed out")
			}
		})
	}
}

// TestAnsweredKeepsTheOrderOfKeys: what a publisher answers becomes nothing that lets a later event of a key be published before an
// earlier one, also when the publisher breaks its contract.
func TestAnsweredKeepsTheOrderOfKeys(t *testing.T) {
	const u, a, r, w = Unknown, Acked, Rejected, Withheld
	for _, c := range []struct {
		name    string
		keys    string // of one letter each; "-" for none
		answers []Outcome
		want    string // of each: handled, parked, behind, again
	}{
		{"all there", "aab", []Outcome{a, a, a}, "hhh"},
		{"refused, a follower withheld", "aab", []Outcome{r, w, a}, "pbh"},
		{"unknown before refused", "aaab", []Outcome{u, r, w, a}, "gggh"},
		{"unknown before refused in another key", "baa", []Outcome{u, r, w}, "gpb"},
		{"unknown behind refused", "aaa", []Outcome{r, u, w}, "pgg"},
		{"withheld behind nothing", "aba", []Outcome{a, r, w}, "hpg"},
		{"no key follows none", "----", []Outcome{r, w, u, r}, "pggp"},
	} {
		t.Run(c.name, func(t *testing.T) {
			items := make([]*item, len(c.answers))
			answers := make([]Result, len(c.answers))
			for i, o := range c.answers {
				items[i] = &item{env: Envelope{Key: strings.Trim(c.keys[i:i+1], "-")}}
				answers[i] = Result{Outcome: o, Err: errors.New("why")}
			}
			got := ""
			for _, r := range answered(items, answers) {
				_, dead := errors.AsType[*parked](r.err)
				switch {
				case dead:
					got += "p"
				case isUnavailable(r.err):
					got += "g"
				case r.behind:
					got += "b"
				default:
					got += "h"
				}
			}
			if got != c.want {
				t.Errorf("became %s, want %s", got, c.want)
			}
		})
	}
}
