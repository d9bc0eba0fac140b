package sqlitestore_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/edupulse-live/pulse"
)

// A file whose inbox has an entry for each delivery is migrated, and remembers what was handled.
func TestMigratesTheInbox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := openStore(t, path)
	subscribed(t, s, "mailer", "host/1/a")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db := openRaw(t, path, "")
	for _, statement := range []string{
		"DROP TABLE inbox",
		"CREATE TABLE inbox (subscription TEXT NOT NULL, generation INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (subscription, generation, position)) STRICT, WITHOUT ROWID",
		"INSERT INTO inbox SELECT name, generation, 7 FROM subscriptions UNION ALL SELECT name, generation, 9 FROM subscriptions",
		"UPDATE leases SET held = 0",
		"PRAGMA user_version = 1",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	lease := subscribed(t, s, "mailer", "host/2/b")
	if got := mark(t, s, lease, 6, 7, 8, 9, 10); !slices.Equal(got, []pulse.Position{7, 9}) {
		t.Errorf("of 6 to 10 were seen %v, want 7 and 9", got)
	}
}

// Entries are runs: what lies between, before and behind them was not handled.
func TestInboxRuns(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "log.db"))
	lease := subscribed(t, s, "mailer", "host/1/a")
	for _, step := range []struct{ positions, seen []pulse.Position }{
		{[]pulse.Position{12, 10, 11, 20, 22}, nil},
		{[]pulse.Position{12}, []pulse.Position{12}},
		{[]pulse.Position{9, 10, 12, 13}, []pulse.Position{10, 12}},
		{[]pulse.Position{13, 14, 19, 20, 21, 22, 23}, []pulse.Position{13, 20, 22}},
		{[]pulse.Position{5, 24}, nil},
		{[]pulse.Position{4, 5, 6, 7, 8, 9}, []pulse.Position{5, 9}},
		{[]pulse.Position{30, 30}, []pulse.Position{30}},
	} {
		if got := mark(t, s, lease, step.positions...); !slices.Equal(got, step.seen) {
			t.Errorf("of %d were seen %d, want %d", step.positions, got, step.seen)
		}
	}
	// A run that the cursor has not passed as a whole stays.
	if err := s.Advance(t.Context(), lease, pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: 11}}); err != nil {
		t.Fatal(err)
	}
	if got := mark(t, s, lease, 12, 15); !slices.Equal(got, []pulse.Position{12}) {
		t.Errorf("of 12 and 15 were seen %d, want 12", got)
	}
}
