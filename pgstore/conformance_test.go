package pgstore_test

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
	"github.com/edupulse-live/pulse/storetest"
)

// The store works as the role of an application does. Each case has a schema of its own, which is quicker to make than a database.
func TestConformance(t *testing.T) {
	conformance(t)
}

func conformance(t *testing.T) {
	dsn := newDatabase(t)
	role := newRole(t, dsn)
	var count atomic.Int64
	var schemas sync.Map // *pgstore.Store -> pgstore.Schema
	open := func(t testing.TB, schema pgstore.Schema) pulse.Store {
		t.Helper()
		s := openWith(t, onRole(dsn, role), &pgstore.Options{Schema: schema})
		schemas.Store(s, schema)
		return s
	}
	storetest.Run(t, storetest.Options{
		Open: func(t testing.TB) pulse.Store {
			schema := pgstore.Schema(fmt.Sprintf("case_%d", count.Add(1)))
			grant(t, dsn, schema, role)
			return open(t, schema)
		},
		Reopen: func(t testing.TB, store pulse.Store) pulse.Store {
			schema, _ := schemas.Load(store)
			if err := store.(*pgstore.Store).Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, schema.(pgstore.Schema))
		},
	})
}

// newRole makes a role that may connect and nothing else.
func newRole(t testing.TB, dsn string) string {
	t.Helper()
	role := fmt.Sprintf("app_%d_%d", os.Getpid(), roles.Add(1))
	pgtest.Exec(t, dsn, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		pgtest.Exec(t, dsn, "DROP OWNED BY "+role)
		pgtest.Exec(t, dsn, "DROP ROLE "+role)
	})
	return role
}

var roles atomic.Int64

// grant makes the tables of a log, and lets a role work with them, on a server where nobody may call functions unless it is said.
func grant(t testing.TB, dsn string, schema pgstore.Schema, role string) {
	t.Helper()
	opts := &pgstore.Options{Schema: schema}
	if _, err := pgstore.Migrate(t.Context(), dsn, opts); err != nil {
		t.Fatal(err)
	}
	grants, err := pgstore.Grants(schema, role)
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, dsn, fmt.Sprintf("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA %q FROM PUBLIC; ", schema)+grants)
}
