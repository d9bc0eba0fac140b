package integration_test

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/brokerworld"
	"github.com/edupulse-live/pulse/sqlitestore"
)

// several is a bus that publishes to three destinations at once.
type several struct {
	*pulse.Bus
	places []*place
	counts map[string]int // emitted changes of each lesson
	phase  int
}

const (
	tick   = 20 * time.Millisecond
	ticks  = 120 // in a phase
	large  = 60 << 10
	ofTick = 8 // lessons, and events of one tick
)

// Of three destinations one is slow, then another is silent, then down, and then the third refuses events for good. The others get what is emitted as soon
// as they do when nothing is wrong, and the one that was hurt gets everything, in order, when that is over.
//
// It measures time, and so runs by itself.
func TestSeveralDestinations(t *testing.T) {
	onNATS, onRabbit := inNATS(t), inRabbit(t)
	onKafka, restrict := inKafka(t)
	s := newSeveral(t, onNATS, onRabbit, onKafka)
	_ = t.Run("slow", func(t *testing.T) { s.slow(t, onRabbit) }) &&
		t.Run("silent", func(t *testing.T) { s.silent(t, onNATS) }) &&
		t.Run("down", func(t *testing.T) { s.down(t, onNATS) }) &&
		t.Run("refusing", func(t *testing.T) { s.refusing(t, onKafka, restrict) })
}

func (s *several) slow(t *testing.T, p *place) {
	healthy := s.measure(t, nil, "")
	up := p.hurt(t, "latency", "upstream", `{"latency":200}`)
	down := p.hurt(t, "latency", "downstream", `{"latency":200}`)
	s.measure(t, p, "").compare(t, healthy)
	if got := quantile(p.arrived(s.phase), 0.5); got < 200*time.Millisecond {
		t.Errorf("events come to the slow destination after %v: it is not slow", got)
	}
	up()
	down()
	s.complete(t)
}

// silent has nothing come through to a destination and from it, and nobody closes the connection.
func (s *several) silent(t *testing.T, p *place) {
	healthy := s.measure(t, nil, "")
	up := p.hurt(t, "timeout", "upstream", `{"timeout":0}`)
	down := p.hurt(t, "timeout", "downstream", `{"timeout":0}`)
	s.measure(t, p, "").compare(t, healthy)
	s.missing(t, p)
	up()
	down()
	s.complete(t)
}

func (s *several) down(t *testing.T, p *place) {
	healthy := s.measure(t, nil, "")
	p.proxy.Stop()
	s.measure(t, p, "").compare(t, healthy)
	s.missing(t, p)
	if s.state(t, p).PauseReason == "" {
		t.Error("the destination is down, and nobody is told")
	}
	if err := p.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	s.complete(t)
}

// missing makes sure that a destination has nothing of the phase.
func (s *several) missing(t *testing.T, p *place) {
	t.Helper()
	if n, state := len(p.arrived(s.phase)), s.state(t, p); n > 0 || state.Lag() < ticks*ofTick {
		t.Errorf("%d events came to %s, which is %d behind: nothing is wrong there", n, p.name, state.Lag())
	}
}

// refusing has a destination refuse one event of each of four lessons.
func (s *several) refusing(t *testing.T, p *place, restrict func(maxBytes string)) {
	const refused, takes, usual = "efgh", "32768", "1048588"
	healthy := s.measure(t, nil, "")
	restrict(takes)
	s.measure(t, p, refused).compare(t, healthy)
	brokerworld.Eventually(t, "dead letters of what is refused, and arriving of the other lessons", func() bool {
		state := s.state(t, p)
		return state.Dead == len(refused) && state.Blocked == len(refused) && state.Waiting == (ticks-1)*len(refused) && state.Lag() == 0 &&
			len(p.arrived(s.phase)) == ticks*(ofTick-len(refused))
	})
	restrict(usual)
	n, err := s.Settle(t.Context(), pulse.DeliveryQuery{Subscription: pulse.RelayName(p.name)}, pulse.SettleRetry)
	if n != len(refused) || err != nil {
		t.Errorf("%d dead letters are tried again, %v", n, err)
	}
	s.complete(t)
}

