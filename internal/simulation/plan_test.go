package simulation

import (
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// plan is what a schedule's seed decides in advance. Constant while the schedule runs.
type plan struct {
	seed      uint64
	calm      bool          // no store fails and no process dies: then attempts are counted exactly
	late      bool          // events get their positions late
	instances int           // processes that compete for the same subscriptions
	lasting   time.Duration // how long faults last
	drain     time.Duration // how long a stopping process waits for its handlers
	emitters  int
	events    int // of each emitter
	subs      []*sub
	rates     rates
	chaos     []string      // what happens to processes, drawn evenly; empty for nothing
	operated  bool          // a person pauses, replays and settles
	restart   bool          // after the faults all processes stop, and one new one drains
	old       int           // events that are there before the subscriptions
	skew      time.Duration // of the store's clock
	broker    *brokerPlan   // nil: everything is fed from the log
	relay     *sub          // with a broker: what is known of the relay
}

// rates are chances, from 0 to 1.
type rates struct {
	before map[string]float64 // that a write fails with nothing done, by its point
	after  map[string]float64 // that it is done and reported as failed
	read   float64            // that reading the store fails
	kill   float64            // that the process dies at a point of a write
	slow   float64            // that a point of a write takes long
	cancel float64            // that an emitter loses patience
}

// stream is the random source of one actor.
func (p *plan) stream(actor string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(actor))
	return rand.New(rand.NewPCG(p.seed, h.Sum64()))
}

// chance is true with the probability q.
func chance(r *rand.Rand, q float64) bool { return r.Float64() < q }

// between is a duration from low to high.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}

func newPlan(seed uint64) *plan {
	p := &plan{seed: seed}
	r := p.stream("plan")
	p.calm = chance(r, 0.2)
	p.late = chance(r, 0.5)
	p.instances = 1 + r.IntN(3)
	p.lasting = between(r, 4*time.Second, 16*time.Second)
	p.drain = between(r, 200*time.Millisecond, 4*time.Second)
	p.emitters = 1 + r.IntN(3)
	p.events = 10 + r.IntN(30)
	p.operated = chance(r, 0.5)
	p.restart = chance(r, 0.3)
	p.rates.cancel = r.Float64() * 0.4 * float64(r.IntN(2))
	if chance(r, 0.7) {
		p.chaos = append(p.chaos, "stop")
	}
	if chance(r, 0.5) {
		p.rates.slow = r.Float64() * 0.2
	}
	if !p.calm {
		p.disturb(r)
	}
	p.subs = newSubs(r, p.calm)
	p.old = old
	if chance(r, 0.02) { // more than a page, and more than the store looks at in one read
		p.old = old + r.IntN(1500)
		p.subs = p.subs[:1]
		p.subs[0].trouble *= 0.1
		p.subs[0].pauseAfter = 100
	}
	if chance(r, 0.3) {
		p.skew = between(r, -10*time.Second, 10*time.Second)
	}
	p.addBroker()
	return p
}

// disturb draws the faults, a random subset.
func (p *plan) disturb(r *rand.Rand) {
	if chance(r, 0.6) {
		p.chaos = append(p.chaos, "kill")
	}
	if chance(r, 0.6) {
		p.chaos = append(p.chaos, "freeze")
	}
	if chance(r, 0.4) {
		p.rates.read = r.Float64() * 0.02
	}
	if chance(r, 0.3) {
		p.rates.kill = r.Float64() * 0.01
	}
	p.rates.before = drawRates(r, beforePoints())
	p.rates.after = drawRates(r, afterPoints())
}

// drawRates arms some of the points: those that are passed seldom with a higher rate.
func drawRates(r *rand.Rand, points []string) map[string]float64 {
	m := map[string]float64{}
	for _, point := range points {
		rate := r.Float64() * 0.15
		switch strings.Split(point, ".")[0] {
		case "release", "control", "settle":
			rate *= 4
		}
		if chance(r, 0.25) {
			m[point] = rate
		}
	}
	return m
}

