package rabbitbroker_test

import (
	"testing"
	"time"

	"github.com/edupulse-live/pulse/internal/brokerworld"
	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// The connections are cut at random times, fifty times and more, while events are emitted: each is handled once, and those of a lesson in
// order; another program's queue has them all, and for the first time in order too.
func TestConnectionIsCut(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: takes some seconds")
	}
	t.Parallel()
	srv := shared.Server(t)
	n, exchange := newNetwork(t, srv.Address()), shared.Name()
	b := connect(t, srv.URLFor(rabbittest.User, rabbittest.Password, n.Addr().String(), "/"), rabbitbroker.Options{Exchange: exchange})
	ch := client(t, srv.URL())
	foreign := queue(t, ch, exchange, "lesson.#", nil)
	w := newWorld(t, b)
	w.Begin(t, often)
	w.AwaitHandled(t, 200)
	const cuts = 50
	connections := 0
	for range cuts {
		w.AwaitPublished(t, 1)
		randomly(50 * time.Millisecond)
		eventually(t, "a connection to cut", func() bool {
			cut := n.cut()
			connections += cut
			return cut > 0
		})
	}
	w.AwaitHandled(t, 200)
	w.AllNoted(t, 100)
	again := w.AllStored(t, bodies(t, ch, foreign))
	t.Logf("%d changes of each lesson, %d connections cut in %d cuts, %d messages came twice", w.Emitted(), connections, cuts, again)
}

// A server is stopped, and killed, and comes back, while events are emitted: none is lost, here and in another program's queue. Then it
// comes back without its data: the log gives each event to the subscription that was lost, and its effect happens once.
func TestServerComesBackUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: starts a server some times")
	}
	t.Parallel()
	srv := rabbittest.New(t)
	b := connect(t, srv.URL(), rabbitbroker.Options{Exchange: "pulse"})
	foreign := queue(t, client(t, srv.URL()), "pulse", "#", nil)
	w := newWorld(t, b)
	back := func(end ...func() error) {
		t.Helper()
		w.AwaitHandled(t, 300)
		for _, step := range append(end, srv.Restart) {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		w.AwaitHandled(t, 300)
	}
	w.Begin(t, often)
	back(srv.Stop)
	back(srv.Kill)
	w.AllNoted(t, 100)
	again := w.AllStored(t, bodies(t, client(t, srv.URL()), foreign))
	t.Logf("%d changes of each lesson, %d messages came twice", w.Emitted(), again)

	w.Begin(t, often)
	back(srv.Kill, srv.Wipe)
	w.AllNoted(t, 100)
	t.Logf("%d changes of each lesson in the end", w.Emitted())
	state, err := rabbitbroker.Inspect(t.Context(), srv.URL(), []string{brokerworld.Subscription}, nil)
	if err != nil || !state.Exists || !state.Queues[0].Exists || state.Queues[0].Consumers != 1 {
		t.Errorf("the server has %+v, %v", state, err)
	}
}
