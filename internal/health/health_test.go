package health

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
	"github.com/edupulse-live/pulse/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a bus with a relay that runs, and its health.
type world struct {
	*Health
	store  *memstore.Store
	bus    *pulse.Bus
	broker *membroker.Broker
}

// start runs fn in a world where the relay runs, if it is told to, and the health is watched.
func start(t *testing.T, running bool, fn func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{store: memstore.New(nil), broker: membroker.New(nil)}
		w.Health = New(w.store, "nats")
		var err error
		if w.bus, err = pulse.New(w.store, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.bus.Publish("nats", w.broker.Publisher("nats")); err != nil {
			t.Fatal(err)
		}
		other := pulse.OnDelivery(">", func(context.Context, *pulse.Delivery) error { return nil })
		if err := w.bus.Subscribe("other", other); err != nil { // with which Run goes on while the relay has diverged
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{}, 2)
		go func() { w.Watch(ctx); done <- struct{}{} }()
		go func() {
			if running {
				if err := w.bus.Run(ctx); err != nil {
					t.Error(err)
				}
			}
			done <- struct{}{}
		}()
		if running {
			w.Connection("nats", nil)
		}
		fn(t, w)
		stop()
		<-done
		<-done
	})
}

func (w *world) emit(t *testing.T) {
	t.Helper()
	if _, err := w.bus.Emit(t.Context(), pulse.Raw{Name: "lesson.published", Data: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
}

// expect compares the report on the relay.
func (w *world) expect(t *testing.T, when string, state State, reason string) {
	t.Helper()
	r := w.Report(t.Context())
	d := r.Destinations[0]
	ready := state == Running || state == Standby || state == Paused
	if d.State != state || d.Ready != ready || r.Ready != ready || !strings.Contains(d.Reason, reason) || (reason == "") != (d.Reason == "") {
		t.Errorf("%s: %+v, want %s because of %q", when, r, state, reason)
	}
}

func TestRunning(t *testing.T) {
	start(t, true, func(t *testing.T, w *world) {
		w.emit(t)
		time.Sleep(time.Second)
		w.expect(t, "after an event", Running, "")
		r := w.Report(t.Context())
		if d := r.Destinations[0]; !r.Store.Reachable || r.Store.Head != 1 || d.Cursor != 1 || d.Lag != 0 || d.Holder == "" || d.Name != "nats" {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Hour)
		w.expect(t, "after an hour without one", Running, "")
	})
}

// While the broker is down the relay tries now and then; between its pauses it is as broken as during them.
func TestBrokenWhileTheBrokerIsDown(t *testing.T) {
	start(t, true, func(t *testing.T, w *world) {
		w.emit(t)
		time.Sleep(time.Second)
		w.broker.SetDown(true)
		w.emit(t)
		time.Sleep(2 * time.Second)
		for range 200 {
			w.expect(t, "down", Broken, "the broker is down")
			time.Sleep(97 * time.Millisecond)
		}
		w.broker.SetDown(false)
		time.Sleep(6 * time.Second)
		w.expect(t, "back", Running, "")
	})
}

// With nothing to publish the cursor tells nothing.
func TestBrokenWithNothingToPublish(t *testing.T) {
	start(t, true, func(t *testing.T, w *world) {
		w.emit(t)
		time.Sleep(time.Second)
		w.broker.SetDown(true)
		if err := w.bus.Pause(t.Context(), pulse.RelayName("nats"), ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := w.bus.Resume(t.Context(), pulse.RelayName("nats")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for range 200 {
			w.expect(t, "down", Broken, "the broker is down")
			time.Sleep(97 * time.Millisecond)
		}
		w.broker.SetDown(false)
		time.Sleep(8 * time.Second)
		w.expect(t, "back", Running, "")
	})
}

func TestPausedByHandOrToRepublishIsReady(t *testing.T) {
	start(t, true, func(t *testing.T, w *world) {
		relay := pulse.RelayName("nats")
		if err := w.bus.Pause(t.Context(), relay, "the broker moves"); err != nil {
			t.Fatal(err)
		}
		w.emit(t)
		time.Sleep(time.Hour)
		w.expect(t, "by hand", Paused, "the broker moves")
		until := &pulse.Pause{Until: time.Now().Add(time.Minute), Reason: "republish"}
		if err := w.store.Control(t.Context(), relay, pulse.Control{Pause: until}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.expect(t, "to republish", Paused, "republish")
		if d := w.Report(t.Context()).Destinations[0]; d.PausedUntil == nil || !d.PausedUntil.Equal(until.Until) {
			t.Errorf("%+v", d)
		}
		time.Sleep(time.Minute)
		w.expect(t, "afterwards", Running, "")
	})
}

// TestDivergedIsNotReady: what stopped itself for good is not like what a person paused.
func TestDivergedIsNotReady(t *testing.T) {
	start(t, true, func(t *testing.T, w *world) {
		if err := w.bus.Pause(t.Context(), pulse.RelayName("nats"), pulse.ErrDiverged.Error()+": position 7 is not in this log"); err != nil {
			t.Fatal(err)
		}
		w.expect(t, "diverged", Diverged, "position 7")
		if r := w.Report(t.Context()); r.Ready {
			t.Errorf("%+v", r)
		}
		if err := w.bus.Resume(t.Context(), pulse.RelayName("nats")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.expect(t, "resumed", Running, "")
	})
}

func TestStuckWhenNothingMoves(t *testing.T) {
	start(t, false, func(t *testing.T, w *world) {
		w.Connection("nats", nil)
		time.Sleep(time.Hour + interval/2) // between two looks
		w.emit(t)
		time.Sleep(29 * time.Second)
		w.expect(t, "soon", Running, "")
		time.Sleep(3 * time.Second)
		w.expect(t, "later", Stuck, "nothing was published for 3")
	})
}

// asleep is a store that answers only while it is not asleep.
type asleep struct {
	Store
	now bool
}

func (a *asleep) Info(ctx context.Context) (pulse.Info, error) {
	if a.now {
		return pulse.Info{}, errors.New("asleep")
	}
	return a.Store.Info(ctx)
}

// What happened while the store did not answer is not known: an event that may be new does not wait since then.
func TestStuckNotForTheTimeWithoutTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &asleep{Store: memstore.New(nil)}
		w := &world{Health: New(store, "nats"), store: store.Store.(*memstore.Store), broker: membroker.New(nil)}
		var err error
		if w.bus, err = pulse.New(w.store, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.bus.Publish("nats", w.broker.Publisher("nats")); err != nil {
			t.Fatal(err)
		}
		w.Connection("nats", nil)
		w.expect(t, "with nothing to do", Running, "")
		store.now = true
		time.Sleep(time.Hour)
		if r := w.Report(t.Context()); r.Destinations[0].State != Unknown {
			t.Errorf("%+v", r)
		}
		store.now = false
		w.emit(t)
		w.expect(t, "with an event at once", Running, "")
		time.Sleep(29 * time.Second)
		w.expect(t, "with the event for less than 30 seconds", Running, "")
		time.Sleep(time.Second)
		w.expect(t, "with the event for 30 seconds", Stuck, "nothing was published for 30s")
	})
}

func TestConnecting(t *testing.T) {
	start(t, false, func(t *testing.T, w *world) {
		w.expect(t, "in the beginning", Connecting, "not connected yet")
		w.Connection("nats", errors.New("connection refused"))
		w.expect(t, "refused", Connecting, "connection refused")
		w.Connection("kafka", nil)
		w.expect(t, "another is connected", Connecting, "connection refused")
		if _, err := w.store.Acquire(t.Context(), pulse.Lease{Name: pulse.RelayName("nats"), Holder: "another"}, time.Minute); err != nil {
			t.Fatal(err)
		}
		w.expect(t, "another process runs it", Standby, "connection refused")
		w.emit(t)
		time.Sleep(40 * time.Second)
		w.expect(t, "another process holds it and does nothing", Stuck, "nothing was published")
	})
}

func TestAheadOfTheLog(t *testing.T) {
	state := &pulse.SubscriptionState{Head: 5, Cursor: pulse.Cursor{Position: 9}, Holder: "another"}
	r := relay{moved: time.Now()}
	if d := r.report(state, time.Now()); d.State != Stuck || d.Ready || d.Lag != -4 {
		t.Errorf("%+v", d)
	}
}

func TestBeforeTheRelayIsRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(memstore.New(nil), "nats")
		if r := h.Report(t.Context()); r.Ready || r.Destinations[0].State != Connecting {
			t.Errorf("%+v", r)
		}
	})
}

func TestWithoutDestinations(t *testing.T) {
	h := New(memstore.New(nil))
	if r := h.Report(t.Context()); !r.Ready || r.Destinations == nil {
		t.Errorf("%+v", r)
	}
}

// silent is a store that does not answer.
type silent struct{ err error }

func (s silent) Info(ctx context.Context) (pulse.Info, error) {
	if s.err != nil {
		return pulse.Info{}, s.err
	}
	<-ctx.Done()
	return pulse.Info{}, ctx.Err()
}

func (s silent) States(context.Context) ([]pulse.SubscriptionState, error) { panic("not asked") }

func TestStoreUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, store := range map[string]silent{"fails": {errors.New("disk I/O error")}, "hangs": {}} {
			begin := time.Now()
			r := New(store, "nats").Report(t.Context())
			if r.Ready || r.Store.Reachable || r.Store.Error == "" || r.Destinations[0].State != Unknown || r.Destinations[0].Ready {
				t.Errorf("%s: %+v", name, r)
			}
			if d := time.Since(begin); d > 2*time.Second {
				t.Errorf("%s: the answer took %s", name, d)
			}
		}
	})
}

