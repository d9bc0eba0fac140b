package pgstore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/edupulse-live/pulse/internal/pgtest"
)

// patience is how long a test waits for what must happen.
const patience = pgtest.Patience

// shared is the server of all tests that do no harm to it.
var shared pgtest.Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Main(m)) }

// newDatabase creates a database that goes when the test ends, and returns its DSN.
func newDatabase(t testing.TB) string {
	t.Helper()
	return shared.Database(t)
}
