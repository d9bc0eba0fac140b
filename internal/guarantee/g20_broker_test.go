//go:build unix

package guarantee

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse/internal/failpoint"
)

// Signals, one or two, to a process that emits, publishes, and handles what comes back, while it is at each point of its way to the
// broker, which takes its time: it drains or is aborted, and all other promises hold. The broker is beside the process or in it.
func TestG20_SignalsAtFailpointsOfTheBroker(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		for _, host := range hosts() {
			t.Run(host, func(t *testing.T) {
				t.Parallel()
				seed := rand.Uint64()
				r := newRelayed(t, k, host, seed, 0)
				s := &signalled{relayed: r}
				r.more(t, 100)
				points := slices.Concat(failpoint.PublisherNames(), failpoint.SourceNames(), []string{failpoint.AdvanceBefore, failpoint.AdvanceAfter})
				for i, point := range points {
					for signals := 1; signals <= 2; signals++ {
						s.round(t, point, signals, 10_000*(2*i+signals))
					}
				}
				s.check(t)
				t.Logf("seed %d: %d processes drained, %d aborted, %d emits acknowledged", seed, s.drained, s.aborted, len(s.acks))
				atLeast(t, "processes that drained", s.drained, len(points))
				atLeast(t, "processes aborted", s.aborted, 1)
				atLeast(t, "emits acknowledged", len(s.acks), 20)
			})
		}
	})
}

// signalled is a log whose processes are signalled.
type signalled struct {
	*relayed
	drained, aborted int
	acks             []string
}

func (s *signalled) spec(role, handler string) childSpec {
	return childSpec{Role: role, Handler: handler, Drain: 20 * time.Second, Broker: address(s.broker, s.dir), TTL: 200 * time.Millisecond}
}

// round runs one process and signals it.
func (s *signalled) round(t *testing.T, point string, signals, base int) {
	t.Helper()
	spec := s.spec("serve", "effects")
	spec.Failpoints, spec.Base = point+"=sleep:20ms", base
	spec.Tries = 5 // who aborts a process takes an attempt away from what it was handling
	p := start(t, s.kind, s.place, spec)
	p.awaitLines(t, "ack", 3)
	time.Sleep(time.Duration(s.random.IntN(60)) * time.Millisecond)
	p.signal(t, syscall.SIGTERM)
	if signals == 2 {
		time.Sleep(time.Duration(s.random.IntN(10)) * time.Millisecond)
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	switch state := p.wait(t); {
	case state.Success():
		s.drained++
	case state.Sys().(syscall.WaitStatus).Signaled():
		s.aborted++
	default:
		t.Errorf("%s: the process ended by %s: %s", point, state, p.stderr.tail(10))
	}
	s.acks = append(s.acks, p.lines("ack ")...)
	for _, line := range p.lines("error") {
		t.Errorf("%s: emit: %s", point, line)
	}
}

// check lets another process do the rest and looks at all of it.
func (s *signalled) check(t *testing.T) {
	t.Helper()
	p := start(t, s.kind, s.place, s.spec("handle", "single"))
	p.awaitLines(t, "drained", 1)
	p.wait(t)
	stored := s.stored(t)
	for _, ack := range s.acks {
		if _, ok := stored[uuid.MustParse(ack)]; !ok {
			t.Errorf("event %s was acknowledged and is lost", ack)
		}
	}
	s.compare(t, s.read(t))
	effects, lessons := s.effects(t), s.lessons(t)
	for i := range lessons {
		if effects[i] != 1 {
			t.Errorf("effect of lesson %d: %d times", i, effects[i])
		}
	}
	if len(effects) != len(lessons) {
		t.Errorf("%d effects for %d lessons", len(effects), len(lessons))
	}
	if err := s.world.check(t.Context()); err != nil {
		t.Error(err)
	}
}
