package pulse

import (
	"context"
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
