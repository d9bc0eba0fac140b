package pgstore_test

import (
	"sync"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
	"github.com/edupulse-live/pulse/storetest"
)

func TestConformance(t *testing.T) {
	var dsns sync.Map // *pgstore.Store -> DSN
	open := func(t testing.TB, dsn string) pulse.Store {
		t.Helper()
		s := openStore(t, dsn)
		dsns.Store(s, dsn)
		return s
	}
	storetest.Run(t, storetest.Options{
		Open: func(t testing.TB) pulse.Store { return open(t, newDatabase(t)) },
		Reopen: func(t testing.TB, store pulse.Store) pulse.Store {
			dsn, _ := dsns.Load(store)
			if err := store.(*pgstore.Store).Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, dsn.(string))
		},
	})
}
