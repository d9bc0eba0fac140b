package natsbroker_test

import (
	"log/slog"
	"testing"

	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/natsbroker"
)

// embed runs a server for a test.
func embed(t testing.TB, dir string, o natsbroker.Options) *natsbroker.Broker {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b, err := natsbroker.Embed(t.Context(), dir, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func TestConformanceEmbedded(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, brokertest.Options{
		Keeps: true,
		Open: func(t testing.TB) brokertest.Broker {
			b := embed(t, t.TempDir(), natsbroker.Options{})
			return brokertest.Broker{Publisher: b.Publisher(), Source: b.Source()}
		},
	})
}
