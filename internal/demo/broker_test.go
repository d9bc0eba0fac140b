package demo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
)

// statesIn is what the store in a data directory knows of the relay and of the subscriptions, by name.
func statesIn(t *testing.T, data string) map[string]pulse.SubscriptionState {
	t.Helper()
	store, err := openSQLite(t.Context(), filepath.Join(data, StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	states, err := store.States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]pulse.SubscriptionState{}
	for _, s := range states {
		byName[s.Name] = s
	}
	return byName
}

// TestYearIsHandledFromTheBroker looks into the broker itself: everything is there, once, and it is where the handler reads.
func TestYearIsHandledFromTheBroker(t *testing.T) {
	const students = 40
	data := t.TempDir()
	report, err := Year(t.Context(), YearOptions{Dataset: manyTables(students).write(t), Data: data, Open: openSQLite, Broker: embedNATS})
	if err != nil {
		t.Fatal(err)
	}
	n := manyEvents(students)
	if report.Published != n {
		t.Errorf("%d published, want %d", report.Published, n)
	}
	states := statesIn(t, data)
	if year := states[yearSubscription]; year.Source != "nats" || year.Lag() != 0 {
		t.Errorf("the handler reads from %q and is %d behind", year.Source, year.Lag())
	}
	broker, err := embedNATS(t.Context(), filepath.Join(data, StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	feed, err := broker.Source.Open(t.Context(), pulse.FeedConfig{Subscription: "auditor", Window: 2 * n})
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	for next := pulse.Position(1); next <= pulse.Position(n); {
		msgs, err := feed.Fetch(t.Context(), 500)
		if err != nil {
			t.Fatal(err)
		}
		for i := range msgs {
			if msgs[i].Position != next {
				t.Fatalf("the broker has position %d where %d should be", msgs[i].Position, next)
			}
			next++
		}
	}
	if last, ok, err := broker.Publisher.Last(t.Context()); err != nil || !ok || last.Position != pulse.Position(n) {
		t.Errorf("the broker ends with position %d, %t, %v; want %d", last.Position, ok, err, n)
	}
}

// TestYearGoesOnTheOtherWay interrupts a year played one way and goes on the other way.
func TestYearGoesOnTheOtherWay(t *testing.T) {
	const students = 200
	for name, first := range map[string]bool{"from broker to log": true, "from log to broker": false} {
		t.Run(name, func(t *testing.T) {
			dataset, data, n := manyTables(students).write(t), t.TempDir(), manyEvents(students)
			ctx, cancel := context.WithCancel(t.Context())
			_, err := Year(ctx, YearOptions{
				Dataset: dataset, Data: data, Open: openSQLite, Broker: brokerOf(first), Emitters: 4, Rate: 2000,
				Progress: func(p Progress) {
					if p.Handled > 0 {
						cancel()
					}
				},
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("the interrupted year ended with %v", err)
			}
			report, err := Year(t.Context(), YearOptions{Dataset: dataset, Data: data, Open: openSQLite, Broker: brokerOf(!first)})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := countsOf(report), (counts{emitted: n, published: wantPublished(!first, n), handled: n}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// TestYearSurvivesTheLossOfItsBroker takes the data of the broker away between an interruption and the next run.
func TestYearSurvivesTheLossOfItsBroker(t *testing.T) {
	const students = 200
	dataset, data, n := manyTables(students).write(t), t.TempDir(), manyEvents(students)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Year(ctx, YearOptions{
		Dataset: dataset, Data: data, Open: openSQLite, Broker: embedNATS, Emitters: 4, Rate: 2000,
		Progress: func(p Progress) {
			if p.Published > 0 && p.Handled > 0 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the interrupted year ended with %v", err)
	}
	if err := os.RemoveAll(filepath.Join(data, StoreFile+".nats")); err != nil {
		t.Fatal(err)
	}
	report, err := Year(t.Context(), YearOptions{Dataset: dataset, Data: data, Open: openSQLite, Broker: embedNATS})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := countsOf(report), (counts{emitted: n, published: n, handled: n}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestBrokerInUseIsRefused(t *testing.T) {
	data := t.TempDir()
	other, err := embedNATS(t.Context(), filepath.Join(data, StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, errLive := Live(t.Context(), LiveOptions{Data: data, Open: openSQLite, Broker: embedNATS, Events: 1})
	_, errYear := Year(t.Context(), YearOptions{Dataset: manyTables(1).write(t), Data: data, Open: openSQLite, Broker: embedNATS})
	for name, err := range map[string]error{"live": errLive, "year": errYear} {
		if !errors.Is(err, pulse.ErrHeld) || !strings.Contains(err.Error(), "another process, a demo or pulse serve, runs the broker of "+data) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(data, secretFile)); err == nil {
		t.Error("a year that was refused has begun")
	}
}

// TestPublishedCountsEachEventOfThePlanOnce tells the counter what a relay may: repetitions, and events that are not of this year.
func TestPublishedCountsEachEventOfThePlanOnce(t *testing.T) {
	secret := []byte("a secret")
	p := &plan{students: []int32{1}, events: []planned{{kind: kindEnrolled, line: 1}, {kind: kindSubmitted, line: 2}}}
	c := newPublished(p, secret)
	h := newHasher(secret)
	first, second := h.event(p, &p.events[0]), h.event(p, &p.events[1])
	other := newHasher([]byte("of another year")).event(p, &p.events[0])
	for _, id := range []pulse.Envelope{{ID: first}, {ID: other}, {ID: first}, {ID: second}, {ID: second}} {
		c.acked(&id)
	}
	if got := c.count(); got != 2 {
		t.Errorf("%d of 2 events were counted", got)
	}
	if got := (*published)(nil).count(); got != 0 {
		t.Errorf("without a broker %d were counted", got)
	}
}

// TestWatchedPublisherTellsOnlyWhatWasAcknowledged has a broker lose answers.
func TestWatchedPublisherTellsOnlyWhatWasAcknowledged(t *testing.T) {
	outcomes := []pulse.Outcome{pulse.Acked, pulse.Unknown, pulse.Rejected, pulse.Acked}
	var told []pulse.Position
	w := &watchedPublisher{answers{membroker.New(nil).Publisher("x"), outcomes}, func(env *pulse.Envelope) { told = append(told, env.Position) }}
	results := w.PublishBatch(t.Context(), []pulse.Envelope{{Position: 1}, {Position: 2}, {Position: 3}, {Position: 4}})
	for i, want := range outcomes {
		if results[i].Outcome != want {
			t.Errorf("result %d is changed to %d", i, results[i].Outcome)
		}
	}
	if len(told) != 2 || told[0] != 1 || told[1] != 4 {
		t.Errorf("told %v", told)
	}
}

// answers is a publisher whose answers are given.
type answers struct {
	pulse.Publisher
	outcomes []pulse.Outcome
}

func (a answers) PublishBatch(_ context.Context, envs []pulse.Envelope) []pulse.Result {
	results := make([]pulse.Result, len(envs))
	for i := range results {
		results[i].Outcome = a.outcomes[i]
	}
	return results
}
