// Package brokertest is the conformance suite of pulse.Publisher and pulse.Source. An adapter's author calls Run from a
// test; each case is a subtest named by the sentence of the contract that it checks:
//
//	func TestBroker(t *testing.T) {
//		brokertest.Run(t, brokertest.Options{
//			Open: func(t testing.TB) brokertest.Broker {
//				destination := newDestination(t) // its own for each call
//				return brokertest.Broker{
//					Publisher: mybroker.NewPublisher(conn, destination),
//					Source:    mybroker.NewSource(conn, destination),
//				}
//			},
//		})
//	}
//
// The suite cannot see what only a broken connection or a broker that crashes shows: lost answers, lost messages, reconnecting.
// That is for the adapter's own tests.
package brokertest

import (
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// Broker is one destination of a broker, both ways.
type Broker struct {
	Publisher pulse.Publisher
	Source    pulse.Source // reads what Publisher publishes; nil when the adapter only publishes: its cases are skipped
}

// Options tell the suite how to get a broker, and what it can do.
type Options struct {
	// Open returns a new, empty destination, and arranges by t.Cleanup what has to be undone. It is called concurrently. Required.
	Open func(t testing.TB) Broker

	// Quiet is how long a case waits for a message that must not come. 150 ms when 0; a broker whose deliveries take longer
	// needs more for the suite to see all faults.
	Quiet time.Duration

	// Keeps says that the broker keeps messages for subscriptions that are opened later. Otherwise the cases about that are left out.
	Keeps bool

	patience time.Duration // how long a case waits for what must happen
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
	keeps  bool // only for brokers that keep messages
}

// suite returns all checks.
func suite() []group {
	return []group{
		{name: "Publisher", checks: publisherChecks()},
		{name: "Content", checks: contentChecks()},
		{name: "Feed", checks: feedChecks()},
		{name: "Ack", checks: ackChecks()},
		{name: "Order", checks: orderChecks()},
		{name: "Start", checks: startChecks(), keeps: true},
	}
}

// Run checks that the brokers of o keep the contract. The cases run in parallel.
func Run(t *testing.T, o Options) {
	if o.Open == nil {
		t.Fatal("brokertest: Options.Open is required")
	}
	if o.Quiet == 0 {
		o.Quiet = 150 * time.Millisecond
	}
	o.patience = 10 * time.Second
	for _, g := range suite() {
		if g.keeps && !o.Keeps {
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
