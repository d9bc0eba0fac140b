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
)

func TestMain(m *testing.M) {
	if dataset := os.Getenv(childDataset); dataset != "" {
		os.Exit(playAsChild(dataset, os.Getenv(childData)))
	}
	goleak.VerifyTestMain(m)
}

func playAsChild(dataset, data string) int {
	report, err := Year(context.Background(), YearOptions{
		Dataset: dataset, Data: data, Open: openSQLite, Emitters: 16,
		Progress: func(emitted, handled, _ int) { fmt.Fprintln(os.Stderr, emitted, handled) },
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
