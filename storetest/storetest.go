// Package storetest is the conformance suite of pulse.Store and of the abilities a store may have beside it. An adapter's
// author calls Run from a test; each case is a subtest named by the sentence of the contract that it checks:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Options{
//			Open: func(t testing.TB) pulse.Store {
//				s, err := mystore.Open(t.Context(), filepath.Join(t.TempDir(), "log.db"), nil)
//				if err != nil {
//					t.Fatal(err)
//				}
//				t.Cleanup(func() { s.Close() })
//				return s
//			},
//		})
//	}
//
// The suite cannot see what only a crash or a broken connection shows: what survives kill -9, what happens to a commit whose answer
// is lost, what a store does when its disk is full. That is for the adapter's own tests.
package storetest

import (
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// Options tell the suite how to get stores.
type Options struct {
	// Open returns a new, empty store, and arranges by t.Cleanup what has to be undone. It is called concurrently. Required.
	Open func(t testing.TB) pulse.Store

	// Reopen stops store as a clean end of the process would, and opens what it stored again. It arranges by t.Cleanup
	// what has to be undone. Nil for a store that is not durable: the cases about reopening are left out then.
	Reopen func(t testing.TB, store pulse.Store) pulse.Store

	// Pass lets at least d go by on store's clock. Nil for a store whose time is the real one.
	Pass func(t testing.TB, store pulse.Store, d time.Duration)
}

// check is one sentence of the contract and what proves it.
type check struct {
	sentence string
	run      func(h *harness)
}

// group is the checks of one port.
type group struct {
	name   string
	checks []check
	reopen bool // only for stores that can be reopened
}

// suite returns all checks.
func suite() []group {
	return []group{
		{name: "Append", checks: appendChecks()},
		{name: "Position", checks: positionChecks()},
		{name: "Content", checks: contentChecks()},
		{name: "Read", checks: readChecks()},
		{name: "Index", checks: indexChecks()},
		{name: "Transact", checks: transactChecks()},
		{name: "Mark", checks: markChecks()},
		{name: "Lease", checks: leaseChecks()},
		{name: "Register", checks: registerChecks()},
		{name: "Control", checks: controlChecks()},
		{name: "Advance", checks: advanceChecks()},
		{name: "List", checks: listChecks()},
		{name: "Settle", checks: settleChecks()},
		{name: "Reopen", checks: reopenChecks(), reopen: true},
		{name: "Close", checks: closeChecks()},
	}
}

// Run checks that the stores of o keep the contract. What a store has no ability for is skipped. The cases run in parallel.
func Run(t *testing.T, o Options) {
	if o.Open == nil {
		t.Fatal("storetest: Options.Open is required")
	}
	for _, g := range suite() {
		if g.reopen && o.Reopen == nil {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.checks {
				t.Run(c.sentence, func(t *testing.T) {
					t.Parallel()
					c.run(newHarness(t, o))
				})
			}
		})
	}
}
