package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/edupulse-live/pulse"
)

func controlSeen(h *harness) {
	s := h.subscriptions()
	s.register("mailer")
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Pause: &pulse.Pause{Until: pulse.Forever, Reason: "maintenance"}}))
	changes := []pulse.Control{{Pause: &pulse.Pause{Until: pulse.Forever, Reason: "other"}}, {Resume: true}, {Replay: &pulse.Replay{From: 1}}, {Drop: true}}
	for _, c := range changes {
		before := s.state("mailer")
		for _, revision := range []int64{before.Revision - 1, before.Revision + 1} {
			c.Seen = &revision
			if err := s.Control(h.ctx, "mailer", c); !errors.Is(err, pulse.ErrFenced) {
				h.Fatalf("Control %+v decided on revision %d, it has %d: error is %v, want an ErrFenced", c, revision, before.Revision, err)
			}
			if after := s.state("mailer"); after != before {
				h.Fatalf("a refused Control %+v left\n     %+v\nwant %+v", c, after, before)
			}
		}
		c.Seen = &before.Revision
		h.ok(s.Control(h.ctx, "mailer", c))
		states, err := s.States(h.ctx)
		h.ok(err)
		if len(states) == 1 && states[0].Revision == before.Revision {
			h.Fatalf("Control %+v decided on the present revision changed nothing", c)
		}
	}
	gone := int64(0)
	if err := s.Control(h.ctx, "mailer", pulse.Control{Resume: true, Seen: &gone}); !errors.Is(err, pulse.ErrNotFound) {
		h.Fatalf("Control of a dropped subscription: error is %v, want an ErrNotFound", err)
	}
}

func controlSeenOnce(h *harness) {
	s := h.subscriptions()
	s.register("mailer")
	for range 10 {
		before := s.state("mailer")
		var deciders sync.WaitGroup
		var made, failed atomic.Int32
		for i := range 4 {
			deciders.Go(func() {
				p := &pulse.Pause{Until: pulse.Forever, Reason: fmt.Sprint(i)}
				switch err := s.Control(h.ctx, "mailer", pulse.Control{Pause: p, Seen: &before.Revision}); {
				case err == nil:
					made.Add(1)
				case !errors.Is(err, pulse.ErrFenced):
					failed.Add(1)
				}
			})
		}
		deciders.Wait()
		if made.Load() != 1 || failed.Load() != 0 {
			h.Fatalf("of 4 decided on revision %d, %d were made and %d failed", before.Revision, made.Load(), failed.Load())
		}
	}
}
