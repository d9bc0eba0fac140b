package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// TestHungTransactionLetsOthersWrite: a function given to Transact that does not return keeps other writers out only until its
// context ends; nothing it wrote, or writes later, is stored.
func TestHungTransactionLetsOthersWrite(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "hung.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bus, err := pulse.New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	event := func(name string) pulse.Raw { return pulse.Raw{Name: name, Data: []byte(`{}`)} }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- s.Transact(ctx, func(_ context.Context, tx pulse.Tx) error {
			if _, err := bus.In(tx).Emit(t.Context(), event("from.within")); err != nil {
				t.Error(err)
			}
			close(begun)
			<-release
			if _, err := bus.In(tx).Emit(t.Context(), event("too.late")); !errors.Is(err, pulse.ErrClosed) {
				t.Errorf("emitting in a transaction that was given up: %v", err)
			}
			if _, err := tx.Unwrap().(*sql.Tx).Exec("CREATE TABLE own (x)"); !errors.Is(err, sql.ErrTxDone) {
				t.Errorf("writing in a transaction that was given up: %v", err)
			}
			return nil
		})
	}()
	<-begun
	if _, err := bus.Emit(t.Context(), event("from.others")); err != nil {
		t.Errorf("emitting beside it: %v", err)
	}
	close(release)
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, pulse.ErrUnknown) {
		t.Errorf("the hung transaction ended with %v", err)
	}
	page, err := s.Read(t.Context(), pulse.Query{})
	if err != nil || len(page.Envelopes) != 1 || page.Envelopes[0].Name != "from.others" {
		t.Errorf("stored %+v, %v", page.Envelopes, err)
	}
}
