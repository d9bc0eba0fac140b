package storetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edupulse-live/pulse"
)

func leaseChecks() []check {
	return []check{
		{"a lease is exclusive", leaseExclusive},
		{"one of several instances takes a free lease", leaseRace},
		{"each subscription has a lease of its own", leaseNames},
		{"a lease needs a registered subscription", leaseUnregistered},
		{"renewing keeps Token, Generation and Unclean, and the lease", leaseRenew},
		{"a lease tells the Revision of when it was taken or last renewed", leaseRevision},
		{"an expired lease can be taken, with a greater token, and is unclean", leaseExpiry},
		{"a renewed lease does not expire at its first time", leaseRenewedExpiry},
		{"a released lease can be taken at once, with a greater token, and is clean", leaseRelease},
		{"Unclean stays until a holder releases", leaseUnclean},
		{"releasing a lost lease does nothing", leaseReleaseLost},
		{"who took over fences the former holder", leaseFence},
		{"who released is fenced", leaseReleasedFence},
		{"taking again under the same holder fences the former lease", leaseSameHolder},
		{"a lease from before a Drop stays fenced when the name is used again", leaseDropped},
		{"Acquire with a cancelled context takes nothing", leaseCancelled},
	}
}

// refused ends the case unless holder cannot take the lease of name.
func (s *subscriber) refused(name, holder string) {
	s.Helper()
	if _, err := s.Acquire(s.ctx, pulse.Lease{Name: name, Holder: holder}, long); !errors.Is(err, pulse.ErrHeld) {
		s.Fatalf("%s takes the lease of %s: error is %v, want an ErrHeld", holder, name, err)
	}
}

func leaseExclusive(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	if lease.Name != "mailer" || lease.Holder != "instance-a" || lease.Token < 1 || lease.Generation != 1 || lease.Unclean {
		h.Fatalf("the first lease is %+v", lease)
	}
	s.refused("mailer", "instance-b")
	if got := s.state("mailer").Holder; got != "instance-a" {
		h.Fatalf("States names %q as the holder, want instance-a", got)
	}
	s.advance(lease, s.to(1))
}

func leaseRace(h *harness) {
	s := h.subscriptions()
	_, err := s.Register(h.ctx, pulse.Registration{Name: "mailer", Start: pulse.Beginning})
	h.ok(err)
	var won atomic.Int32
	var instances sync.WaitGroup
	for _, holder := range []string{"a", "b", "c", "d"} {
		instances.Go(func() {
			_, err := s.Acquire(h.ctx, pulse.Lease{Name: "mailer", Holder: holder}, long)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, pulse.ErrHeld) {
				h.Errorf("acquire: %v", err)
			}
		})
	}
	instances.Wait()
	if n := won.Load(); n != 1 {
		h.Fatalf("%d instances took the lease", n)
	}
}

func leaseNames(h *harness) {
	s := h.subscriptions()
	mailer := s.register("mailer")
	_, err := s.Register(h.ctx, pulse.Registration{Name: "search", Start: pulse.Beginning})
	h.ok(err)
	search := s.take("search", "instance-b")
	s.advance(mailer, s.to(1))
	s.advance(search, s.to(2))
	s.refused("mailer", "instance-b")
	s.refused("search", "instance-a")
}

func leaseUnregistered(h *harness) {
	s := h.subscriptions()
	if _, err := s.Acquire(h.ctx, pulse.Lease{Name: "nobody", Holder: "a"}, long); !errors.Is(err, pulse.ErrNotFound) {
		h.Fatalf("error is %v, want an ErrNotFound", err)
	}
}

func leaseRenew(h *harness) {
	s := h.subscriptions()
	first := s.register("mailer")
	for _, lease := range []pulse.Lease{first, s.steal(first, "instance-b")} {
		if lease == first {
			continue
		}
		for range 3 {
			renewed, err := s.Acquire(h.ctx, lease, long)
			h.ok(err)
			if renewed != lease {
				h.Fatalf("%+v was renewed as %+v", lease, renewed)
			}
		}
		s.refused("mailer", "instance-c")
		s.advance(lease, s.to(1))
	}
}

func leaseRevision(h *harness) {
	s := h.subscriptions()
	lease := s.deadLetters()
	for _, change := range []func() error{
		func() error {
			return s.Control(h.ctx, "mailer", pulse.Control{Pause: &pulse.Pause{Until: pulse.Forever}})
		},
		func() error { return s.Control(h.ctx, "mailer", pulse.Control{Resume: true}) },
		func() error {
			_, err := s.Settle(h.ctx, pulse.DeliveryQuery{}, pulse.SettleRetry)
			return err
		},
		func() error { return s.Release(h.ctx, lease) },
	} {
		if got := s.state("mailer").Revision; got != lease.Revision {
			h.Fatalf("the lease tells Revision %d, the subscription has %d", lease.Revision, got)
		}
		h.ok(change())
		renewed, err := s.Acquire(h.ctx, lease, long)
		if errors.Is(err, pulse.ErrFenced) {
			renewed, err = s.Acquire(h.ctx, pulse.Lease{Name: "mailer", Holder: "instance-b"}, long)
		}
		h.ok(err)
		lease = renewed
	}
	if got := s.state("mailer").Revision; got != lease.Revision {
		h.Fatalf("the lease tells Revision %d, the subscription has %d", lease.Revision, got)
	}
}

