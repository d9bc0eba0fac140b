//go:build kafka

package cli

import (
	"path/filepath"
	"regexp"
	"strings"
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

// A cluster is measured, its URL being as elsewhere.
func TestBenchKafka(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	env, stdout, stderr := testEnvironment("")
	args := []string{"bench", "--store", "sqlite:" + filepath.Join(t.TempDir(), "bench.db"), "--broker", "kafka://" + c.ListenAddrs()[0], "--rounds", "1", "--time", "50ms", "--backlog", "1500"}
	if code := run(t.Context(), args, env); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if !regexp.MustCompile(`(?m)^relay +the Kafka client alone, with such messages +[1-9][0-9]*/s$`).MatchString(stdout.String()) || !strings.Contains(stdout.String(), "\nbroker ") {
		t.Errorf("the table:\n%s", stdout)
	}
}
