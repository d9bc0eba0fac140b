package app

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/membroker"
)

// TestDoctorDestinations shows the doctor a relay with a refused event that is paused, and readers of destinations.
func TestDoctorDestinations(t *testing.T) {
	cfg := Config{Store: StoreSpec{KindSQLite, filepath.Join(t.TempDir(), "school.db")}, Source: "/"}
	opts := OpenOptions{Create: true, Logger: slog.New(slog.DiscardHandler)}
	a, err := Open(t.Context(), cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(context.Context, string, *pulse.Envelope) membroker.Fault { return membroker.Refuse }
	broker := membroker.New(&membroker.Options{Hook: refuse})
	handle := pulse.OnDelivery("lesson.>", func(context.Context, *pulse.Delivery) error { return nil })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(a.Bus.Publish("nats", broker.Publisher("nats")))
	_, err = a.Bus.Emit(t.Context(), pulse.Raw{Name: "lesson.published", Key: "l1", Data: []byte(`{}`)})
	must(err)
	must(a.Bus.Drain(t.Context()))
	must(a.Bus.Pause(t.Context(), pulse.RelayName("nats"), "the broker moves"))
	must(a.Bus.Subscribe("index", pulse.From("nats", broker.Source("nats")), handle))
	must(a.Bus.Subscribe("mailer", pulse.From("kafka", broker.Source("kafka")), handle))
	must(a.Close())

	var got []string
	must(Doctor(t.Context(), cfg, opts, func(f Finding) error {
		if strings.HasPrefix(f.Check, "destination") || strings.HasPrefix(f.Check, "subscription") {
			got = append(got, string(f.Verdict)+" "+f.Check+": "+f.Detail)
		}
		return nil
	}))
	want := []string{
		"ok subscription index: 0 events behind",
		"ok subscription mailer: 0 events behind",
		"warn subscription mailer: it reads from the destination kafka, to which nothing is published: run pulse serve, or Publish in an application",
		"warn destination nats: paused (the broker moves): pulse subscription resume relay/nats",
		"warn destination nats: 1 key held up, 0 waiting behind",
		"warn destination nats: the broker refused 1 event: pulse dead list relay/nats",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