func TestHTTP(t *testing.T) {
	start(t, true, func(t *testing.T, w *world) {
		time.Sleep(time.Second)
		ask := func() (int, map[string]any) {
			rec := httptest.NewRecorder()
			w.Ready().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/readyz", nil))
			var body map[string]any
			if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil || rec.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%q, %v", rec.Body, err)
			}
			return rec.Code, body
		}
		if code, body := ask(); code != 200 || body["ready"] != true {
			t.Errorf("ready: %d %v", code, body)
		}
		w.Stopping()
		if code, body := ask(); code != 503 || body["ready"] != false || body["stopping"] != true {
			t.Errorf("stopping: %d %v", code, body)
		}
		rec := httptest.NewRecorder()
		Live().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/healthz", nil))
		if rec.Code != 200 || rec.Body.String() != "ok\n" {
			t.Errorf("live: %d %q", rec.Code, rec.Body)
		}
	})
}

// TestOverTime shows one relay a sequence of states, each for a while.
func TestOverTime(t *testing.T) {
	begin := time.Now()
	at := func(d time.Duration) time.Time { return begin.Add(d) }
	type look struct {
		after  time.Duration
		state  pulse.SubscriptionState
		expect State
	}
	for name, looks := range map[string][]look{
		"a try that takes a while, with nothing to publish, ends no trouble": {
			{0, pulse.SubscriptionState{PausedUntil: at(time.Second), PauseReason: "down"}, Broken},
			{1500 * time.Millisecond, pulse.SubscriptionState{Holder: "h"}, Broken},
			{2500 * time.Millisecond, pulse.SubscriptionState{Holder: "h"}, Broken},
			{3600 * time.Millisecond, pulse.SubscriptionState{Holder: "h"}, Running},
		},
		"with something to publish only a move ends it": {
			{0, pulse.SubscriptionState{Head: 9, PausedUntil: at(time.Second), PauseReason: "down"}, Broken},
			{20 * time.Second, pulse.SubscriptionState{Head: 9, Holder: "h"}, Broken},
			{21 * time.Second, pulse.SubscriptionState{Head: 9, Holder: "h", Cursor: pulse.Cursor{Position: 1}}, Running},
		},
		"the time of a pause by hand does not count": {
			{0, pulse.SubscriptionState{Head: 9, PausedUntil: pulse.Forever}, Paused},
			{time.Hour, pulse.SubscriptionState{Head: 9, PausedUntil: pulse.Forever}, Paused},
			{time.Hour + time.Second, pulse.SubscriptionState{Head: 9, Holder: "h"}, Running},
			{time.Hour + 30*time.Second, pulse.SubscriptionState{Head: 9, Holder: "h"}, Stuck},
			{time.Hour + 31*time.Second, pulse.SubscriptionState{Head: 9, Holder: "h", Cursor: pulse.Cursor{Position: 4}}, Running},
		},
		"a pause by hand ends trouble": {
			{0, pulse.SubscriptionState{Head: 9, PausedUntil: at(time.Second), PauseReason: "down"}, Broken},
			{time.Second, pulse.SubscriptionState{Head: 9, PausedUntil: pulse.Forever}, Paused},
			{2 * time.Second, pulse.SubscriptionState{Head: 9}, Running},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := relay{moved: begin}
			for i, l := range looks {
				if d := r.report(&l.state, at(l.after)); d.State != l.expect {
					t.Errorf("look %d, after %s: %+v, want %s", i, l.after, d, l.expect)
				}
			}
		})
	}
}

// TestGuideListsStates: each state is in the guide, with whether it is ready.
func TestGuideListsStates(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	for state, ready := range map[State]string{Running: "yes", Standby: "yes", Paused: "yes", Connecting: "no", Broken: "no", Stuck: "no", Diverged: "no", Unknown: "no"} {
		if row := "\n| `" + string(state) + "` | " + ready + " |"; !strings.Contains(string(guide), row) {
			t.Errorf("docs/guide.md has no row %s", row)
		}
	}
}
