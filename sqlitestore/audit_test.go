package sqlitestore

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// audited is a store with events that were emitted through a bus.
func audited(t *testing.T, events int) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.db")
	s, err := Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	bus, err := pulse.New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		ev := pulse.Raw{Name: "lesson.published", Key: fmt.Sprint("lesson-", i), Data: []byte(`{"title":"Fractions"}`)}
		if _, err := bus.Emit(t.Context(), ev, pulse.By(uuid.New())); err != nil {
			t.Fatal(err)
		}
	}
	return s, path
}

func TestRecordsVerify(t *testing.T) {
	s, path := audited(t, 25)
	seen := pulse.Position(0)
	for {
		recs, err := s.Records(t.Context(), seen, 10)
		if err != nil {
			t.Fatal(err)
		}
		for i := range recs {
			if err := recs[i].Verify(); err != nil || recs[i].Position != seen+1 {
				t.Errorf("after %d: position %d, %v", seen, recs[i].Position, err)
			}
			seen = recs[i].Position
		}
		if len(recs) == 0 {
			break
		}
	}
	if seen != 25 {
		t.Errorf("%d records of 25", seen)
	}
	forge(t, path, "UPDATE events SET data = replace(data, 'Fractions', 'Frictions') WHERE position = 7")
	recs, err := s.Records(t.Context(), 6, 1)
	if err != nil || len(recs) != 1 {
		t.Fatal(recs, err)
	}
	if err := recs[0].Verify(); !errors.Is(err, pulse.ErrTampered) {
		t.Errorf("a forged payload: %v", err)
	}
}

// TestRecordsBehindPurged: events that are marked as purged are left out, however many there are in a row.
func TestRecordsBehindPurged(t *testing.T) {
	s, path := audited(t, 25)
	forge(t, path, "UPDATE events SET purged_by = randomblob(16), data = NULL, fact_salt = NULL WHERE position BETWEEN 3 AND 22")
	var got []pulse.Position
	for after := pulse.Position(0); ; after = got[len(got)-1] {
		recs, err := s.Records(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) == 0 {
			break
		}
		for i := range recs {
			got = append(got, recs[i].Position)
		}
	}
	if want := []pulse.Position{1, 2, 23, 24, 25}; !slices.Equal(got, want) {
		t.Errorf("the records at %v, want %v", got, want)
	}
}

// forge changes the file as somebody would who does not mind its triggers.
func forge(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{"DROP TRIGGER events_frozen", statement} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckIntegrity(t *testing.T) {
	s, path := audited(t, 500)
	if err := s.CheckIntegrity(t.Context()); err != nil {
		t.Errorf("a sound file: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckIntegrity(t.Context()); !errors.Is(err, pulse.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
	damage(t, path)
	s, err := Open(t.Context(), path, nil)
	if err == nil {
		defer s.Close()
		err = s.CheckIntegrity(t.Context())
	}
	if !errors.Is(err, pulse.ErrStore) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestCheckIntegrityOfAnIndex: one byte of the id of an event is another one, in its row or in the index by which a repeated id is known.
func TestCheckIntegrityOfAnIndex(t *testing.T) {
	s, path := audited(t, 500)
	recs, err := s.Records(t.Context(), 249, 1)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	id := recs[0].ID[:]
	if n := bytes.Count(text, id); n != 2 {
		t.Fatalf("the id is there %d times, want 2", n)
	}
	for _, at := range []int{bytes.Index(text, id), bytes.LastIndex(text, id)} {
		text[at+15] ^= 1
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		text[at+15] ^= 1
		s, err := Open(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CheckIntegrity(t.Context()); !errors.Is(err, pulse.ErrStore) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("changed at byte %d: %v", at, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// damage overwrites part of the file, from its middle on.
func damage(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(text) / 2; i < len(text)*3/4; i++ {
		text[i] ^= 0x5a
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRepeatedUnits: many events that are there already, also large ones, are compared each with its own.
func TestRepeatedUnits(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "repeat.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bus, err := pulse.New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	large := `"` + strings.Repeat("x", 500<<10) + `"`
	ids := make([]uuid.UUID, 20)
	emit := func(i int, data string) error {
		_, err := bus.Emit(t.Context(), pulse.Raw{Name: "some.event", Data: []byte(data)}, pulse.ID(ids[i]))
		return err
	}
	for i := range ids {
		ids[i] = uuid.New()
		if err := emit(i, large); err != nil {
			t.Fatal(err)
		}
	}
	recs, err := s.Records(t.Context(), 0, 5)
	for after := pulse.Position(len(recs)); err == nil && len(recs) < len(ids); after = pulse.Position(len(recs)) {
		var more []pulse.Record
		more, err = s.Records(t.Context(), after, 5)
		recs = append(recs, more...)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), recs); err != nil {
		t.Errorf("the same again: %v", err)
	}
	recs[17].Data = []byte(`"other"`)
	var conflict *pulse.ConflictError
	if err := s.Append(t.Context(), recs); !errors.As(err, &conflict) || conflict.ID != ids[17] || conflict.Position != 18 {
		t.Errorf("with one that differs: %v", err)
	}
	if info, err := s.Info(t.Context()); err != nil || info.Head != 20 {
		t.Errorf("head %d, %v", info.Head, err)
	}
}
