package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

func newTraceCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "trace CORRELATION",
		Short: "Show what led to what",
		Long: `Trace shows all events of one correlation as a tree: under each event are those emitted by its handling.
An event whose cause is not in the log stands at the left. Times count from the first event.

The correlation of an event that was not given one is its own id. With --json the answer is one object; events
have the fields of log --json and, under "caused", what they led to.`,
		Example: `  pulse trace order-1042
  pulse trace 0190c1f2-8a3b-7cde-9f01-23456789abcd --json`,
		Args: positional("CORRELATION, as log --json shows it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.with(cmd, func(ctx context.Context, a *app.App) error {
				return env.trace(ctx, a, args[0])
			})
		},
	}
}

func (env *environment) trace(ctx context.Context, a *app.App, correlation string) error {
	if correlation == "" {
		return usagef("the correlation is empty, and every event has one: pulse log --json shows which there are")
	}
	var envs []pulse.Envelope
	for e, err := range a.Bus.Log(ctx, pulse.Query{Correlation: correlation}) {
		if err != nil {
			return err
		}
		envs = append(envs, e)
	}
	if len(envs) == 0 {
		return notFoundf("no event has the correlation %q: pulse log --json shows which there are", correlation)
	}
	roots := causes(envs)
	if env.json {
		type traceJSON struct {
			Correlation string       `json:"correlation"`
			Count       int          `json:"count"`
			Events      []*traceNode `json:"events"`
		}
		return env.printJSON(traceJSON{correlation, len(envs), roots})
	}
	start := envs[0].OccurredAt
	for _, e := range envs {
		if e.OccurredAt.Before(start) {
			start = e.OccurredAt
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s from %s\n", printable(correlation), count(len(envs), "event"), showTime(start))
	for _, r := range roots {
		r.draw(&b, start)
	}
	return env.printf("%s", b.String())
}

// traceNode is an event with what it led to.
type traceNode struct {
	envelopeJSON
	Caused []*traceNode `json:"caused,omitempty"`
}

// causes arranges events by causation and returns the roots: those whose cause is not among them. What people import may contain
// circles; one event of a circle is a root.
func causes(envs []pulse.Envelope) []*traceNode {
	nodes := make([]*traceNode, len(envs))
	byID := make(map[uuid.UUID]*traceNode, len(envs))
	for i := range envs {
		nodes[i] = &traceNode{envelopeJSON: toEnvelopeJSON(&envs[i])}
		byID[envs[i].ID] = nodes[i]
	}
	parent := func(n *traceNode) *traceNode {
		if n.Causation == nil {
			return nil
		}
		return byID[*n.Causation]
	}
	var roots []*traceNode
	settled := make(map[*traceNode]bool, len(nodes)) // leads up to a root
	for _, n := range nodes {
		path := map[*traceNode]bool{}
		top := n
		for !settled[top] && !path[top] && parent(top) != nil {
			path[top] = true
			top = parent(top)
		}
		circle := path[top]
		for m := range path {
			settled[m] = true
		}
		if !settled[top] || circle {
			// Of a circle the event come upon first is the root.
			settled[top] = true
			roots = append(roots, top)
		}
	}
	isRoot := make(map[*traceNode]bool, len(roots))
	for _, r := range roots {
		isRoot[r] = true
	}
	for _, n := range nodes {
		if p := parent(n); p != nil && !isRoot[n] {
			p.Caused = append(p.Caused, n)
		}
	}
	return roots
}

// draw writes the tree under n. It does not recurse: a chain of causes may be long.
func (n *traceNode) draw(b *strings.Builder, start time.Time) {
	type step struct {
		node   *traceNode
		indent string
		branch string
	}
	todo := []step{{node: n}}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		fmt.Fprintf(b, "%s%s%s\n", s.indent, s.branch, s.node.line(start))
		indent := s.indent
		switch s.branch {
		case "├── ":
			indent += "│   "
		case "└── ":
			indent += "    "
		}
		for i := len(s.node.Caused) - 1; i >= 0; i-- {
			branch := "├── "
			if i == len(s.node.Caused)-1 {
				branch = "└── "
			}
			todo = append(todo, step{s.node.Caused[i], indent, branch})
		}
	}
}

func (n *traceNode) line(start time.Time) string {
	text := printable(n.Name)
	if n.Key != "" {
		text += " " + printable(n.Key)
	}
	return fmt.Sprintf("%s  %s  #%d", text, showOffset(n.OccurredAt.Sub(start)), n.Position)
}
