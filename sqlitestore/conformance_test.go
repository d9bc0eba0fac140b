package sqlitestore_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/sqlitestore"
	"github.com/edupulse-live/pulse/storetest"
)

func TestConformance(t *testing.T) {
	var paths sync.Map // *sqlitestore.Store -> path
	open := func(t testing.TB, path string) pulse.Store {
		t.Helper()
		s, err := sqlitestore.Open(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		paths.Store(s, path)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	storetest.Run(t, storetest.Options{
		Open: func(t testing.TB) pulse.Store { return open(t, filepath.Join(t.TempDir(), "log.db")) },
		Reopen: func(t testing.TB, store pulse.Store) pulse.Store {
			path, _ := paths.Load(store)
			if err := store.(*sqlitestore.Store).Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, path.(string))
		},
	})
}
