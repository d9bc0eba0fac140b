package kafkabroker_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/edupulse-live/pulse/brokertest"
	"github.com/edupulse-live/pulse/kafkabroker"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, brokertest.Options{
		Keeps: true,
		Open: func(t testing.TB) brokertest.Broker {
			b := connect(t, addresses(cluster(t)), kafkabroker.Options{})
			return brokertest.Broker{Publisher: publisher(t, b), Source: b.Source()}
		},
	})
}

// The same over a cluster of three that keeps what it has in files.
func TestConformanceOfACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("not applicable: the same again, with more servers")
	}
	t.Parallel()
	brokertest.Run(t, brokertest.Options{
		Keeps: true,
		Open: func(t testing.TB) brokertest.Broker {
			c := cluster(t, kfake.NumBrokers(3), kfake.DataDir(t.TempDir()))
			b := connect(t, addresses(c), kafkabroker.Options{Replicas: 3})
			return brokertest.Broker{Publisher: publisher(t, b), Source: b.Source()}
		},
	})
}
