package failpoint

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/storetest"
)

// armed returns a store with points, and the store under it.
func wrapArmed(t *testing.T, list string) (Full, *memstore.Store) {
	t.Helper()
	points, err := Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	under := memstore.New(nil)
	store, err := Wrap(under, points)
	if err != nil {
		t.Fatal(err)
	}
	return store.(Full), under
}

func head(t *testing.T, store pulse.Store) pulse.Position {
	t.Helper()
	info, err := store.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.Head
}

// record makes one record as Emit would.
func record(t *testing.T, store pulse.Store) []pulse.Record {
	t.Helper()
	bus, err := pulse.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	var c collector
	if _, err := bus.In(&c).Emit(t.Context(), pulse.Raw{Name: "a.b", Data: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	return c
}

type collector []pulse.Record

func (c *collector) Append(_ context.Context, recs []pulse.Record) error {
	*c = append(*c, recs...)
	return nil
}

// TestPoints hits every point with an error and looks from outside at what has happened.
func TestPoints(t *testing.T) {
	register := func(t *testing.T, s pulse.Subscriptions) {
		t.Helper()
		if _, err := s.Register(t.Context(), pulse.Registration{Name: "mailer", Start: pulse.Beginning}); err != nil {
			t.Fatal(err)
		}
	}
	appended := func(t *testing.T, s Full) error { return s.Append(t.Context(), record(t, s)) }
	transacted := func(t *testing.T, s Full) error {
		recs := record(t, s)
		return s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error { return tx.Append(ctx, recs) })
	}
	inLog := func(t *testing.T, s *memstore.Store) bool { return head(t, s) > 0 }
	leased := func(t *testing.T, s Full) error {
		register(t, s)
		_, err := s.Acquire(t.Context(), pulse.Lease{Name: "mailer", Holder: "me"}, time.Hour)
		return err
	}
	held := func(t *testing.T, s *memstore.Store) bool {
		_, err := s.Acquire(t.Context(), pulse.Lease{Name: "mailer", Holder: "other"}, time.Hour)
		return errors.Is(err, pulse.ErrHeld)
	}
	advanced := func(t *testing.T, s Full) error {
		if err := s.Append(t.Context(), record(t, s)); err != nil {
			t.Fatal(err)
		}
		register(t, s)
		lease, err := s.Acquire(t.Context(), pulse.Lease{Name: "mailer", Holder: "me"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return s.Advance(t.Context(), lease, pulse.Progress{Cursor: pulse.Cursor{Epoch: 1, Position: 1}})
	}
	moved := func(t *testing.T, s *memstore.Store) bool {
		states, err := s.States(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return states[0].Cursor.Position == 1
	}
	for point, tc := range map[string]struct {
		do       func(*testing.T, Full) error
		happened func(*testing.T, *memstore.Store) bool
		want     bool
		kind     error // what the error is beside ErrInjected; nil when it is passed as it is
	}{
		AppendBefore:         {appended, inLog, false, pulse.ErrStore},
		AppendAfter:          {appended, inLog, true, pulse.ErrUnknown},
		TransactBefore:       {transacted, inLog, false, pulse.ErrStore},
		TransactAfterHandler: {transacted, inLog, false, nil},
		TransactAfter:        {transacted, inLog, true, pulse.ErrUnknown},
		AdvanceBefore:        {advanced, moved, false, pulse.ErrStore},
		AdvanceAfter:         {advanced, moved, true, pulse.ErrUnknown},
		LeaseBefore:          {leased, held, false, pulse.ErrStore},
		LeaseAfter:           {leased, held, true, pulse.ErrUnknown},
	} {
		t.Run(point, func(t *testing.T) {
			store, under := wrapArmed(t, point+"=error")
			err := tc.do(t, store)
			if !errors.Is(err, ErrInjected) || tc.kind != nil && !errors.Is(err, tc.kind) {
				t.Errorf("error %v", err)
			}
			if got := tc.happened(t, under); got != tc.want {
				t.Errorf("it happened: %v, want %v", got, tc.want)
			}
		})
	}
}

func TestErrorsOfTheStoreComeFirst(t *testing.T) {
	store, _ := wrapArmed(t, "transact.afterHandler=panic,transact.after=panic,append.after=panic")
	own := errors.New("own")
	if err := store.Transact(t.Context(), func(context.Context, pulse.Tx) error { return own }); err != own {
		t.Errorf("error %v", err)
	}
	recs := record(t, store)
	recs[0].Origin = "another"
	if err := store.Append(t.Context(), recs); !errors.Is(err, pulse.ErrInvalid) {
		t.Errorf("error %v", err)
	}
}

// minimal is a store without abilities.
type minimal struct{ pulse.Store }

// indexed is a full store with an index.
type indexed struct {
	*memstore.Store
	pulse.Indexer
}

func TestWrapKeepsAbilities(t *testing.T) {
	if _, err := Wrap(minimal{memstore.New(nil)}, nil); !errors.Is(err, pulse.ErrInvalid) {
		t.Errorf("a store without abilities: error %v", err)
	}
	for name, tc := range map[string]struct {
		store pulse.Store
		want  bool
	}{
		"without an index": {memstore.New(nil), false},
		"with an index":    {indexed{Store: memstore.New(nil)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := Wrap(tc.store, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := w.(pulse.Indexer); ok != tc.want {
				t.Errorf("it is an Indexer: %v, want %v", ok, tc.want)
			}
			if _, ok := w.(Full); !ok {
				t.Error("abilities were lost")
			}
		})
	}
}

// TestConformance: a store with points, none of which acts, is a store as good as before.
func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Options{Open: func(t testing.TB) pulse.Store {
		points, err := Parse("append.before=kill@1000000,advance.after=kill@1000000")
		if err != nil {
			t.Fatal(err)
		}
		store, err := Wrap(memstore.New(nil), points)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}})
}
