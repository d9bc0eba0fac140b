package simulation

import (
	"math/rand/v2"

	"github.com/edupulse-live/pulse"
)

// The kinds of brokers, by what they can tell a relay.
const (
	fenced = "fenced" // a message is stored only behind the one the relay knows as the last, so that a loss is noticed
	open   = "open"   // the last message is known, and anybody can write
	blind  = "blind"  // nothing is known, and anybody can write
)

// brokerPlan is what the seed decides about the broker of a schedule. Rates are chances for each message or call.
type brokerPlan struct {
	kind    string
	high    bool // what is told of the last message is the highest position that is there
	batch   int  // messages in one batch
	route   bool // only what subscriptions handle is published
	skip    bool // SkipRejected
	drop    float64
	lostAck float64
	twice   float64
	refuse  float64 // share of events that are refused for a while
	slow    float64
	freeze  float64  // the process, between two messages
	kill    float64  // the process, before or after a message
	read    float64  // reading and acknowledging fails
	weather []string // what happens to the broker, drawn evenly; empty for nothing
}

// addBroker gives some of the schedules a broker. What it draws changes nothing of the others.
func (p *plan) addBroker() {
	r := p.stream("broker")
	if !chance(r, 0.6) {
		return
	}
	b := &brokerPlan{kind: []string{fenced, fenced, open, blind}[r.IntN(4)], high: chance(r, 0.5), batch: 1000}
	if chance(r, 0.7) {
		b.batch = 1 + r.IntN(8)
	}
	b.route, b.skip = chance(r, 0.3), chance(r, 0.2)
	if chance(r, 0.6) {
		b.refuse = r.Float64() * 0.1
	}
	if !p.calm {
		b.disturb(r)
	}
	p.broker = b
	p.instances = max(p.instances, 2)
	p.relay = &sub{name: pulse.RelayName(school), ordered: true, skip: b.skip, policy: pulse.RetryPolicy{Attempts: 10}}
	if chance(r, 0.15) {
		return // all read the log
	}
	for _, s := range p.subs {
		s.fed = chance(r, 0.6)
	}
	p.subs[0].fed = true
}

// disturb draws the faults, a random subset.
func (b *brokerPlan) disturb(r *rand.Rand) {
	for _, f := range []struct {
		rate  *float64
		often float64 // share of the schedules that have it
		most  float64
	}{
		{&b.drop, 0.4, 0.05},
		{&b.lostAck, 0.5, 0.05},
		{&b.twice, 0.3, 0.05},
		{&b.slow, 0.4, 0.1},
		{&b.freeze, 0.3, 0.02},
		{&b.kill, 0.3, 0.01},
		{&b.read, 0.4, 0.05},
	} {
		if chance(r, f.often) {
			*f.rate = r.Float64() * f.most
		}
	}
	for _, what := range []string{"outage", "redelivery"} {
		if chance(r, 0.5) {
			b.weather = append(b.weather, what)
		}
	}
	if b.kind == fenced && chance(r, 0.7) { // who cannot notice a loss is promised nothing
		b.weather = append(b.weather, "wipe", "cut")
	}
}

// options are those of Publish.
func (b *brokerPlan) options() []pulse.PublishOption {
	var opts []pulse.PublishOption
	if b.route {
		opts = append(opts, pulse.Route(lessons))
	}
	if b.skip {
		opts = append(opts, pulse.SkipRejected())
	}
	return opts
}

// killRate is the chance that a process dies between two messages.
func (w *world) killRate() float64 {
	if w.isHealed() {
		return 0
	}
	return w.plan.broker.kill
}
