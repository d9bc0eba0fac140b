package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/edupulse-live/pulse/sqlitestore"
)

// Variables that make the test binary play a year and exit.
const (
	childDataset = "DEMO_TEST_DATASET"
	childData    = "DEMO_TEST_DATA"
	childBroker  = "DEMO_TEST_BROKER" // anything for one, empty for none
	childDSN     = "DEMO_TEST_DSN"    // of a database in PostgreSQL, empty for SQLite
)

func TestMain(m *testing.M) {
	if dataset := os.Getenv(childDataset); dataset != "" {
		os.Exit(playAsChild(dataset, os.Getenv(childData), brokerOf(os.Getenv(childBroker) != "")))
	}
	goleak.VerifyTestMain(postgres.Main(m))
}

func playAsChild(dataset, data string, broker BrokerOpener) int {
	open, schema := Opener(openSQLite), ""
	if dsn := os.Getenv(childDSN); dsn != "" {
		open, schema = openPostgres(dsn), yearSchema
	}
	report, err := Year(context.Background(), YearOptions{
		Dataset: dataset, Data: data, Open: open, Schema: schema, Broker: broker, Emitters: 16,
		Progress: func(p Progress) { fmt.Fprintln(os.Stderr, p.Emitted, p.Handled) },
	})
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func openSQLite(ctx context.Context, path string) (Store, error) {
	return sqlitestore.Open(ctx, path, nil)
}
