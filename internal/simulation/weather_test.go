package simulation

import (
	"math/rand/v2"
	"time"
)

// weather is what happens to the broker while faults last.
func (d *destination) weather() {
	r := d.w.plan.stream("weather")
	for d.w.age() < d.w.plan.lasting {
		time.Sleep(between(r, 300*time.Millisecond, 5*time.Second))
		switch what := d.w.plan.broker.weather; what[r.IntN(len(what))] {
		case "outage":
			d.outage(r, func() {})
		case "redelivery":
			d.redeliver(r)
		case "wipe":
			d.maybeOutage(r, func() { d.cut(0) })
		case "cut":
			d.maybeOutage(r, func() { d.cut(max(0, d.length()-1-r.IntN(20))) })
		}
	}
}

// maybeOutage lets something happen in an outage, or all of a sudden.
func (d *destination) maybeOutage(r *rand.Rand, during func()) {
	if chance(r, 0.5) {
		d.outage(r, during)
		return
	}
	during()
}

func (d *destination) outage(r *rand.Rand, during func()) {
	d.w.cover("an outage of the broker")
	d.setDown(true)
	time.Sleep(between(r, 50*time.Millisecond, 3*time.Second))
	during()
	time.Sleep(between(r, 0, 3*time.Second))
	d.setDown(false)
}

// redeliver lets a subscription get again what it has not acknowledged.
func (d *destination) redeliver(r *rand.Rand) {
	s := d.w.plan.subs[r.IntN(len(d.w.plan.subs))]
	if s.fed {
		d.w.cover("a redelivery")
		d.broker.Redeliver(school, s.name)
	}
}