// beforePoints are the points at which an error leaves nothing done.
func beforePoints() []string {
	return []string{
		memstore.AppendBefore, memstore.TransactBegin, memstore.TxAppendBefore, memstore.TxAppendAfter, memstore.MarkBefore, memstore.MarkAfter,
		memstore.TransactBeforeCommit, memstore.LeaseBefore, memstore.ReleaseBefore, memstore.RegisterBefore, memstore.ControlBefore,
		memstore.AdvanceBefore, memstore.SettleBefore,
	}
}

// afterPoints are the points at which an error comes too late.
func afterPoints() []string {
	return []string{
		memstore.AppendAfter, memstore.TransactAfterCommit, memstore.LeaseAfter, memstore.ReleaseAfter, memstore.RegisterAfter,
		memstore.ControlAfter, memstore.AdvanceAfter, memstore.SettleAfter,
	}
}

// sub is one subscription of a schedule.
type sub struct {
	name        string
	ordered     bool
	skip        bool // SkipFailed
	tx          bool // its effect is an event emitted in the handler's transaction
	batch       int  // deliveries in one batch; 0: one by one
	start       pulse.Position
	policy      pulse.RetryPolicy
	timeout     time.Duration
	concurrency int
	pauseAfter  int
	fed         bool     // from the broker
	trouble     float64  // share of events that have trouble
	troubles    []string // kinds of it
}

// newSubs draws some of the kinds of subscriptions.
func newSubs(r *rand.Rand, calm bool) []*sub {
	kinds := []sub{
		{name: "plain"},
		{name: "ordered", ordered: true},
		{name: "skipping", ordered: true, skip: true},
		{name: "tx", tx: true},
		{name: "tx-ordered", tx: true, ordered: true},
		{name: "batch", batch: 1 + r.IntN(12)},
		{name: "batch-tx-ordered", batch: 1 + r.IntN(12), tx: true, ordered: true},
		{name: "batch-skipping", batch: 1 + r.IntN(12), tx: chance(r, 0.5), ordered: true, skip: true},
	}
	var subs []*sub
	for _, i := range r.Perm(len(kinds))[:1+r.IntN(4)] {
		s := kinds[i]
		s.draw(r, calm)
		subs = append(subs, &s)
	}
	return subs
}

// draw draws how the subscription runs and what troubles its handler.
func (s *sub) draw(r *rand.Rand, calm bool) {
	s.start = pulse.Position(r.IntN(old + 2)) // 0 stands for Now
	if s.start == 0 {
		s.start = pulse.Now
	}
	s.policy = pulse.RetryPolicy{Attempts: 1 + r.IntN(4), First: between(r, 20*time.Millisecond, 500*time.Millisecond), Max: 2 * time.Second}
	s.timeout = between(r, 200*time.Millisecond, 2*time.Second)
	s.concurrency = 1 + r.IntN(8)
	s.pauseAfter = 100
	if chance(r, 0.2) {
		s.pauseAfter = 3 + r.IntN(10)
	}
	s.trouble = r.Float64() * 0.3
	kinds := []string{"fail", "panic", "goexit", "later", "park", "slow", "hang"}
	if !calm {
		kinds = append(kinds, "kill", "stuck")
	}
	for _, i := range r.Perm(len(kinds))[:1+r.IntN(3)] {
		s.troubles = append(s.troubles, kinds[i])
	}
	if chance(r, 0.3) {
		s.troubles = append(s.troubles, "down")
	}
}

// options are the options of Subscribe, without the handlers.
func (s *sub) options() []pulse.SubscribeOption {
	opts := []pulse.SubscribeOption{
		pulse.Start(s.start), pulse.Retry(s.policy), pulse.Timeout(s.timeout), pulse.Concurrency(s.concurrency), pulse.PauseAfter(s.pauseAfter),
	}
	if s.ordered {
		opts = append(opts, pulse.Ordered())
	}
	if s.skip {
		opts = append(opts, pulse.SkipFailed())
	}
	return opts
}