func leaseExpiry(h *harness) {
	s := h.subscriptions()
	old := s.register("mailer")
	lease := s.steal(old, "instance-b")
	if lease.Token <= old.Token || !lease.Unclean || lease.Holder != "instance-b" || lease.Generation != 1 {
		h.Fatalf("after %+v expired, the next is %+v", old, lease)
	}
	s.refused("mailer", "instance-a")
	if got := s.state("mailer").Holder; got != "instance-b" {
		h.Fatalf("States names %q as the holder, want instance-b", got)
	}
}

func leaseRenewedExpiry(h *harness) {
	s := h.subscriptions()
	_, err := s.Register(h.ctx, pulse.Registration{Name: "mailer", Start: pulse.Beginning})
	h.ok(err)
	lease, err := s.Acquire(h.ctx, pulse.Lease{Name: "mailer", Holder: "instance-a"}, 50*time.Millisecond)
	h.ok(err)
	_, err = s.Acquire(h.ctx, lease, long)
	h.ok(err)
	h.pass(60 * time.Millisecond)
	s.refused("mailer", "instance-b")
	s.advance(lease, s.to(1))
}

func leaseRelease(h *harness) {
	s := h.subscriptions()
	old := s.register("mailer")
	h.ok(s.Release(h.ctx, old))
	if got := s.state("mailer").Holder; got != "" {
		h.Fatalf("States names %q as the holder of a released lease", got)
	}
	lease := s.take("mailer", "instance-b")
	if lease.Token <= old.Token || lease.Unclean {
		h.Fatalf("after %+v was released, the next is %+v", old, lease)
	}
}

func leaseUnclean(h *harness) {
	s := h.subscriptions()
	first := s.register("mailer")
	second := s.steal(first, "instance-b")
	third := s.steal(second, "instance-c")
	if !second.Unclean || !third.Unclean {
		h.Fatalf("leases after an unclean stop: %+v, %+v", second, third)
	}
	h.ok(s.Release(h.ctx, third))
	if fourth := s.take("mailer", "instance-a"); fourth.Unclean {
		h.Fatalf("after a release the lease is %+v", fourth)
	}
}

func leaseReleaseLost(h *harness) {
	s := h.subscriptions()
	old := s.register("mailer")
	lease := s.steal(old, "instance-b")
	h.ok(s.Release(h.ctx, old))
	h.ok(s.Release(h.ctx, pulse.Lease{Name: "nobody", Holder: "a", Token: 1, Generation: 1}))
	s.refused("mailer", "instance-c")
	s.advance(lease, s.to(1))
	h.ok(s.Release(h.ctx, lease))
	h.ok(s.Release(h.ctx, lease))
}

func leaseFence(h *harness) {
	s := h.subscriptions()
	old := s.register("mailer")
	s.advance(old, s.to(1))
	lease := s.steal(old, "instance-b")
	s.fenced(old, "after another instance took over")
	s.advance(lease, s.to(2))
	h.ok(s.Release(h.ctx, lease))
	s.fenced(old, "after the one that took over released")
}

func leaseReleasedFence(h *harness) {
	s := h.subscriptions()
	lease := s.register("mailer")
	h.ok(s.Release(h.ctx, lease))
	s.fenced(lease, "after its release")
}

func leaseSameHolder(h *harness) {
	s := h.subscriptions()
	old := s.register("mailer")
	lease := s.take("mailer", old.Holder) // the instance was started again under its name
	if lease.Token <= old.Token || !lease.Unclean {
		h.Fatalf("after %+v the same holder took %+v", old, lease)
	}
	s.fenced(old, "after the same holder took the lease anew")
	s.advance(lease, s.to(1))
}

func leaseDropped(h *harness) {
	s := h.subscriptions()
	old := s.register("mailer")
	h.ok(s.Control(h.ctx, "mailer", pulse.Control{Drop: true}))
	if err := s.Advance(h.ctx, old, s.to(1)); !errors.Is(err, pulse.ErrFenced) {
		h.Fatalf("Advance after a Drop: error is %v, want an ErrFenced", err)
	}
	h.ok(s.Release(h.ctx, old))
	lease := s.register("mailer")
	if lease.Unclean {
		h.Fatalf("the first lease of a new subscription is %+v", lease)
	}
	s.fenced(old, "after the name was registered again")
	s.advance(lease, s.to(1))
}

func leaseCancelled(h *harness) {
	s := h.subscriptions()
	_, err := s.Register(h.ctx, pulse.Registration{Name: "mailer", Start: pulse.Beginning})
	h.ok(err)
	_, err = s.Acquire(h.cancelled(), pulse.Lease{Name: "mailer", Holder: "instance-a"}, long)
	if !errors.Is(err, context.Canceled) {
		h.Fatalf("error is %v, want a context.Canceled", err)
	}
	if lease := s.take("mailer", "instance-b"); lease.Unclean {
		h.Fatalf("the lease that was not given left %+v", lease)
	}
}
