package demo

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestTallyCountsWhatWentWrong(t *testing.T) {
	secret := []byte("a secret")
	p := &plan{students: []int32{1, 2}}
	for i, who := range []int32{0, 1, 0, 1, 0} {
		p.events = append(p.events, planned{kind: kindSubmitted, line: int32(i), who: who})
	}
	h := newHasher(secret)
	ids := make([]uuid.UUID, len(p.events))
	for i := range ids {
		ids[i] = h.event(p, &p.events[i])
	}
	foreign := uuid.MustParse("0190163d-8694-739b-aea5-966c26f8ad91")
	tests := map[string]struct {
		handled                         []uuid.UUID
		different, duplicates, disorder int
	}{
		"nothing":                        {nil, 0, 0, 0},
		"as planned":                     {ids, 5, 0, 0},
		"keys mixed, each in order":      {[]uuid.UUID{ids[1], ids[3], ids[0], ids[2], ids[4]}, 5, 0, 0},
		"one twice":                      {[]uuid.UUID{ids[0], ids[1], ids[0], ids[2], ids[3], ids[4]}, 5, 1, 0},
		"one late":                       {[]uuid.UUID{ids[0], ids[4], ids[2], ids[1], ids[3]}, 5, 0, 1},
		"two late":                       {[]uuid.UUID{ids[4], ids[0], ids[2], ids[1], ids[3]}, 5, 0, 2},
		"one lost":                       {[]uuid.UUID{ids[0], ids[1], ids[3], ids[4]}, 4, 0, 0},
		"events of another year between": {[]uuid.UUID{ids[0], foreign, ids[1], foreign}, 2, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tl := newTally(p, idsOf(p, secret))
			for _, id := range tt.handled {
				tl.count(id)
			}
			if tl.handled != tt.different || tl.duplicates != tt.duplicates || tl.outOfOrder != tt.disorder {
				t.Errorf("%d handled, %d duplicates, %d out of order; want %d, %d, %d",
					tl.handled, tl.duplicates, tl.outOfOrder, tt.different, tt.duplicates, tt.disorder)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(i+1)*time.Millisecond)
	}
	for q, want := range map[float64]float64{0.5: 51, 0.99: 100, 0: 1} {
		if got := quantile(times, q); got != want {
			t.Errorf("the %g quantile of 1 … 100 ms is %g", q, got)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("the median of nothing is %g", got)
	}
}
