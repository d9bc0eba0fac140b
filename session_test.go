package pulse

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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

// TestHolder: two processes that have the same number, in containers whose machine goes by one name, are told apart.
func TestHolder(t *testing.T) {
	place, rest, _ := strings.Cut(newHolder(), "/")
	pid, random, _ := strings.Cut(rest, "/")
	if pid != strconv.Itoa(os.Getpid()) || len(random) != 8 || place == "" {
		t.Errorf("the holder is %s/%s", place, rest)
	}
	if space, err := os.Readlink("/proc/self/ns/pid"); err == nil {
		if _, number, ok := strings.Cut(place, "."); !ok || space != "pid:["+number[strings.LastIndex(number, ".")+1:]+"]" {
			t.Errorf("the holder %s/%s does not tell the namespace %s", place, rest, space)
		}
	}
}

// TestAnswered: what a publisher answers becomes nothing that lets a later event be taken for published before an earlier one, also when
// the publisher breaks its contract.
func TestAnswered(t *testing.T) {
	const u, a, r, w = Unknown, Acked, Rejected, Withheld
	for _, c := range []struct {
		name        string
		answers     []Outcome
		interrupted bool
		want        string // of each: handled, parked, again, unavailable, interrupted
	}{
		{"all there", []Outcome{a, a, a}, false, "hhh"},
		{"refused", []Outcome{a, r, w, w}, false, "hpaa"},
		{"unknown", []Outcome{a, u, u}, false, "huu"},
		{"unknown at the end of the drain timeout", []Outcome{a, u, u}, true, "hii"},
		{"refused at the end of the drain timeout", []Outcome{a, r, w}, true, "hpa"},
		{"against the contract, acknowledged behind unknown", []Outcome{u, a, r, w}, false, "uuuu"},
	} {
		t.Run(c.name, func(t *testing.T) {
			items := make([]*item, len(c.answers))
			answers := make([]Result, len(c.answers))
			for i, o := range c.answers {
				items[i], answers[i] = &item{}, Result{Outcome: o, Err: errors.New("why")}
			}
			got := ""
			for _, r := range answered(items, answers, c.interrupted) {
				_, dead := errors.AsType[*parked](r.err)
				switch {
				case dead:
					got += "p"
				case isUnavailable(r.err):
					got += "u"
				case r.again:
					got += "a"
				case r.aborted:
					got += "i"
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

// slowLeases answers late, and after the first time not any more.
type slowLeases struct {
	Leases
	calls int
}

func (l *slowLeases) Acquire(_ context.Context, lease Lease, _ time.Duration) (Lease, error) {
	if l.calls++; l.calls > 1 {
		return lease, ErrStore
	}
	time.Sleep(3 * time.Second)
	return lease, nil
}

// TestALeaseIsOverAfterItsTimeSinceItWasAskedFor: the store may have counted from then on, however late its answer came.
func TestALeaseIsOverAfterItsTimeSinceItWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{sub: &subscription{}, ports: storePorts{leases: &slowLeases{}}, asked: time.Now()}
		s := newSession(r, Lease{}, Cursor{})
		begin := time.Now()
		go s.renew(t.Context())
		<-s.renewed
		<-s.lost
		if held := time.Since(begin.Add(leaseRenew)); held > leaseTTL+leaseRenew {
			t.Errorf("the lease counts for %s after it was asked for", held)
		}
	})
}

// stalledLeases fails, and at last does not answer.
type stalledLeases struct {
	Leases
	calls int
}

func (l *stalledLeases) Acquire(ctx context.Context, lease Lease, _ time.Duration) (Lease, error) {
	if l.calls++; l.calls == 4 {
		<-ctx.Done()
	}
	return lease, ErrStore
}

// TestALeaseIsOverInTime: however long the store lets it wait.
func TestALeaseIsOverInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{sub: &subscription{name: RelayName("nats")}, asked: time.Now()}
		r.ports = storePorts{leases: &stalledLeases{}, subscriptions: unpaused{}}
		s := newSession(r, Lease{}, Cursor{})
		s.renew(t.Context())
		if <-s.lost; time.Since(r.asked) > leaseTTL {
			t.Errorf("a session holds it for %s", time.Since(r.asked))
		}
		r.asked, r.ports.leases = time.Now(), &stalledLeases{}
		if err := (&republisher{runner: r}).hold(t.Context()); err == nil || time.Since(r.asked) > leaseTTL {
			t.Errorf("a republisher holds it for %s, %v", time.Since(r.asked), err)
		}
	})
}

