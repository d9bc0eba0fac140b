//go:build kafka

package cli

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// The year goes through a Kafka cluster and back.
func TestDemoYearThroughKafka(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	yearAsJSON(t, 10, "--broker", "kafka://"+c.ListenAddrs()[0])
}