func newSeveral(t *testing.T, places ...*place) *several {
	t.Helper()
	store, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "school.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	bus, err := pulse.New(store, &pulse.Options{Source: "/school", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range places {
		if err := bus.Publish(p.name, p.publisher, pulse.Route(p.pattern)); err != nil {
			t.Fatal(err)
		}
	}
	s := &several{Bus: bus, places: places, counts: map[string]int{}}
	brokerworld.Run(t, bus)
	return s
}

// measured is how a phase was at the destinations that were not hurt.
type measured struct {
	took map[string]time.Duration // of nine events of ten
	lag  map[string]int64         // at nine moments of ten
}

// measure emits for a phase, and waits until all is where nothing is wrong. Of some lessons the first change is large.
func (s *several) measure(t *testing.T, hurt *place, largeOf string) measured {
	t.Helper()
	s.phase++
	lags := map[string][]int64{}
	every := time.NewTicker(tick)
	defer every.Stop()
	for i := range ticks {
		<-every.C
		s.emit(t, i == 0, largeOf)
		states, err := s.Subscriptions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, state := range states {
			lags[state.Name] = append(lags[state.Name], state.Lag())
		}
	}
	m := measured{map[string]time.Duration{}, map[string]int64{}}
	for _, p := range s.places {
		if p == hurt {
			continue
		}
		brokerworld.Eventually(t, "arriving at "+p.name, func() bool { return len(p.arrived(s.phase)) == ticks*ofTick })
		m.took[p.name], m.lag[p.name] = quantile(p.arrived(s.phase), 0.9), quantile(lags[pulse.RelayName(p.name)], 0.9)
		t.Logf("%s: nine of ten after %v, at most %d behind", p.name, m.took[p.name].Round(time.Millisecond), m.lag[p.name])
	}
	return m
}

// emit emits the next change of each lesson.
func (s *several) emit(t *testing.T, first bool, largeOf string) {
	t.Helper()
	var evs []pulse.Event
	for _, lesson := range "abcdefgh"[:ofTick] {
		e := moved{string(lesson), s.counts[string(lesson)], s.phase, time.Now(), strings.Repeat("x", 400)}
		if first && strings.ContainsRune(largeOf, lesson) {
			e.Text = strings.Repeat("x", large)
		}
		evs = append(evs, e)
		s.counts[e.Lesson]++
	}
	if _, err := s.EmitAll(t.Context(), evs); err != nil {
		t.Fatal(err)
	}
}

// compare fails the test when it was worse than while nothing was wrong, by more than what a machine that has other things to do makes of it. A
// relay that waited for a slow one would wait for 400 ms, in which 160 events are emitted.
func (m measured) compare(t *testing.T, healthy measured) {
	t.Helper()
	for name, took := range m.took {
		if most := 2*healthy.took[name] + 100*time.Millisecond; took > most {
			t.Errorf("%s has nine of ten events after %v, and before the fault after %v", name, took, healthy.took[name])
		}
		if most := 2*healthy.lag[name] + 50; m.lag[name] > most {
			t.Errorf("%s is %d events behind, and before the fault %d", name, m.lag[name], healthy.lag[name])
		}
	}
}

// complete waits until every destination has everything, and fails the test unless changes of a lesson came for the first time in order.
func (s *several) complete(t *testing.T) {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.places {
		brokerworld.Eventually(t, "arriving of everything at "+p.name, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.problem != "" || maps.Equal(p.next, s.counts)
		})
		if state := s.state(t, p); p.problem != "" || state.Lag() != 0 || state.Dead+state.Waiting+state.Retries > 0 {
			t.Fatalf("%s: %s, %+v", p.name, p.problem, state)
		}
		t.Logf("%s has everything after %v, %d came again", p.name, time.Since(start).Round(time.Millisecond), p.again)
	}
}

// state is that of the relay to a place.
func (s *several) state(t *testing.T, p *place) pulse.SubscriptionState {
	t.Helper()
	states, err := s.Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return states[slices.IndexFunc(states, func(state pulse.SubscriptionState) bool { return state.Name == pulse.RelayName(p.name) })]
}

// quantile of values by the nearest rank.
func quantile[T int64 | time.Duration](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
