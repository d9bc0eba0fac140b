package memstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/storetest"
)

func TestConformance(t *testing.T) {
	for name, late := range map[string]bool{"positions at once": false, "positions later": true} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, storetest.Options{
				Open: func(testing.TB) pulse.Store { return memstore.New(&memstore.Options{LateSequencing: late}) },
			})
		})
	}
}

// clock is a clock that stands still until it is set forward.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// clocked is a store with a clock of its own.
type clocked struct {
	*memstore.Store
	clock *clock
}

func TestConformanceByOwnClock(t *testing.T) {
	storetest.Run(t, storetest.Options{
		Open: func(testing.TB) pulse.Store {
			c := &clock{now: time.Date(2026, 9, 1, 8, 0, 0, 0, time.UTC)}
			return clocked{memstore.New(&memstore.Options{Clock: c.Now}), c}
		},
		Pass: func(_ testing.TB, s pulse.Store, d time.Duration) { s.(clocked).clock.pass(d) },
	})
}
