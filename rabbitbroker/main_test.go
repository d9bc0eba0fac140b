package rabbitbroker_test

import (
	"flag"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/rabbitbroker"
)

// shared is the server of all tests that do no harm to it.
var shared rabbittest.Shared

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait far more than they compute
		panic(err)
	}
	goleak.VerifyTestMain(shared.Main(m))
}

// connect connects to a server for a test, to an exchange of its own unless it names one.
func connect(t testing.TB, url string, o rabbitbroker.Options) *rabbitbroker.Broker {
	t.Helper()
	if o.Exchange == "" {
		o.Exchange = shared.Name()
	}
	if o.Log == nil {
		o.Log = quiet
	}
	b, err := rabbitbroker.Connect(t.Context(), url, &o)
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

func TestConformance(t *testing.T) {
	t.Parallel()
	url := shared.Server(t).URL()
	brokertest.Run(t, brokertest.Options{
		Open: func(t testing.TB) brokertest.Broker {
			b := connect(t, url, rabbitbroker.Options{MaxBytes: 1 << 20})
			return brokertest.Broker{Publisher: b.Publisher(), Source: b.Source()}
		},
	})
}
