package pgstore_test

import (
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/edupulse-live/pulse/internal/pgtest"
)

// patience is how long a test waits for what must happen.
const patience = pgtest.Patience

// shared is the server of all tests that do no harm to it.
var shared pgtest.Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Main(m)) }

// newDatabase creates a database that goes when the test ends, and returns its DSN. Below TestBehindAPooler it is one through the pooler.
func newDatabase(t testing.TB) string {
	t.Helper()
	dsn := shared.Database(t)
	if through, ok := poolers.Load(strings.SplitN(t.Name(), "/", 2)[0]); ok {
		return through.(func(string) string)(dsn)
	}
	return dsn
}

// poolers are those that tests go through: name of the test -> func(dsn string) string
var poolers sync.Map

// What an application does works through pgbouncer in transaction mode, where each transaction may be on another connection of the server.
func TestBehindAPooler(t *testing.T) {
	server, err := shared.DSN()
	if err != nil {
		t.Fatal(err)
	}
	poolers.Store(t.Name(), pgtest.Bouncer(t, server))
	defer poolers.Delete(t.Name())
	for _, c := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"Conformance", conformance},
		{"Sequencer", func(t *testing.T) { sequence(t, 6, 30) }},
		{"LongTransaction", TestALongTransactionHoldsNobodyUp},
		{"OpenedByManyAtOnce", TestOpenedByManyAtOnce},
		{"Units", TestUnitsStayTogether},
		{"Tx", TestTxCommitsAndRollsBack},
		{"Queue", TestQueue},
		{"Do", TestDo},
		{"OnTx", TestOnTx},
		{"ProgressAndInbox", TestProgressAndInboxAreBounded},
	} {
		if testing.Short() && c.name == "Conformance" {
			continue
		}
		t.Run(c.name, c.test)
	}
}
