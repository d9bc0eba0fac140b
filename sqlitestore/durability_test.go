package sqlitestore

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/storetest"
)

// What must survive the machine waits for the disk, in every order of calls; what only costs a redelivery does not.
func TestSynchronous(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, filepath.Join(t.TempDir(), "log.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Register(ctx, pulse.Registration{Name: "mailer", Start: pulse.Beginning}); err != nil {
		t.Fatal(err)
	}
	lease, err := s.Acquire(ctx, pulse.Lease{Name: "mailer", Holder: "a"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	calls := []struct {
		name string
		want synchronous
		call func() error
	}{
		{"Append", full, func() error { return s.Append(ctx, []pulse.Record{storetest.Record(s.origin)}) }},
		{"Transact", full, func() error { return s.Transact(ctx, func(context.Context, pulse.Tx) error { return nil }) }},
		{"Register", full, func() error {
			_, err := s.Register(ctx, pulse.Registration{Name: "search", Start: pulse.Now})
			return err
		}},
		{"Control", full, func() error { return s.Control(ctx, "mailer", pulse.Control{Resume: true}) }},
		{"Settle", full, func() error { _, err := s.Settle(ctx, pulse.DeliveryQuery{}, pulse.SettleRetry); return err }},
		{"Advance", normal, func() error { return s.Advance(ctx, lease, pulse.Progress{}) }},
		{"Acquire again", normal, func() error { _, err := s.Acquire(ctx, lease, time.Minute); return err }},
		{"Index", normal, func() error { _, err := s.Index(ctx, 0); return err }},
	}
	for _, first := range calls {
		for _, second := range calls {
			for _, c := range []func() error{first.call, second.call} {
				if err := c(); err != nil {
					t.Fatal(err)
				}
			}
			var level synchronous
			if err := s.writer.QueryRow("PRAGMA synchronous").Scan(&level); err != nil {
				t.Fatal(err)
			}
			if level != second.want {
				t.Errorf("%s after %s commits with synchronous=%d, want %d", second.name, first.name, level, second.want)
			}
		}
	}
}

// Every connection waits for other processes, knows WAL mode and cannot do what it should not.
func TestConnections(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "log.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for pragma, want := range map[string][2]string{
		"journal_mode":       {"wal", "wal"},
		"query_only":         {"0", "1"},
		"busy_timeout":       {"0", "10000"},
		"wal_autocheckpoint": {"4000", "4000"},
		"journal_size_limit": {"67108864", "67108864"},
		"application_id":     {"1349872755", "1349872755"},
		"user_version":       {"2", "2"},
	} {
		var got [2]string
		if err := s.writer.QueryRow("PRAGMA " + pragma).Scan(&got[0]); err != nil {
			t.Fatal(err)
		}
		if err := s.readers.QueryRow("PRAGMA " + pragma).Scan(&got[1]); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s of writer and reader is %v, want %v", pragma, got, want)
		}
	}
	if _, err := s.readers.Exec("DELETE FROM settings"); err == nil {
		t.Error("a reader could write")
	}
}
