package membroker_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/membroker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	for name, opts := range map[string]membroker.Options{
		"large batches": {MaxBytes: 1 << 20},
		"small batches": {MaxBatch: 10, MaxBytes: 1 << 20},
		"one by one":    {MaxBatch: 1, MaxBytes: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, brokertest.Options{
				Keeps: true,
				Quiet: 10 * time.Millisecond,
				Open: func(testing.TB) brokertest.Broker {
					b := membroker.New(&opts)
					return brokertest.Broker{Publisher: b.Publisher("school"), Source: b.Source("school")}
				},
			})
		})
	}
}
