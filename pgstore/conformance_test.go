package pgstore_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pgstore"
	"github.com/edupulse-live/pulse/storetest"
)

// Each case has a schema of its own, which is quicker to make than a database.
func TestConformance(t *testing.T) {
	dsn := newDatabase(t)
	var count atomic.Int64
	var schemas sync.Map // *pgstore.Store -> pgstore.Schema
	open := func(t testing.TB, schema pgstore.Schema) pulse.Store {
		t.Helper()
		s := openWith(t, dsn, &pgstore.Options{Schema: schema})
		schemas.Store(s, schema)
		return s
	}
	storetest.Run(t, storetest.Options{
		Open: func(t testing.TB) pulse.Store { return open(t, pgstore.Schema(fmt.Sprintf("case_%d", count.Add(1)))) },
		Reopen: func(t testing.TB, store pulse.Store) pulse.Store {
			schema, _ := schemas.Load(store)
			if err := store.(*pgstore.Store).Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, schema.(pgstore.Schema))
		},
	})
}
