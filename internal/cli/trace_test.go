package cli

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// graph makes events; causes[i] is the index of the cause of event i, -1 for none, -2 for one that is not there.
func graph(causes ...int) []pulse.Envelope {
	id := func(i int) uuid.UUID { return uuid.UUID{15: byte(i), 14: byte(i >> 8), 0: 1} }
	envs := make([]pulse.Envelope, len(causes))
	for i, c := range causes {
		envs[i] = pulse.Envelope{ID: id(i), Position: pulse.Position(i + 1), Name: "n" + fmt.Sprint(i)}
		switch {
		case c >= 0:
			envs[i].Causation = id(c)
		case c == -2:
			envs[i].Causation = id(0xffff)
		}
	}
	return envs
}

func TestCauses(t *testing.T) {
	for name, tc := range map[string]struct {
		causes []int
		want   string // nodes by index, what they caused in parentheses
	}{
		"nothing":                    {nil, ""},
		"a chain":                    {[]int{-1, 0, 1}, "0(1(2))"},
		"two branches":               {[]int{-1, 0, 0}, "0(1 2)"},
		"two roots":                  {[]int{-1, -1, 0}, "0(2) 1"},
		"cause elsewhere":            {[]int{-2, 0}, "0(1)"},
		"cause later in the log":     {[]int{1, -1}, "1(0)"},
		"its own cause":              {[]int{0, 0}, "0(1)"},
		"a circle":                   {[]int{2, 0, 1}, "0(1(2))"},
		"a circle with a tail":       {[]int{1, 2, 1, 0}, "1(0(3) 2)"},
		"two circles":                {[]int{1, 0, 3, 2}, "0(1) 2(3)"},
		"a circle after a sound one": {[]int{-1, 0, 3, 2}, "0(1) 2(3)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := shape(causes(graph(tc.causes...))); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func shape(nodes []*traceNode) string {
	var parts []string
	for _, n := range nodes {
		s := strings.TrimPrefix(n.Name, "n")
		if len(n.Caused) > 0 {
			s += "(" + shape(n.Caused) + ")"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

// TestCausesKeepsEverything: of any graph each event is in the trees exactly once, under its cause or as a root.
func TestCausesKeepsEverything(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		parents := make([]int, r.IntN(40))
		for i := range parents {
			parents[i] = r.IntN(len(parents)+2) - 2
		}
		seen := map[string]int{}
		var walk func(nodes []*traceNode)
		walk = func(nodes []*traceNode) {
			for _, n := range nodes {
				seen[n.Name]++
				for _, c := range n.Caused {
					if *c.Causation != n.ID {
						t.Fatalf("seed %d: %s stands under %s", seed, c.Name, n.Name)
					}
				}
				walk(n.Caused)
			}
		}
		walk(causes(graph(parents...)))
		if len(seen) != len(parents) {
			t.Fatalf("seed %d: %d of %d events are shown: %v", seed, len(seen), len(parents), parents)
		}
		for name, n := range seen {
			if n != 1 {
				t.Fatalf("seed %d: %s is shown %d times: %v", seed, name, n, parents)
			}
		}
	}
}

// TestDrawLongChain draws a chain deep enough that a careless recursion or a quadratic search shows.
func TestDrawLongChain(t *testing.T) {
	const n = 2000
	chain := make([]int, n)
	for i := range chain {
		chain[i] = i - 1
	}
	var b strings.Builder
	for _, r := range causes(graph(chain...)) {
		r.draw(&b, time.Time{})
	}
	if lines := strings.Count(b.String(), "\n"); lines != n {
		t.Errorf("%d lines for %d events", lines, n)
	}
}