// unpaused is what a store keeps of a subscription that nobody has paused.
type unpaused struct{ Subscriptions }

func (unpaused) States(context.Context) ([]SubscriptionState, error) {
	return []SubscriptionState{{Name: RelayName("nats")}}, nil
}

// TestARepublishersLeaseIsOverAfterItsTimeSinceItWasAskedFor: as that of a session.
func TestARepublishersLeaseIsOverAfterItsTimeSinceItWasAskedFor(t *testing.T) {
	for name, late := range map[string]time.Duration{"taken": 4 * time.Second, "renewed": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				leases := &slowLeases{}
				r := &republisher{runner: &runner{sub: &subscription{name: RelayName("nats")}, asked: time.Now()}}
				r.ports = storePorts{leases: leases, subscriptions: unpaused{}}
				asked := time.Now()
				if late > 0 {
					time.Sleep(late) // the answer to what it asked for
					leases.calls++
				} else {
					asked = asked.Add(leaseRenew)
				}
				err := r.hold(t.Context())
				if held := time.Since(asked); err == nil || held > leaseTTL+leaseRenew {
					t.Errorf("the lease counts for %s after it was asked for, %v", held, err)
				}
			})
		})
	}
}

// largeBatches is a publisher that is never asked to publish.
type largeBatches struct{ Publisher }

func (largeBatches) Capabilities() Capabilities { return Capabilities{MaxBatch: 1000} }

// TestARelayRests: after a batch of many a relay lets the next one grow for as long as that took, within bounds, unless it is large already, and then
// wakes. While something else is in the way it waits for that, and does not look again and again.
func TestARelayRests(t *testing.T) {
	for _, c := range []struct {
		name         string
		size         int           // of the last batch
		took, passed time.Duration // it, and since
		ready        int
		behind       Position
		want         time.Duration // that it waits
	}{
		{"a short one", restFrom, 3 * time.Millisecond, 0, 1, 0, 3 * time.Millisecond},
		{"a long one", restFrom, time.Second, 0, 1, 0, mostRest},
		{"that has passed", restFrom, 3 * time.Millisecond, 3 * time.Millisecond, 1, 0, 0},
		{"in part", restFrom, 3 * time.Millisecond, time.Millisecond, 1, 0, 2 * time.Millisecond},
		{"almost large", restFrom, 3 * time.Millisecond, 0, 499, 0, 3 * time.Millisecond},
		{"large", restFrom, 3 * time.Millisecond, 0, 500, 0, 0},
		{"not quite behind", restFrom, 3 * time.Millisecond, 0, 1, pageLimit - 1, 3 * time.Millisecond},
		{"behind", restFrom, 3 * time.Millisecond, 0, 1, pageLimit, mostRest},
		{"behind, large", restFrom, 3 * time.Millisecond, 0, 500, pageLimit, 0},
		{"of few", restFrom - 1, 3 * time.Millisecond, 0, 1, 0, 0},
		{"of few, behind", 1, 3 * time.Millisecond, 0, 1, pageLimit, mostRest},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sub := &subscription{publisher: largeBatches{}, ordered: true, concurrency: 1}
				s := newSession(&runner{bus: &Bus{}, sub: sub}, Lease{}, Cursor{})
				for range c.size {
					s.ready = append(s.ready, &item{})
				}
				if _, batch := s.next(); len(batch) != c.size {
					t.Fatal("the first batch waits")
				}
				s.handedOut(s.ready)
				time.Sleep(c.took)
				var published []result
				for it := range s.running {
					published = append(published, result{item: it})
				}
				s.settleAll(published)
				for len(s.ready) < c.ready {
					s.ready = append(s.ready, &item{})
				}
				time.Sleep(c.passed)
				s.bus.head.head = c.behind
				if _, batch := s.next(); (len(batch) == 0) != (c.want > 0) || c.want > 0 && s.nextWake() != c.want {
					t.Errorf("a batch of %d leaves, the session wakes after %v", len(batch), s.nextWake())
				}
				s.dirty[1] = struct{}{} // which has to be written first
				if _, batch := s.next(); batch != nil || s.nextWake() != time.Hour {
					t.Errorf("with a row to write a batch of %d leaves, the session wakes after %v", len(batch), s.nextWake())
				}
				clear(s.dirty)
				time.Sleep(c.want)
				if _, batch := s.next(); len(batch) != c.ready || s.nextWake() != time.Hour {
					t.Errorf("then a batch of %d leaves, the session wakes after %v", len(batch), s.nextWake())
				}
			})
		})
	}
}
